"""What rehearsals tell of a cluster whose kinds of work were timed alone: arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
from scipy.optimize import minimize

from dbgraph.calibrate.fit import non_negative, rounded
from dbgraph.calibrate.rehearse import Part, Rehearsal
from dbgraph.cluster import Cluster, Link, MachineSpec, Rates
from dbgraph.cost import adding_s, node_s, update_s
from dbgraph.plan.program import Run, Update
from dbgraph.simulate import simulate
from dbgraph.simulate.work import parameter_bytes


@dataclass(frozen=True, slots=True)
class Context:
    """What work takes in a step, against what it takes alone.

    Attributes:
        dispatch_s: of each segment.
        scale: how many times as long all work takes.
        crowding: see `Cluster`.
        local, link: inside a host, and between hosts; None: nothing went that way.
        driver_s, control_s: of a step, and of each machine's part of it.
    """

    dispatch_s: float
    scale: float
    crowding: float
    local: Link | None
    link: Link | None
    driver_s: float
    control_s: float


def context_of(rehearsals: Sequence[Rehearsal], alone: Cluster) -> Context:
    """Args:
    alone: with the rates of work that was timed alone.
    """
    dispatch_s, scale = _work(rehearsals, alone)
    driver_s, control_s = _fit((1.0, r.plan.partitions, r.besides_s) for r in rehearsals)
    found = Context(
        dispatch_s=dispatch_s,
        scale=scale,
        crowding=0.0,
        local=_link(rehearsals, alone, inside=True),
        link=_link(rehearsals, alone, inside=False),
        driver_s=driver_s,
        control_s=control_s,
    )
    return _as_steps_took(rehearsals, alone, found)


def _as_steps_took(rehearsals: Sequence[Rehearsal], alone: Cluster, first: Context) -> Context:
    """With the scale and the crowding for which forecasts of the rehearsals' steps are least off
    (least squares of their logarithms): what machines take from one another shows in whole steps
    alone. Nelder and Mead's method."""

    def at(point: np.ndarray) -> Context:
        return replace(first, scale=first.scale * np.exp(point[0]), crowding=abs(point[1]))

    def off(point: np.ndarray) -> float:
        cluster = in_context(alone, at(point))
        return sum(log(_forecast_s(r, cluster) / r.step_s) ** 2 for r in rehearsals)

    begin = {"initial_simplex": ((0.0, 0.0), (0.2, 0.2), (-0.2, 0.4)), "xatol": 0.005}
    return at(minimize(off, (0.0, 0.0), method="Nelder-Mead", options=begin).x)


def _forecast_s(rehearsal: Rehearsal, cluster: Cluster) -> float:
    plan = rehearsal.plan
    here = cluster.first(plan.partitions)
    return simulate(plan.graph, plan.transfers, plan.programs, here).step_s


def in_context(alone: Cluster, context: Context) -> Cluster:
    """The cluster as steps find it."""
    known = {spec: _machine(spec, context) for spec in set(alone.machines)}
    return replace(
        alone,
        machines=tuple(known[spec] for spec in alone.machines),
        link=context.link or alone.link,
        local=context.local or alone.local,
        crowding=rounded(context.crowding),
        driver_s=rounded(context.driver_s),
        control_s=rounded(context.control_s),
    )


def _machine(spec: MachineSpec, context: Context) -> MachineSpec:
    return replace(
        spec,
        flop_s=rounded(spec.flop_s / context.scale),
        memory_bytes_s=rounded(spec.memory_bytes_s / context.scale),
        dispatch_s=rounded(context.dispatch_s),
        dtype_flop_s=tuple((d, rounded(f / context.scale)) for d, f in spec.dtype_flop_s),
        kinds=tuple((kind, dtype, _slower(r, context.scale)) for kind, dtype, r in spec.kinds),
    )


def _slower(rates: Rates, scale: float) -> Rates:
    return Rates(
        rounded(rates.flop_s / scale),
        rounded(rates.memory_bytes_s / scale),
        rounded(rates.start_s * scale),
    )


def _work(rehearsals: Sequence[Rehearsal], alone: Cluster) -> tuple[float, ...]:
    """Seconds of a RUN = dispatch_s + scale · (its nodes' and those of what it updates or adds up);
    of an UPDATE the last alone.

    What is seen where more machines compute than a host has cores is left out: they wait for one
    another meanwhile.
    """
    rows = [row for r in rehearsals if not _is_crowded(r, alone) for row in _worked(r, alone)]
    return _fit(rows)


def _worked(rehearsal: Rehearsal, alone: Cluster) -> Iterator[tuple[float, ...]]:
    plan = rehearsal.plan
    held = parameter_bytes(plan.graph)
    gradients = plan.graph.result_values & {
        r.value for r in plan.graph.results if r.kind == "gradient"
    }
    for program in plan.programs:
        p, instructions = program.partition, program.instructions
        machine = alone.machines[p]
        updated_s = update_s(held.get(p, 0), machine)
        # One computation, see `LoadedPlan.ends_in_one_go`.
        one_go = plan.microbatches == 1 and isinstance(instructions[-1], Update)
        for position, instruction in enumerate(instructions):
            if isinstance(instruction, Update) and not one_go and updated_s:
                yield 0.0, updated_s, rehearsal.updates[p, 0, 0]
            if not isinstance(instruction, Run):
                continue
            segment = program.segments[instruction.segment]
            nodes_s = sum(node_s(plan.graph, plan.graph[n], machine) for n in segment.nodes)
            also_s = updated_s if one_go and position == len(instructions) - 2 else 0.0
            if instruction.microbatch:
                sums = [plan.graph[n].type.size_bytes for n in segment.outputs if n in gradients]
                also_s += adding_s(sum(sums), machine)
            part = p, instruction.segment, instruction.microbatch
            yield 1.0, nodes_s + also_s, rehearsal.runs[part]


def _is_crowded(rehearsal: Rehearsal, alone: Cluster) -> bool:
    if not alone.host_cores:
        return False
    hosts = [alone.host(p) for p in range(rehearsal.plan.partitions)]
    return any(hosts.count(host) > alone.host_cores[host] for host in set(hosts))


def _link(rehearsals: Sequence[Rehearsal], alone: Cluster, inside: bool) -> Link | None:
    """At either end message_s + size · byte_s, and between latency_s + size / bytes_s."""
    ends: list[tuple[float, ...]] = []
    ways: list[tuple[float, ...]] = []
    for rehearsal in rehearsals:
        if _is_crowded(rehearsal, alone):
            continue
        for seen, rows in (
            (rehearsal.sends, ends),
            (rehearsal.receives, ends),
            (rehearsal.ways, ways),
        ):
            rows += [
                (1.0, size_bytes, seconds)
                for part, seconds in seen.items()
                for size_bytes in _crossing(rehearsal, part, alone, inside)
            ]
    if not ends or not ways:
        return None
    message_s, byte_s = _fit(ends)
    latency_s, line_s = _fit(ways)
    bytes_s = min(1 / line_s if line_s else np.inf, alone.machines[0].memory_bytes_s)
    return Link(*map(rounded, (bytes_s, latency_s, message_s, byte_s)))


def _crossing(rehearsal: Rehearsal, part: Part, alone: Cluster, inside: bool) -> Iterator[float]:
    """The bytes of a message, if it went that way."""
    t = rehearsal.plan.transfers[part[1]]
    if (alone.host(t.source) == alone.host(t.to)) == inside:
        yield float(t.type.size_bytes)


def _fit(rows: Iterable[tuple[float, ...]]) -> tuple[float, ...]:
    """Coefficients for rows whose last column are seconds."""
    table = np.array(list(rows))
    return non_negative(table[:, :-1], table[:, -1].tolist())
