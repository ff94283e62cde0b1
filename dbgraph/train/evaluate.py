"""Evaluation on held-out data: the loss and the accuracy of every example once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from dbgraph.backends.base import Backend
from dbgraph.data import Source, read, sweep
from dbgraph.ir.region import Region
from dbgraph.job import Step, StepResult
from dbgraph.metrics import Means, accuracy
from dbgraph.plan.plan import Plan
from dbgraph.train.history import Evaluation
from dbgraph.train.setup import EVALUATE, Setup

Check = Callable[[StepResult, np.ndarray], None]
"""Called with each batch's result and its examples; may raise."""


def evaluate(
    backend: Backend,
    setup: Setup,
    source: Source,
    step: int,
    *,
    fed: bool = False,
    check: Check = lambda result, examples: None,
) -> Evaluation:
    """The means over all examples of a source.

    Args:
        source: the data; the job's own for the plan EVALUATE unless `fed`.
        step: number of training steps done.
        fed: whether the driver reads the examples and feeds them.
    """
    plan, means, score = setup.plans[EVALUATE], Means(), Means()
    want = frozenset({"loss", "output"} if setup.pair else {"loss"})

    def run(examples: np.ndarray) -> StepResult:
        feeds = feeds_of(plan, source, examples) if fed else None
        chosen = None if fed else examples
        result = backend.step(Step(EVALUATE, step, examples=chosen, feeds=feeds, want=want))
        check(result, examples)
        return result

    for examples, valid in sweep(len(source), plan.batch):
        result = run(examples)
        losses = result.losses
        if valid < plan.batch:
            copies = run(np.full_like(examples, examples[-1]))
            losses = without_copies(losses, copies.losses, plan.batch, valid)
        means.add(losses, valid)
        if setup.pair:
            score.add({"accuracy": _accuracy(setup.pair, source, examples, valid, result)}, valid)
    found = means.values()
    total = found.pop("loss", float("nan"))
    return Evaluation(step, total, found, score.values().get("accuracy"), len(source))


def without_copies(
    padded: Mapping[str, float], copies: Mapping[str, float], batch: int, valid: int
) -> dict[str, float]:
    """The mean losses of a batch's first `valid` examples.

    A loss is a mean over the batch of each example's own, plus penalties that are the same for
    every batch; so what the copies of the last example have added can be taken away exactly.

    Args:
        padded: the losses of the batch that was filled up with copies of its last valid example.
        copies: the losses of a batch of that example alone.

    >>> without_copies({"loss": (1 + 2 + 5 + 5) / 4}, {"loss": 5.0}, 4, 3)  # of 1, 2, 5
    {'loss': 2.6666666666666665}
    """
    return {
        name: (batch * value - (batch - valid) * copies[name]) / valid
        for name, value in padded.items()
    }


def feeds_of(plan: Plan, source: Source, examples: np.ndarray) -> dict[str, np.ndarray]:
    """Whole arrays of some examples, for each input that the plan reads."""
    used = {leaf.of for p in range(plan.partitions) for leaf in plan.leaves("input", p)}
    return {name: _whole(source, name, examples) for name in plan.input_types if name in used}


def batch_accuracy(
    pair: tuple[str, str], source: Source, examples: np.ndarray, result: StepResult
) -> float:
    """Of one whole batch."""
    return _accuracy(pair, source, examples, len(examples), result)


def _accuracy(
    pair: tuple[str, str],
    source: Source,
    examples: np.ndarray,
    valid: int,
    result: StepResult,
) -> float:
    output, label = pair
    return accuracy(result.outputs[output][:valid], _whole(source, label, examples[:valid]))


def _whole(source: Source, name: str, examples: np.ndarray) -> np.ndarray:
    shape, _ = source.inputs()[name]
    return read(source, name, examples, Region.whole(tuple(shape)))
