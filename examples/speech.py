"""DistBelief's speech network, on generated frames.

    dbgraph compile examples/speech.py --partitions 8 -o speech.plan
    dbgraph train examples/speech.py --steps 5 --partitions 2

Dean et al., "Large Scale Distributed Deep Networks" (NIPS 2012), section 5: a window of 11
consecutive frames of speech, each of 40 log-energy values, goes through four layers of 2,560
sigmoid units to a softmax over 8,192 states. With its biases that is 41,777,152 parameters.

The paper trained on recordings that are not public. `data` makes frames up instead: a sequence
of states, each of which has three formants (peaks of the spectrum) of its own and lasts a few
frames. Every machine makes the same sequence for itself, and cuts its windows out of it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.ir.region import Region

FRAMES, BANDS = 11, 40
HIDDEN = (2560, 2560, 2560, 2560)
STATES = 8192
PARAMETERS = 41_777_152
BATCH = 128  # enough that the matrix products, not the reading of 167 MB of weights, take the time


def network(batch: int = BATCH) -> dbg.Network:
    with dbg.Network("speech", batch=batch) as net:
        h = dbg.input("frames", (FRAMES * BANDS,))
        state = dbg.input("state", (), dtype="int32")
        for k, units in enumerate(HIDDEN, 1):
            h = L.Dense(units, activation="sigmoid", name=f"hidden{k}")(h)
        scores = L.Dense(STATES, name="softmax")(h)
        dbg.loss(L.SoftmaxCrossEntropy(name="cross_entropy")(scores, state))
        dbg.output("state", L.ArgMax(name="likeliest")(scores))
    count = sum(p.type.size for p in net.parameters.values())
    assert count == PARAMETERS, f"the paper has {PARAMETERS:,} parameters, this {count:,}"
    return net


class Frames:
    """Windows of one long sequence of frames; example i is centred on its frame i.

    Args:
        length: number of examples.
        seed: of the sequence; the states' formants are the same for every seed.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.state = _states(length + FRAMES - 1, seed)
        self.energy = _energies(self.state, seed)
        self.length = length

    def __len__(self) -> int:
        return self.length

    def inputs(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        return {"frames": ((FRAMES * BANDS,), "float32"), "state": ((), "int32")}

    def read(self, name: str, examples: np.ndarray, region: Region) -> np.ndarray:
        if name == "state":
            return np.take(self.state, examples + FRAMES // 2)
        columns = np.arange(*region.bounds[0])
        return np.take(self.energy.reshape(-1), examples[:, None] * BANDS + columns)


def _states(length: int, seed: int) -> np.ndarray:
    """int32[length]: each state lasts 3 to 12 frames; as in speech, some are far more common."""
    random = np.random.default_rng((seed, 0))
    lasts = random.integers(3, 13, length)
    state = np.minimum(random.pareto(1.0, length) * 20, STATES - 1).astype(np.int32)
    return np.repeat(state, lasts)[:length]


def _energies(state: np.ndarray, seed: int) -> np.ndarray:
    """float32[frames, BANDS]: three formants over the bands, smoothed in time, and noise."""
    centres = np.sort(np.random.default_rng(0).uniform(0, BANDS, (STATES, 3)), axis=1)
    band = np.arange(BANDS)
    energy = sum(np.exp(-(((band - centres[state, k, None]) / 2) ** 2) / 2) for k in range(3))
    energy = np.asarray(energy, np.float32)
    energy[1:] = 0.7 * energy[1:] + 0.3 * energy[:-1]  # one sound runs into the next
    noise = np.random.default_rng((seed, 1)).normal(0, 0.1, energy.shape)
    return np.asarray(energy - energy.mean() + noise, np.float32)


def train_frames() -> Frames:
    return Frames(32_768, seed=1)


def test_frames() -> Frames:
    return Frames(2_048, seed=2)


def data() -> dbg.Data:
    """The functions travel, not the frames: each machine calls them for itself."""
    return dbg.Data(train=train_frames, test=test_frames)


if __name__ == "__main__":
    network().summary()
