"""Handwritten digits: real images of 8×8 pixels, from scikit-learn.

    dbgraph train examples/digits.py --partitions 4 --backend zmq
    dbgraph train examples/digits.py --algorithm downpour --replicas 4 --shards 2
    dbgraph train examples/digits.py --algorithm sync --replicas 2 --shards 2
    dbgraph train examples/digits.py:plain --algorithm sandblaster --replicas 4 --shards 2
    python examples/digits.py

Locally connected filters, L2 pooling and local contrast normalisation are the stages of
DistBelief's image networks (Dean et al. 2012), here in small.
"""

import sys

import numpy as np

import dbgraph as dbg
from dbgraph import layers as L


def network(dropout: bool = True) -> dbg.Network:
    with dbg.Network("digits", batch=128) as net:
        image = dbg.input("image", (8, 8, 1))
        label = dbg.input("label", (), dtype="int32")
        h = L.LocallyConnected2D(maps=16, patch=(3, 3), padding="same", activation="relu")(image)
        h = L.Pool2D("l2", size=(2, 2))(h)
        h = L.LocalContrastNorm(size=(3, 3))(h)
        h = L.Dropout(0.3)(h) if dropout else h
        h = L.Dense(128, activation="relu")(h)
        h = L.Dropout(0.5)(h) if dropout else h
        scores = L.Dense(10)(h)
        dbg.loss(L.SoftmaxCrossEntropy()(scores, label))
        dbg.output("class", L.ArgMax()(scores))
    return net


def plain() -> dbg.Network:
    """Without dropout: Sandblaster needs a loss that is a function of the parameters."""
    return network(dropout=False)


def data() -> dbg.Data:
    """1,797 digits; a fifth of them, chosen once and for all, is held out."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise dbg.DbgraphError(
            "the digits come with scikit-learn, which is not installed",
            hint="pip install 'dbgraph[examples]'",
        ) from error
    digits = load_digits()
    arrays = {
        "image": (digits.images[..., None] / 16).astype("float32"),  # pixels are 0 to 16
        "label": digits.target.astype("int32"),
    }
    order = np.random.default_rng(0).permutation(len(digits.target))
    held_out, rest = np.split(order, [len(order) // 5])
    return dbg.Data(
        train={name: array[rest] for name, array in arrays.items()},
        test={name: array[held_out] for name, array in arrays.items()},
    )


def main() -> None:
    trainer = dbg.Trainer(network(), data(), partitions=4, backend="zmq")
    result = trainer.train()
    print(f"held-out accuracy {result.accuracy:.2%} after {result.step} steps")


if __name__ == "__main__":
    try:
        main()
    except dbg.DbgraphError as error:
        sys.exit(f"error: {error}")
