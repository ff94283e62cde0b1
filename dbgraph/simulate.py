"""A discrete-event run of a plan's own instructions: the forecast, and the dry run that finds
deadlocks. No jax."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from dbgraph.cluster import Cluster
from dbgraph.cost import node_flop, node_s
from dbgraph.ir.graph import Graph
from dbgraph.memory import peak_bytes
from dbgraph.plan.program import Program, Recv, Run, Send, Transfer


@dataclass(frozen=True, slots=True)
class MachineForecast:
    """One machine over one step."""

    busy_s: float
    flop: int
    out_bytes: int
    in_bytes: int
    peak_bytes: int
    parameter_bytes: int


@dataclass(frozen=True, slots=True)
class Blocked:
    """A machine that waits for ever: at which instruction, for which transfer."""

    partition: int
    position: int
    transfer: int
    microbatch: int


@dataclass(frozen=True)
class Forecast:
    """What a step will cost.

    Attributes:
        step_s: from the start to the end of the last machine.
        link_bytes: (from, to) → bytes.
        blocked: empty unless the programs deadlock.
    """

    step_s: float
    machines: tuple[MachineForecast, ...]
    link_bytes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    blocked: tuple[Blocked, ...] = ()

    @property
    def busiest(self) -> int:
        """The partition with the largest load: compute, plus its messages."""
        return max(range(len(self.machines)), key=lambda p: self.machines[p].busy_s)


class _Clock:
    """When machines are free, and when values arrive."""

    def __init__(self, cluster: Cluster, transfers: tuple[Transfer, ...]) -> None:
        self.cluster, self.transfers = cluster, transfers
        count = len(cluster.machines)
        self.now = [0.0] * count
        self.out_free = [0.0] * count
        self.in_free = [0.0] * count
        self.arrival: dict[tuple[int, int], float] = {}

    def send(self, transfer: int, microbatch: int) -> None:
        """The sender's link, then the receiver's, carry the value; both in order."""
        t, link = self.transfers[transfer], self.cluster.link
        duration = t.type.size_bytes / link.bytes_s
        start = max(self.now[t.source], self.out_free[t.source])
        self.out_free[t.source] = start + duration
        begin = max(start + link.latency_s, self.in_free[t.to])
        self.in_free[t.to] = begin + duration
        self.arrival[transfer, microbatch] = begin + duration


def simulate(
    graph: Graph,
    transfers: tuple[Transfer, ...],
    programs: tuple[Program, ...],
    cluster: Cluster,
) -> Forecast:
    """Runs all programs on a virtual clock. A deadlock is a result."""
    seconds = [_segment_seconds(graph, p, cluster) for p in programs]
    update_s = _update_seconds(graph, cluster)
    clock = _Clock(cluster, transfers)
    position = [0] * len(programs)
    waiting: dict[tuple[int, int], int] = {}
    ready = [(0.0, p) for p in range(len(programs))]
    while ready:
        _, p = heappop(ready)
        if position[p] == len(programs[p].instructions):
            continue
        instruction = programs[p].instructions[position[p]]
        if isinstance(instruction, Recv):
            key = (instruction.transfer, instruction.microbatch)
            if key not in clock.arrival:
                waiting[key] = p
                continue
            clock.now[p] = max(clock.now[p], clock.arrival[key])
        elif isinstance(instruction, Send):
            key = (instruction.transfer, instruction.microbatch)
            clock.send(*key)
            if key in waiting:
                heappush(ready, (clock.arrival[key], waiting.pop(key)))
        elif isinstance(instruction, Run):
            clock.now[p] += seconds[p][instruction.segment]
        else:
            clock.now[p] += update_s[p]
        position[p] += 1
        heappush(ready, (clock.now[p], p))
    blocked = tuple(Blocked(p, position[p], t, m) for (t, m), p in sorted(waiting.items()))
    return _forecast(graph, transfers, programs, cluster, seconds, clock, blocked)


def _segment_seconds(graph: Graph, program: Program, cluster: Cluster) -> list[float]:
    machine = cluster.machines[program.partition]
    return [
        machine.dispatch_s + sum(node_s(graph, graph[name], machine) for name in segment.nodes)
        for segment in program.segments
    ]


def _update_seconds(graph: Graph, cluster: Cluster) -> list[float]:
    """An update reads parameter, gradient and one slot, and writes two of them."""
    held = _parameter_bytes(graph)
    return [
        5 * held.get(p, 0) / machine.memory_bytes_s for p, machine in enumerate(cluster.machines)
    ]


def _parameter_bytes(graph: Graph) -> dict[int, int]:
    found: dict[int, int] = defaultdict(int)
    for node in graph:
        if node.op == "parameter" and node.partition is not None:
            found[node.partition] += node.type.size_bytes
    return found


def _forecast(
    graph: Graph,
    transfers: tuple[Transfer, ...],
    programs: tuple[Program, ...],
    cluster: Cluster,
    seconds: list[list[float]],
    clock: _Clock,
    blocked: tuple[Blocked, ...],
) -> Forecast:
    links: dict[tuple[int, int], int] = defaultdict(int)
    for program in programs:
        for instruction in program.instructions:
            if isinstance(instruction, Send):
                t = transfers[instruction.transfer]
                links[t.source, t.to] += t.type.size_bytes
    out_bytes, in_bytes = [0] * len(programs), [0] * len(programs)
    for (a, b), size in links.items():
        out_bytes[a] += size
        in_bytes[b] += size
    held = _parameter_bytes(graph)
    peaks = peak_bytes(graph, transfers, programs)
    machines = []
    for p, program in enumerate(programs):
        runs = [i.segment for i in program.instructions if isinstance(i, Run)]
        compute_s = sum(seconds[p][segment] for segment in runs)
        flop = [sum(node_flop(graph, graph[n]) for n in s.nodes) for s in program.segments]
        machines.append(
            MachineForecast(
                busy_s=compute_s + (out_bytes[p] + in_bytes[p]) / cluster.link.bytes_s,
                flop=sum(flop[segment] for segment in runs),
                out_bytes=out_bytes[p],
                in_bytes=in_bytes[p],
                peak_bytes=peaks[p],
                parameter_bytes=held.get(p, 0),
            )
        )
    return Forecast(max(clock.now, default=0.0), tuple(machines), dict(links), blocked)
