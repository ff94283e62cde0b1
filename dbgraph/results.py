"""Whole batches and their parts: what each partition is fed, and what it yields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from dbgraph.errors import DataError
from dbgraph.ir.region import Region
from dbgraph.job import StepResult
from dbgraph.plan.plan import Leaf, Plan
from dbgraph.suggest import did_you_mean

Part = tuple[str, Region, np.ndarray]
"""A name, the region of the whole, its value."""


@dataclass(frozen=True)
class PartitionResult:
    """What one partition yields of a step.

    Attributes:
        losses: name → sum over the microbatches.
    """

    losses: Mapping[str, float] = field(default_factory=dict)
    outputs: Sequence[Part] = ()
    gradients: Sequence[Part] = ()


def merge_results(plan: Plan, parts: Iterable[PartitionResult]) -> StepResult:
    """The step's result of those of its partitions."""
    losses: dict[str, float] = {}
    outputs: dict[str, np.ndarray] = {}
    gradients: dict[str, np.ndarray] = {}
    for part in parts:
        losses.update(part.losses)
        for name, region, value in part.outputs:
            _place(outputs, name, plan.outputs[name].shape, region, value)
        for name, region, value in part.gradients:
            _place(gradients, name, plan.parameter_types[name].shape, region, value)
    return StepResult(losses, outputs, gradients)


def _place(
    into: dict[str, np.ndarray],
    name: str,
    shape: tuple[int, ...],
    region: Region,
    value: np.ndarray,
) -> None:
    if region == Region.whole(shape):
        into[name] = value
        return
    if name not in into:
        into[name] = np.zeros(shape, value.dtype)
    into[name][region.slices()] = value


def check_feeds(plan: Plan, feeds: Mapping[str, np.ndarray]) -> None:
    """Raises DataError unless there is one array for each input that the plan reads, of the
    input's shape (batch first) and dtype."""
    needed = plan.read_inputs
    for name in feeds:
        if name not in plan.input_types:
            raise DataError(f"{plan.name} has no input {name!r}", hint=did_you_mean(name, needed))
    for name in needed:
        if name not in feeds:
            hint = f"needed: {', '.join(needed)}"
            raise DataError(f"input {name!r} is missing", hint=hint)
        expected, given = plan.input_types[name], feeds[name]
        if given.shape != expected.shape or _name(given.dtype) != expected.dtype:
            raise DataError(
                f"input {name!r} must be {expected}, not {given.dtype.name}"
                f"[{','.join(map(str, given.shape))}]"
            )


@lru_cache(maxsize=64)
def _name(dtype: np.dtype) -> str:
    """NumPy makes the name anew each time, which a step of a small network would feel."""
    return dtype.name


def leaf_feeds(
    plan: Plan, partition: int, feeds: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The regions of whole-batch arrays that a partition reads, by leaf; its microbatches one
    after another along axis 0. Views where they can be."""
    return {
        leaf.node: _feed(plan, leaf, feeds[leaf.of]) for leaf in plan.leaves("input", partition)
    }


def _feed(plan: Plan, leaf: Leaf, whole: np.ndarray) -> np.ndarray:
    (low, high), *rest = leaf.region.bounds
    inner = tuple(slice(a, b) for a, b in rest)
    size = plan.microbatch_size
    if (low, high) == (0, size):
        return whole[(slice(None), *inner)]
    parts = [
        whole[(slice(m * size + low, m * size + high), *inner)] for m in range(plan.microbatches)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
