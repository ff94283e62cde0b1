"""A network whose gradients do not depend on its parameters: so what a parameter server holds says
which batches were counted, each how often, exactly."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

import dbgraph as dbg
from dbgraph import layers as L

INPUTS, UNITS, BATCH, EXAMPLES = 6, 4, 8, 320
RULE = "sgd:learning_rate=1"
"""A batch that is counted is subtracted from parameters that begin as zeros."""


def linear() -> dbg.Network:
    """The loss is the mean of the inputs' products with the weights."""
    with dbg.Network("linear", batch=BATCH, dtype="float64") as net:
        x = dbg.input("x", (INPUTS,))
        dbg.loss(L.Dense(UNITS, name="sums", weights_init="zeros")(x).mean())
    return net


def inputs() -> dict[str, np.ndarray]:
    """Whole numbers: sums of their means over 8 examples are exact."""
    rng = np.random.default_rng(0)
    return {"x": rng.integers(-99, 99, (EXAMPLES, INPUTS)).astype(float)}


def counted(batches: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters, once these batches' examples are counted."""
    data = inputs()["x"]
    means = [np.mean(data[examples], axis=0) for examples in batches]
    total = sum(means, np.zeros(INPUTS))
    weights = np.repeat(total[:, None], UNITS, axis=1) / UNITS
    return {"sums/weights": -weights, "sums/biases": np.full(UNITS, -len(means) / UNITS)}
