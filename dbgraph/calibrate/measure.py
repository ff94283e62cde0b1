"""What is measured of a cluster's machines, all in one job."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbgraph.backends.base import Backend
from dbgraph.calibrate.fit import Timed
from dbgraph.calibrate.ladders import (
    TRAINED,
    UPDATES,
    dispatch_ladder,
    memory_ladder,
    op_ladder,
    step_plan,
    sweep_ladder,
)
from dbgraph.calibrate.layout import Layout
from dbgraph.calibrate.samples import SAMPLES, Sample
from dbgraph.calibrate.stopwatch import Ladder, Say, Stopwatch, typical_s
from dbgraph.cost import UPDATE_TOUCHES, Work, node_work
from dbgraph.errors import RunError
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan

ROUNDS = 7
_UPDATED, _NOT_UPDATED = "updated", "not updated"

Key = tuple[str, str]
"""A kind of work, and a dtype."""
GENERAL = ("matmul", "float32")
"""Its rate is that of all arithmetic that is of no other kind."""


@dataclass(frozen=True)
class MachineTimes:
    """What one machine took.

    Attributes:
        kinds: each kind's samples.
        memory: one loop over more than caches hold.
        dispatch_s: of a segment that does nothing.
        update: of a rule with one slot, such as momentum.
    """

    kinds: Mapping[Key, tuple[Timed, ...]]
    memory: Timed
    dispatch_s: float
    update: Timed


Measured = Mapping[int, MachineTimes]
"""By number those machines that were measured."""


def measure(
    backend: Backend,
    layout: Layout,
    say: Say,
    *,
    ops: Sequence[Sample] = SAMPLES,
    rounds: int = ROUNDS,
) -> Measured:
    """Starts a job, and times one machine of each host.

    Args:
        ops: what is timed on each machine.
        rounds: how often.

    Raises what the backend raises, and RunError where other programs leave no time to measure.
    """
    ladders = {f"{p} {n}": of for p in layout.machines for n, of in _on(layout, p, ops)}
    steps = _steps(layout, ladders)
    watch = Stopwatch(backend, ladders, steps, Rule.of("momentum"))
    took = watch.each_s(tuple(ladders), rounds, say)
    update_s = _update_s(watch, rounds)
    return {p: _times(p, ops, ladders, took, update_s) for p in layout.machines}


def _on(layout: Layout, machine: int, ops: Sequence[Sample]) -> list[tuple[str, Ladder]]:
    """All that is timed on one machine."""
    count = len(layout.hosts)
    found = [(str(k), op_ladder(count, sample, machine)) for k, sample in enumerate(ops)]
    found.append(("memory", memory_ladder(count, machine)))
    found.append(("dispatch", dispatch_ladder(count, machine)))
    found.append(("sweep", sweep_ladder(count, machine)))
    return found


def _steps(layout: Layout, ladders: Mapping[str, Ladder]) -> dict[str, Plan]:
    """A layer's training steps on all machines that are measured, without UPDATE and with."""
    count, at = len(layout.hosts), layout.machines
    without = step_plan(count, at, updates=False)
    plans = [without, *(plan for ladder in ladders.values() for plan in ladder.plans)]
    return {_UPDATED: step_plan(count, at, plans, updates=True), _NOT_UPDATED: without}


def _update_s(watch: Stopwatch, rounds: int) -> float:
    """Seconds of one UPDATE. A step does not wait for its last UPDATE, but the next one does; so
    the first of two in a row does not count."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(2 * rounds):
        for name in (_UPDATED, _NOT_UPDATED):
            watch.plan_s(name)
            found[name].append(watch.plan_s(name))
    return (typical_s(found[_UPDATED]) - typical_s(found[_NOT_UPDATED])) / UPDATES


def _times(
    machine: int,
    ops: Sequence[Sample],
    ladders: Mapping[str, Ladder],
    took: Mapping[str, float],
    update_s: float,
) -> MachineTimes:
    """Each op was a segment: without its dispatch, and without the sweep after it.

    Raises RunError where what must take long seems to take no time.
    """
    dispatch_s = max(took[f"{machine} dispatch"], 0.0)
    sweep_s = took[f"{machine} sweep"]
    kinds: dict[Key, list[Timed]] = defaultdict(list)
    for k, sample in enumerate(ops):
        name = f"{machine} {k}"
        work, dtype = _work(ladders[name].plans[0])
        seconds = took[name] - dispatch_s - (sweep_s if sample.swept else 0.0)
        if seconds > 0:
            kinds[work.kind, dtype].append(_timed(work, seconds))
    memory, _ = _work(ladders[f"{machine} memory"].plans[0])
    memory_s = took[f"{machine} memory"] - dispatch_s
    if min(memory_s, update_s) <= 0 or GENERAL not in kinds:
        raise RunError(
            f"machine {machine} is too busy to be measured: work of many milliseconds drowns in "
            "what other programs do",
            hint="measure it when they rest",
        )
    update = Work("update", 0, UPDATE_TOUCHES * TRAINED.size_bytes)
    return MachineTimes(
        kinds={key: tuple(timed) for key, timed in kinds.items()},
        memory=_timed(memory, memory_s),
        dispatch_s=dispatch_s,
        update=_timed(update, update_s),
    )


def _work(plan: Plan) -> tuple[Work, str]:
    """What the first segment of an op's plan is, and its dtype."""
    segments = next(program.segments for program in plan.programs if program.segments)
    (name,) = segments[0].nodes
    node = plan.graph[name]
    return node_work(plan.graph, node), node.type.dtype


def _timed(work: Work, seconds: float) -> Timed:
    return Timed(work.flop, work.traffic_bytes, seconds)
