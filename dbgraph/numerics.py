"""A plan held against its own network: one step of each on this machine, and how far they
differ."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from dbgraph.backends.local import LocalBackend
from dbgraph.ir.graph import Graph
from dbgraph.ir.region import Region
from dbgraph.ir.types import DTYPE_BYTES, TensorType
from dbgraph.job import Job, Step
from dbgraph.plan.plan import Plan
from dbgraph.state import State
from dbgraph.uncut import Arrays, Uncut, evaluate, random_inputs, random_parameters, rounded

Key = tuple[str, str]
"""Kind ("loss", "output", "gradient") and name."""

TOLERANCES: Mapping[str, float] = {
    "float64": 1e-9,
    "float32": 1e-5,
    "float16": 1e-2,
    "bfloat16": 5e-2,
}
"""The largest difference, relative to the largest element, by the coarsest dtype of a network."""

# A value may differ by this many times what rounding its inputs changes in the uncut network: a
# gradient that is zero but for rounding (a bias before a normalisation) has no relative accuracy.
_ROUNDINGS = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one value, between the plan and the uncut network.

    Attributes:
        kind: "loss", "output" or "gradient".
        absolute: the largest difference of an element; of an argmax, by how much the score of
            the class that was taken is below the best one.
        relative: the same over the largest element of the uncut network's value (of an argmax:
            of the scores).
        rounding: the largest difference that rounding the inputs makes there; 0 where nobody
            needed to know.
        close: whether the plan is right, as far as can be told.
    """

    kind: str
    name: str
    type: TensorType
    absolute: float
    relative: float
    rounding: float
    close: bool


def tolerance_of(network: Graph) -> float:
    """By the coarsest floating dtype that the network computes in."""
    return max((TOLERANCES[n.type.dtype] for n in network if n.type.is_float), default=0.0)


def compare(plan: Plan, *, seed: int = 0, tolerance: float | None = None) -> list[Difference]:
    """Runs one step of a plan on this machine, and of its uncut network, on random inputs and
    parameters; dropout is that of step 0.

    Args:
        tolerance: relative to the largest element; None: by the network's dtype, and then a value
            may also differ by what rounding the inputs changes.

    Raises RunError where a kernel fails, or the plan deadlocks.
    """
    limit = tolerance_of(plan.network) if tolerance is None else tolerance
    feeds, parameters = random_inputs(plan.network, seed), random_parameters(plan, seed)
    found = _run(plan, feeds, parameters)
    with _context(plan.network):
        expected = evaluate(plan, feeds, parameters)
        first = _differences(plan, found, expected, limit, {})
        if tolerance is not None or all(one.close for one in first):
            return first
        rounding = _rounding(plan, feeds, parameters, expected, seed)
    return _differences(plan, found, expected, limit, rounding)


def _run(plan: Plan, feeds: Arrays, parameters: Arrays) -> dict[Key, np.ndarray]:
    """One step of the plan."""
    needed = {leaf.of for p in range(plan.partitions) for leaf in plan.leaves("input", p)}
    given = {name: array for name, array in feeds.items() if name in needed}
    state = State(0, {("", n): ((Region.whole(v.shape), v),) for n, v in parameters.items()})
    backend = LocalBackend()
    try:
        backend.start(Job({"verify": plan}))
        backend.load(state)
        want = frozenset({"loss", "output", "gradient"})
        result = backend.step(Step("verify", feeds=given, want=want))
    finally:
        backend.stop()
    values: dict[Key, np.ndarray] = {}
    for kind, named in (
        ("loss", result.losses),
        ("output", result.outputs),
        ("gradient", result.gradients),
    ):
        values |= {(kind, name): np.asarray(value) for name, value in named.items()}
    return values


def _context(network: Graph) -> AbstractContextManager[Any]:
    """64-bit types where the network has them."""
    wide = any(DTYPE_BYTES[node.type.dtype] == 8 for node in network)
    return jax.enable_x64(True) if wide else nullcontext()


def _differences(
    plan: Plan,
    found: Mapping[Key, np.ndarray],
    expected: Uncut,
    tolerance: float,
    rounding: Mapping[Key, float],
) -> list[Difference]:
    """Of every value of the network; one that the plan does not yield counts as zeros."""
    made = []
    for key, want in expected.values.items():
        have = found.get(key, np.zeros_like(want))
        if key[0] == "output" and key[1] in expected.scores:
            absolute, largest = _below_best(have, *expected.scores[key[1]])
        else:
            absolute, largest = _distance(have, want)
        relative = absolute / largest if largest else absolute
        noise = rounding.get(key, 0.0)
        close = relative <= tolerance or absolute <= _ROUNDINGS * noise
        type_ = TensorType(want.shape, want.dtype.name)
        made.append(Difference(*key, type_, absolute, relative, noise, close))
    return made


def _distance(have: np.ndarray, want: np.ndarray) -> tuple[float, float]:
    """(largest difference, largest element); infinite where one alone is not finite."""
    a, b = have.astype(np.float64), want.astype(np.float64)
    finite = np.isfinite(b)
    if a.shape != b.shape or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf"), 0.0
    difference = np.abs(a[finite] - b[finite])
    if np.isnan(difference).any():
        return float("inf"), 0.0
    return float(difference.max(initial=0.0)), float(np.abs(b[finite]).max(initial=0.0))


def _below_best(chosen: np.ndarray, scores: np.ndarray, axis: int) -> tuple[float, float]:
    """Two scores may be equal but for rounding; then either class is right."""
    values = scores.astype(np.float64)
    valid = (chosen >= 0) & (chosen < values.shape[axis])
    if not valid.all():
        return float("inf"), 0.0
    taken = np.take_along_axis(values, np.expand_dims(chosen, axis).astype(np.int64), axis)
    below = values.max(axis=axis, keepdims=True) - taken
    return float(below.max(initial=0.0)), float(np.abs(values).max(initial=0.0))


def _rounding(
    plan: Plan, feeds: Arrays, parameters: Arrays, expected: Uncut, seed: int
) -> dict[Key, float]:
    """How far each of the network's values moves when its inputs and parameters are rounded."""
    moved = evaluate(plan, rounded(feeds, seed), rounded(parameters, seed + 1))
    return {
        key: distance
        for key, value in moved.values.items()
        if np.isfinite(distance := _distance(value, expected.values[key])[0])
    }
