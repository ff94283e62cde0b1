"""A loss or a parameter that is not finite: which step and which layer it comes from.

The model of the step is gone when it shows, so the steps since the last good state are done again
(they are deterministic) until the state breaks or the failed step is reached. Then the uncut
network is computed node by node, see `diagnose`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from dbgraph.backends.base import Backend
from dbgraph.errors import DbgraphError, RunError
from dbgraph.job import Step, StepResult
from dbgraph.state import Pieces, State
from dbgraph.train.diagnose import Finding, first_broken
from dbgraph.train.evaluate import feeds_of
from dbgraph.train.interrupt import Interrupted
from dbgraph.train.progress import Progress
from dbgraph.train.saving import Saver, broken, kept
from dbgraph.train.setup import EVALUATE, TRAIN, Setup

LIMIT_S = 300.0
"""Doing steps again takes no longer than this."""


def blame_training(
    backend: Backend,
    setup: Setup,
    saver: Saver,
    progress: Progress,
    check: Callable[[], None],
    *,
    failed: int | None = None,
    result: StepResult | None = None,
    state: State | None = None,
) -> RunError:
    """What to raise for a training step whose loss, or whose parameters, are not finite.

    Args:
        check: raises Interrupted where the user does not want to wait.
        failed: number of the step, counted from 0, whose loss is not finite; or
        state: after steps whose losses were finite, with parameters that are not.
    """
    last = state.step - 1 if state is not None else failed
    assert last is not None
    what = _names(broken(state)) if state is not None else _losses(result)
    rule = f"step {last + 1}: {what}"
    last_good = kept(saver)
    try:
        step, before = _replay(backend, setup, saver, progress, check, last)
    except (TimeoutError, Interrupted):
        hint = f"where it began is not known: that takes doing steps {saver.good_step + 1} to "
        return RunError(rule, hint=f"{hint}{last + 1} again; save more often\n  {last_good}")
    except DbgraphError as error:
        return RunError(rule, hint=f"where it began is not known: {error.rule}\n  {last_good}")
    progress.note(f"looking for the layer where it first appears, in step {step + 1}")
    examples = setup.batches.examples(step)
    feeds = feeds_of(setup.plan, setup.data.train, examples)
    finding = first_broken(setup.plan.network, before, feeds, step, gradients=True)
    return _error(rule, finding, step, examples, last_good, "training")


def blame_evaluation(
    setup: Setup,
    state: State,
    examples: np.ndarray,
    step: int,
    result: StepResult,
    last_good: str = "",
) -> RunError:
    """What to raise for held-out examples whose loss is not finite.

    Args:
        last_good: see `saving.kept`.
    """
    assert setup.data.test is not None
    rule = f"evaluation after step {step}: {_losses(result)}"
    feeds = feeds_of(setup.plans[EVALUATE], setup.data.test, examples)
    finding = first_broken(setup.plan.network, state, feeds, step, gradients=False, dropout=False)
    return _error(rule, finding, None, examples, last_good, "held-out")


def blame_replica(
    setup: Setup, parameters: Mapping[str, np.ndarray], step: Step, rule: str
) -> RunError:
    """What a replica is to raise for a step whose loss is not finite.

    Args:
        parameters: of that step, by leaf.
    """
    assert step.examples is not None
    tensors: dict[tuple[str, str], Pieces] = {}
    for partition in range(setup.plan.partitions):
        for leaf in setup.plan.leaves("parameter", partition):
            if leaf.node not in parameters:
                hint = f"where it began is not known: partition {partition} is steps ahead"
                return RunError(rule, hint=hint)
            piece = leaf.region, parameters[leaf.node]
            tensors["", leaf.of] = (*tensors.get(("", leaf.of), ()), piece)
    state = State(tensors=tensors)
    feeds = feeds_of(setup.plan, setup.data.train, step.examples)
    finding = first_broken(setup.plan.network, state, feeds, step.number, gradients=True)
    return _error(rule, finding, None, step.examples, "", "training")


def _replay(
    backend: Backend,
    setup: Setup,
    saver: Saver,
    progress: Progress,
    check: Callable[[], None],
    last: int,
) -> tuple[int, State]:
    """(number of the step that is to blame, the finite state before it).

    Raises TimeoutError where it takes too long.
    """
    start = saver.good_step
    state = saver.good_state()
    if last > start:
        steps = f"step {last}" if last == start + 1 else f"steps {start + 1} to {last}"
        progress.note(f"doing {steps} again, from the last good state, to find where it began")
    backend.load(state)
    before = backend.collect() if state is None else state
    end_s = time.monotonic() + LIMIT_S
    for number in range(start, last):
        step = Step(TRAIN, number, examples=setup.batches.examples(number), want=frozenset())
        backend.step(step)
        after = backend.collect()
        if broken(after):
            return number, before
        before = after
        check()
        if time.monotonic() > end_s:
            raise TimeoutError
    return last, before


def _error(
    rule: str,
    finding: Finding | None,
    step: int | None,
    examples: np.ndarray,
    kept: str,
    data: str,
) -> RunError:
    if finding is None:
        unseen = "it does not appear when the uncut network computes the same step"
        return RunError(rule, hint=f"{unseen}\n  {kept}".strip())
    when = "" if step is None or rule.startswith(f"step {step + 1}:") else f" in step {step + 1}"
    rows = [int(examples[i]) for i in finding.rows]
    if rows and finding.kind == "input":
        listed = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
        where = f"input {finding.layer!r} of the {data} data holds {finding.values}"
        where += f" in this batch: see example {listed}"
        return RunError(f"{rule}; {where}", hint=kept)
    where = f"it first appears{when} in {finding}"
    return RunError(f"{rule}; {where}", at=finding.at, hint=f"{finding.context}\n  {kept}".strip())


def _losses(result: StepResult | None) -> str:
    """`the loss is nan`, with the terms that are to blame where there are several."""
    assert result is not None
    bad = {name: v for name, v in result.losses.items() if not np.isfinite(v)}
    total = bad.pop("loss", result.losses.get("loss", float("nan")))
    terms = ", ".join(f"{name} {value}" for name, value in bad.items())
    return f"the loss is {total}" + (f" ({terms})" if terms else "")


def _names(keys: list[tuple[str, str]]) -> str:
    names = list(dict.fromkeys(parameter for _, parameter in keys))
    listed = ", ".join(map(repr, names[:3])) + (", …" if len(names) > 3 else "")
    return f"{listed} {'is' if len(names) == 1 else 'are'} not finite after it"
