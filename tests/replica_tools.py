"""Networks, data and runs with replicas, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.state import State
from dbgraph.train.history import Result

BATCH = 8


def network(
    batch: int = BATCH,
    dropout: float = 0.0,
    dtype: str = "float32",
    hidden: int = 8,
    activation: str = "sigmoid",
) -> dbg.Network:
    with dbg.Network("toy", batch=batch, seed=1, dtype=dtype) as net:
        x = dbg.input("x", (6,))
        y = dbg.input("y", (), dtype="int32")
        h = L.Dense(hidden, activation=activation, l2=0.01, name="hidden")(x)
        if dropout:
            h = L.Dropout(dropout, name="drop")(h)
        s = L.Dense(3, name="scores")(h)
        dbg.loss(L.SoftmaxCrossEntropy()(s, y))
        dbg.output("class", L.ArgMax()(s))
    return net


def arrays(count: int = 48, seed: int = 0, dtype: str = "float32") -> dict[str, np.ndarray]:
    """Three classes that can be told apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count).astype(np.int32)
    x = rng.normal(size=(count, 6)).astype(dtype)
    x[np.arange(count), y] += 2
    return {"x": x, "y": y}


def train(net: dbg.Network | None = None, data: Any = None, **options: Any) -> Result:
    options = {"progress": "none", "steps": 12, **options}
    return dbg.Trainer(net or network(), arrays() if data is None else data, **options).train()


def wholes(state: State) -> dict[tuple[str, str], np.ndarray]:
    """All tensors by (slot, parameter), whole."""
    return {(slot, name): state.whole(name, slot) for slot, name in state.tensors}
