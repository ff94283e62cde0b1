"""What is measured of a cluster's machines and links, all in one job."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dbgraph.backends.base import Backend
from dbgraph.calibrate.fit import Message, Timed
from dbgraph.calibrate.ladders import (
    MESSAGE_BYTES,
    UPDATES,
    base_plan,
    dispatch_ladder,
    hop_ladder,
    load_ladder,
    memory_ladder,
    nothing_plan,
    op_ladder,
    sweep_ladder,
)
from dbgraph.calibrate.layout import Layout, Pair
from dbgraph.calibrate.samples import SAMPLES, Sample
from dbgraph.calibrate.stopwatch import FIRST, Ladder, Say, Stopwatch, typical_s
from dbgraph.cost import UPDATE_TOUCHES, Work, node_work
from dbgraph.errors import RunError
from dbgraph.ir.types import TensorType
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan

_TRAINED = TensorType((3 << 20,))
_NOTHING = "nothing"
ROUNDS = 9

Key = tuple[str, str]
"""A kind of work, and a dtype."""
GENERAL = ("matmul", "float32")
"""Its rate is that of all arithmetic that is of no other kind."""


@dataclass(frozen=True)
class MachineTimes:
    """What one machine took.

    Attributes:
        kinds: each kind's samples.
        memory: one loop over more than any cache holds.
        dispatch_s: of a segment that does nothing.
        update: of a rule with one slot, such as momentum.
    """

    kinds: Mapping[Key, tuple[Timed, ...]]
    memory: Timed
    dispatch_s: float
    update: Timed


@dataclass(frozen=True)
class Measured:
    """
    Attributes:
        machines: by number; those that were measured.
        messages: between two machines.
        control_s: what each machine adds to a step: the driver's order to it, its answer.
    """

    machines: Mapping[int, MachineTimes]
    messages: Mapping[Pair, tuple[Message, ...]]
    control_s: float


def measure(
    backend: Backend,
    layout: Layout,
    say: Say,
    *,
    ops: Sequence[Sample] = SAMPLES,
    rounds: int = ROUNDS,
) -> Measured:
    """Starts a job, and times one machine of each host and one link of each kind.

    Args:
        ops: what is timed on each machine.
        rounds: how often.

    Raises what the backend raises.
    """
    partitions, machines, pairs = len(layout.hosts), layout.machines, layout.pairs
    ladders = {
        **{f"{p} {name}": of for p in machines for name, of in _on(partitions, p, ops)},
        **{f"{pair} {name}": of for pair in pairs for name, of in _between(partitions, pair)},
    }
    plans = [plan for ladder in ladders.values() for plan in ladder.plans]
    first = base_plan(partitions, plans, dict.fromkeys(machines, _TRAINED))
    nothing = nothing_plan(partitions)
    watch = Stopwatch(backend, ladders, {FIRST: first, _NOTHING: nothing}, Rule.of("momentum"))
    took = watch.each_s(tuple(ladders), rounds, say)
    least_s, update_s = _control(watch, 2 * rounds)
    return Measured(
        machines={p: _times(p, ops, ladders, took, update_s) for p in machines},
        messages={pair: _messages(pair, took) for pair in pairs},
        control_s=least_s / partitions,
    )


def _on(partitions: int, at: int, ops: Sequence[Sample]) -> list[tuple[str, Ladder]]:
    """All that is timed on one machine."""
    found = [(str(k), op_ladder(partitions, sample, at)) for k, sample in enumerate(ops)]
    found.append(("memory", memory_ladder(partitions, at)))
    found.append(("dispatch", dispatch_ladder(partitions, at)))
    found.append(("sweep", sweep_ladder(partitions, at)))
    return found


def _between(partitions: int, pair: Pair) -> list[tuple[str, Ladder]]:
    found = []
    for size in MESSAGE_BYTES:
        found.append((f"hop {size}", hop_ladder(partitions, pair, size)))
        for end, machine in zip(("send", "receive"), pair, strict=True):
            found.append((f"{end} {size}", load_ladder(partitions, pair, size, machine)))
    return found


def _control(watch: Stopwatch, rounds: int) -> tuple[float, float]:
    """Seconds of a step in which next to nothing happens, and of one UPDATE."""
    for name in (FIRST, _NOTHING):
        watch.plan_s(name)  # compiles
    both = [(watch.plan_s(_NOTHING), watch.plan_s(FIRST)) for _ in range(rounds)]
    least_s, updates_s = (typical_s(values) for values in zip(*both, strict=True))
    return least_s, (updates_s - least_s) / UPDATES


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
    kinds: dict[Key, list[Timed]] = defaultdict(list)
    for k, sample in enumerate(ops):
        name = f"{machine} {k}"
        work, dtype = _work(ladders[name].plans[0])
        besides_s = dispatch_s + (took[f"{machine} sweep"] if sample.swept else 0.0)
        if took[name] > besides_s:
            kinds[work.kind, dtype].append(_timed(work, took[name] - besides_s))
    memory, _ = _work(ladders[f"{machine} memory"].plans[0])
    memory_s = took[f"{machine} memory"] - dispatch_s
    if min(memory_s, update_s) <= 0 or GENERAL not in kinds:
        raise RunError(
            f"machine {machine} is too busy to be measured: work of many milliseconds drowns in "
            "what other programs do",
            hint="measure it when they rest",
        )
    update = Work("update", 0, UPDATE_TOUCHES * _TRAINED.size_bytes)
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


def _messages(pair: Pair, took: Mapping[str, float]) -> tuple[Message, ...]:
    return tuple(
        Message(size, *(took[f"{pair} {what} {size}"] for what in ("hop", "send", "receive")))
        for size in MESSAGE_BYTES
    )
