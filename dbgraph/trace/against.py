"""Forecast and measurement side by side: per segment, per link, per machine and for the step.

What was measured is the median over the steps of a trace, of those replicas that ran the plan;
the first steps, which compile, are left out. A machine's wait is all that its RECVs take: the
wait for values, and their handling. Traffic with a parameter server goes on beside the steps, and
stands beside them (`served`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from dbgraph.cluster import Cluster
from dbgraph.errors import PlanError, UsageError
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Program, Recv, Run, Send, Update
from dbgraph.profile import Profile
from dbgraph.simulate.engine import Engine
from dbgraph.simulate.summary import Summary
from dbgraph.simulate.work import Work, work_of
from dbgraph.trace.gap import Gap, worst_first
from dbgraph.trace.launches import Launches
from dbgraph.trace.model import Event, Trace
from dbgraph.trace.served import Served, compare_servers
from dbgraph.trace.words import PlanWords, mark_of, partition_of

_COMPILES = 2.0  # a first step that takes so many times the median of those after it


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    segments, links: the worst first: by how many seconds they are off. The time of a link is
        that of all its messages, each from its SEND to the arrival of its last byte.
    machines: by partition its compute, send and wait.
    steps: how many were measured, over all replicas.
    left_out: how many were not, since they compile.
    replicas: how many ran the plan.
    served: their traffic with the parameter server.
    """

    step: Gap
    segments: tuple[Gap, ...]
    links: tuple[Gap, ...]
    machines: tuple[tuple[Gap, Gap, Gap], ...]
    steps: int
    left_out: int
    replicas: int
    served: Served


def compare(
    plan: Plan, trace: Trace, cluster: Cluster, profile: Profile | None = None
) -> Comparison:
    """Raises PlanError where the trace is of other plans, UsageError where it has too few whole
    steps of this one."""
    name = _check(plan, trace)
    steps, left_out, replicas = _measured(plan, trace, name)
    work = work_of(
        plan.graph, plan.transfers, plan.programs, cluster.first(plan.partitions), profile
    )
    forecast = _forecast(plan, work)
    median_of = _medians(steps)

    def gap(key: _Key, text: str, **more: object) -> Gap:
        return Gap(text, forecast.get(key, 0.0), median_of.get(key, 0.0), **more)  # type: ignore[arg-type]

    words = PlanWords(plan)
    segments = [
        gap(("segment", p, s), _segment_name(plan, words, p, s), partition=p, segment=s)
        for p, program in enumerate(plan.programs)
        for s in range(len(program.segments))
    ]
    segments += [
        gap(("update", p, 0), "update", partition=p)
        for p, program in enumerate(plan.programs)
        if any(isinstance(i, Update) for i in program.instructions) and not _fused(plan, program)
    ]
    links = [
        gap(("link", *link), f"{link[0]} → {link[1]}", link=link, size_bytes=size, messages=count)
        for link, (size, count) in sorted(_traffic(plan).items())
    ]
    machines = []
    for p in range(plan.partitions):
        compute, send, wait = (
            gap((kind, p, 0), kind, partition=p) for kind in ("compute", "send", "wait")
        )
        machines.append((compute, send, wait))
    return Comparison(
        step=gap(("step", 0, 0), "step"),
        segments=worst_first(segments),
        links=worst_first(links),
        machines=tuple(machines),
        steps=len(steps),
        left_out=left_out,
        replicas=replicas,
        served=compare_servers(work, trace),
    )


_Key = tuple[str, int, int]
_Seconds = Mapping[_Key, float]


def _check(plan: Plan, trace: Trace) -> str:
    """The name under which the trace has the plan."""
    mine = mark_of(plan)
    for name, mark in trace.plans.items():
        if mark.digest == mine.digest:
            return name
    others = [mark for mark in trace.plans.values() if mark.fingerprint == plan.fingerprint]
    if not others:
        said = ", ".join(
            dict.fromkeys(f"{m.name!r}, fingerprint {m.fingerprint}" for m in trace.plans.values())
        )
        rule = (
            f"the trace is of another network: {said}; the plan is for {plan.name!r}, "
            f"{plan.fingerprint}"
        )
        raise PlanError(rule, hint="record a run of this plan: dbgraph train --plan PLAN --trace …")
    said = ", ".join(f"{m.mode}, {m.partitions} partitions, programs {m.digest}" for m in others)
    raise PlanError(
        f"the trace is of other plans of {plan.name!r}: {said}; this one is for {plan.mode}, "
        f"{plan.partitions} partitions, programs {mine.digest}",
        hint="record a run of this plan: dbgraph train --plan PLAN --trace …",
    )


def _traffic(plan: Plan) -> Mapping[tuple[int, int], tuple[int, int]]:
    """(from, to) → bytes and messages of a step."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for t in plan.transfers:
        size, count = found.get((t.source, t.to), (0, 0))
        times = t.times(plan.microbatches)
        found[t.source, t.to] = size + times * t.type.size_bytes, count + times
    return found


def _fused(plan: Plan, program: Program) -> bool:
    """Whether backends compute the last segment and the update at once (`loaded.LoadedPlan`)."""
    last = program.instructions[-2:]
    return (
        plan.microbatches == 1
        and len(last) == 2
        and isinstance(last[0], Run)
        and isinstance(last[1], Update)
    )


def _segment_name(plan: Plan, words: PlanWords, partition: int, segment: int) -> str:
    program = plan.programs[partition]
    name = words.segment(partition, segment).name
    fused = _fused(plan, program) and program.instructions[-2] == Run(segment)
    return f"{name} + update" if fused else name


# --- measured ---


@dataclass(frozen=True)
class _Step:
    """One run of the programs of all partitions."""

    events: Mapping[int, Sequence[Event]]
    arrived: Mapping[tuple[int, int], int]
    seconds: float

    @property
    def start_ns(self) -> int:
        return min(events[0].start_ns for events in self.events.values())


def _measured(plan: Plan, trace: Trace, name: str) -> tuple[list[_Step], int, int]:
    """The steps that count, how many were left out, and how many replicas there are."""
    orders = {e.run: e for _, e in trace if e.kind == "order" and e.plan == name}
    found: dict[tuple[str, int], dict[int, list[Event]]] = defaultdict(lambda: defaultdict(list))
    for process, event in trace:
        partition = partition_of(process.name)
        if event.lane == "program" and event.plan == name and partition is not None:
            replica = process.name.rpartition("partition")[0]
            found[replica, event.run][partition].append(event)
    steps: dict[str, list[_Step]] = defaultdict(list)
    for (replica, run), events in sorted(found.items()):
        if _is_whole(plan, events):
            steps[replica].append(_step(events, orders.get(run)))
    counted = [_compiled(each) for each in steps.values()]
    left_out = sum(map(len, steps.values())) - sum(map(len, counted))
    if not any(counted):
        whole = sum(map(len, steps.values()))
        raise UsageError(
            f"the trace has {whole} whole steps of {plan.name!r}; the first ones, which compile, "
            "do not count",
            hint="record some more: dbgraph train … --steps 50 --trace run.pftrace",
        )
    return [step for each in counted for step in each], left_out, len(steps)


def _is_whole(plan: Plan, events: Mapping[int, Sequence[Event]]) -> bool:
    expected = {p: len(program.instructions) for p, program in enumerate(plan.programs)}
    return all(len(events.get(p, ())) == count for p, count in expected.items())


def _step(events: Mapping[int, Sequence[Event]], order: Event | None) -> _Step:
    every = [event for found in events.values() for event in found]
    arrived = {
        (e.number, e.microbatch): e.arrived_ns
        for e in every
        if e.kind == "receive" and e.arrived_ns is not None
    }
    if order is not None:
        return _Step(events, arrived, order.seconds)
    begin, end = min(e.start_ns for e in every), max(e.stop_ns for e in every)
    return _Step(events, arrived, (end - begin) * 1e-9)


def _compiled(steps: Iterable[_Step]) -> list[_Step]:
    """Without the first, and those right after it that take as long."""
    rest = sorted(steps, key=lambda step: step.start_ns)[1:]
    while len(rest) > 1 and rest[0].seconds > _COMPILES * median(s.seconds for s in rest[1:]):
        rest = rest[1:]
    return rest


def _medians(steps: Sequence[_Step]) -> _Seconds:
    found: dict[_Key, list[float]] = defaultdict(list)
    for step in steps:
        for key, value in _seconds_of(step).items():
            found[key].append(value)
    return {key: median(values) for key, values in found.items()}


def _seconds_of(step: _Step) -> _Seconds:
    found: dict[_Key, float] = defaultdict(float)
    found["step", 0, 0] = step.seconds
    for p, events in step.events.items():
        for e in events:
            found[_KIND[e.kind], p, 0] += e.seconds
            if e.kind == "run":
                found["segment", p, e.number] += e.seconds
            elif e.kind == "update":
                found["update", p, 0] += e.seconds
            elif e.kind == "send":
                to = partition_of(e.peer)
                at_ns = step.arrived.get((e.number, e.microbatch))
                if to is not None and at_ns is not None:
                    found["link", p, to] += (at_ns - e.start_ns) * 1e-9
    return found


_KIND = {"run": "compute", "update": "compute", "send": "send", "receive": "wait"}


# --- forecast ---


def _forecast(plan: Plan, work: Work) -> _Seconds:
    programs = plan.programs
    trace = Launches(len(programs))
    engine = Engine(work, trace)
    engine.run()
    summary = Summary(engine, len(programs))
    found: dict[_Key, float] = defaultdict(float)
    found["step", 0, 0] = summary.step_s
    for span in summary.timeline(trace):
        p, instructions = span.machine, programs[span.machine].instructions
        instruction = None if span.instruction is None else instructions[span.instruction]
        if isinstance(instruction, Send):
            found["send", p, 0] += span.seconds
        elif isinstance(instruction, Recv):
            found["wait", p, 0] += span.seconds
        elif isinstance(instruction, Run | Update):
            found["compute", p, 0] += span.seconds
            found[_part(plan, programs[p], instruction, p)] += span.seconds
    for (transfer, microbatch), start_s in trace.began_s.items():
        t, key = plan.transfers[transfer], transfer * engine.microbatches + microbatch
        found["link", t.source, t.to] += engine.lines.arrival_s[key] - start_s
    return found


def _part(plan: Plan, program: Program, instruction: Run | Update, partition: int) -> _Key:
    """A segment, or the update, which may be part of one."""
    if isinstance(instruction, Run):
        return "segment", partition, instruction.segment
    before = program.instructions[-2] if _fused(plan, program) else None
    return ("segment", partition, before.segment) if isinstance(before, Run) else (
        "update", partition, 0
    )  # fmt: skip
