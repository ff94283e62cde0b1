"""What is measured of a cluster's machines, all in one job."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbgraph.backends.base import Backend
from dbgraph.calibrate.fit import Timed
from dbgraph.calibrate.ladders import (
    dispatch_ladder,
    memory_ladder,
    op_ladder,
    sweep_ladder,
)
from dbgraph.calibrate.layout import Layout
from dbgraph.calibrate.samples import SAMPLES, Sample
from dbgraph.calibrate.stopwatch import Ladder, Say, Stopwatch
from dbgraph.cost import Work, node_work
from dbgraph.errors import RunError
from dbgraph.plan.plan import Plan

ROUNDS = 7

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
    """

    kinds: Mapping[Key, tuple[Timed, ...]]
    memory: Timed
    dispatch_s: float


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
    took = Stopwatch(backend, ladders).each_s(tuple(ladders), rounds, say)
    return {p: _times(p, ops, ladders, took) for p in layout.machines}


def _on(layout: Layout, machine: int, ops: Sequence[Sample]) -> list[tuple[str, Ladder]]:
    """All that is timed on one machine."""
    count = len(layout.hosts)
    found = [(str(k), op_ladder(count, sample, machine)) for k, sample in enumerate(ops)]
    found.append(("memory", memory_ladder(count, machine)))
    found.append(("dispatch", dispatch_ladder(count, machine)))
    found.append(("sweep", sweep_ladder(count, machine)))
    return found


def _times(
    machine: int,
    ops: Sequence[Sample],
    ladders: Mapping[str, Ladder],
    took: Mapping[str, float],
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
    if memory_s <= 0 or GENERAL not in kinds:
        raise RunError(
            f"machine {machine} is too busy to be measured: work of many milliseconds drowns in "
            "what other programs do",
            hint="measure it when they rest",
        )
    return MachineTimes(
        kinds={key: tuple(timed) for key, timed in kinds.items()},
        memory=_timed(memory, memory_s),
        dispatch_s=dispatch_s,
    )


def _work(plan: Plan) -> tuple[Work, str]:
    """What the first segment of an op's plan is, and its dtype."""
    segments = next(program.segments for program in plan.programs if program.segments)
    (name,) = segments[0].nodes
    node = plan.graph[name]
    return node_work(plan.graph, node), node.type.dtype


def _timed(work: Work, seconds: float) -> Timed:
    return Timed(work.flop, work.traffic_bytes, seconds)
