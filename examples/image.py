"""DistBelief's image networks, of 80 million, 330 million and 1.7 billion parameters.

    dbgraph compile examples/image.py --partitions 32 -o image.plan
    dbgraph compile examples/image.py:network_80m --partitions 8 -o image80m.plan
    python examples/image.py        # the table of each, with its number of parameters

Dean et al., "Large Scale Distributed Deep Networks" (NIPS 2012), section 5: images of 100 × 100;
three stages of filters, pooling and local contrast normalisation; each filter sees a 10 × 10
patch of the layer below, with 8 to 36 filters on the same patch; 21,000 one-against-all logistic
outputs. Each position has filters of its own (locally connected), as in Le et al., "Building
high-level features using large scale unsupervised learning" (ICML 2012), and like theirs they
are linear: it is the L2 pooling after them that is not.

The paper gives neither strides nor pools nor each network's maps. Chosen here:
- filters at every position (stride 1, no padding), and as many maps in every stage: 8, 16 and
  36, the paper's range. Weights grow with the square of the maps, 1 : 4 : 20, and so do the
  paper's counts.
- L2 pools of 5 × 5 at every position, as Le et al. have them; contrast over 5 × 5.
- The last pool makes up the count. It is coarse, for each value that it leaves costs 21,000
  weights. With 8 maps, the filters of three such stages alone would be 86 M; so there the pool
  of stage 2 stands at every second position only.

| network       | maps | filter positions | last pool      | leaves    | parameters    |
|---------------|------|------------------|----------------|-----------|---------------|
| network_80m   |    8 | 91², 78², 28²    | 9 × 9, every 2 | 10² of  8 |    80,771,792 |
| network_330m  |   16 | 91², 78², 65²    | 7 × 7, every 7 |  9² of 16 |   331,193,640 |
| network_1700m |   36 | 91², 78², 65²    | 9 × 9, every 3 | 19² of 36 | 1,699,087,440 |
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.ir.region import Region

IMAGE = (100, 100, 3)
CLASSES = 21_000
PATCH = (10, 10)
PARAMETERS = {"image80m": 80_771_792, "image330m": 331_193_640, "image1700m": 1_699_087_440}
BATCH = 32


def network_80m(batch: int = BATCH) -> dbg.Network:
    return _network("image80m", batch, maps=8, pools=((5, 1), (5, 2), (9, 2)))


def network_330m(batch: int = BATCH) -> dbg.Network:
    return _network("image330m", batch, maps=16, pools=((5, 1), (5, 1), (7, 7)))


def network_1700m(batch: int = BATCH) -> dbg.Network:
    return _network("image1700m", batch, maps=36, pools=((5, 1), (5, 1), (9, 3)))


def network() -> dbg.Network:
    """The largest: what `examples/image.py` alone means."""
    return network_1700m()


def _network(name: str, batch: int, maps: int, pools: tuple[tuple[int, int], ...]) -> dbg.Network:
    """
    Args:
        pools: for each stage the width of its pool, and from one to the next.
    """
    with dbg.Network(name, batch=batch) as net:
        h = dbg.input("image", IMAGE)
        label = dbg.input("label", (), dtype="int32")
        for k, (width, stride) in enumerate(pools, 1):
            h = L.LocallyConnected2D(maps, patch=PATCH, name=f"filters{k}")(h)
            pool = L.Pool2D("l2", size=(width, width), strides=(stride, stride), name=f"pool{k}")
            h = pool(h)
            h = L.LocalContrastNorm(size=(5, 5), name=f"contrast{k}")(h)
        scores = L.Dense(CLASSES, name="scores")(h)
        dbg.loss(L.LogisticLoss(name="one_against_all")(scores, label))
        dbg.output("class", L.ArgMax(name="likeliest")(scores))
    count = sum(p.type.size for p in net.parameters.values())
    assert count == PARAMETERS[name], f"{name} has {count:,} parameters"
    return net


class Gratings:
    """Generated images: a class has a wave of its own in each colour; each image another phase.

    A pixel depends on its place and its example alone, so a machine computes just those that
    its own tiles see.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed = length, seed

    def __len__(self) -> int:
        return self.length

    def inputs(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        return {"image": (IMAGE, "float32"), "label": ((), "int32")}

    def read(self, name: str, examples: np.ndarray, region: Region) -> np.ndarray:
        label = (examples * 7919 + self.seed) % CLASSES
        if name == "label":
            return label.astype(np.int32)
        rows, cols, colours = (np.arange(low, high) for low, high in region.bounds)
        wave = np.random.default_rng(0).uniform(-0.7, 0.7, (CLASSES, 2, 1, 1, IMAGE[2]))[label]
        along, across = wave[..., colours].swapaxes(0, 1)
        phase = (examples * 0.618 % 1 * 2 * np.pi)[:, None, None, None]
        at = rows[:, None, None] * along + cols[:, None] * across
        return np.asarray(np.sin(at + phase), np.float32)


def data() -> dbg.Data:
    return dbg.Data(train=Gratings(100_000, seed=1), test=Gratings(1_000, seed=2))


if __name__ == "__main__":
    for make in (network_80m, network_330m, network_1700m):
        make().summary()
