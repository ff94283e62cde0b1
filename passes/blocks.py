"""What one partition does at one level of messages, in parts: RECV, RUN, SEND, and again.

All messages that a block receives were sent by blocks of lower levels, so any order inside it is
free of deadlocks. A part that waits for a slow message stands behind those that do not, and a
value that is ready early is sent before the rest is computed: its reader can go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dbgraph.ir.graph import Graph

# Another segment is worth its dispatch only if it saves that many seconds of waiting.
_WORTH_A_SEGMENT_S = 300e-6


@dataclass
class Part:
    """Receive, then compute, then send: positions of nodes in the graph."""

    recvs: list[int] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    sends: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Times:
    """Estimates of each node: when it could begin at the earliest, and how long it takes."""

    begin_s: Sequence[float]
    takes_s: Sequence[float]

    def work_s(self, nodes: Iterable[int]) -> float:
        return sum([self.takes_s[i] for i in nodes])


def divide(graph: Graph, block: Part, times: Times) -> list[Part]:
    """A block's parts, in order."""
    return [
        part
        for gated in _by_arrival(graph, block, times)
        for part in _by_departure(graph, gated, times)
    ]


def _by_arrival(graph: Graph, block: Part, times: Times) -> list[Part]:
    """One part for all messages that arrive at about the same time."""
    arrivals = sorted({times.begin_s[recv] for recv in block.recvs})
    gate_of: dict[float, float] = {}  # arrival → the first of those that wait together
    first = 0.0
    for arrival in arrivals:
        if not gate_of or arrival - first >= _WORTH_A_SEGMENT_S:
            first = arrival
        gate_of[arrival] = first
    if len(set(gate_of.values())) < 2:
        return [block]
    gates = {recv: gate_of[times.begin_s[recv]] for recv in block.recvs}
    parts: dict[float, Part] = {0.0: Part()}
    for recv in block.recvs:
        parts.setdefault(gates[recv], Part()).recvs.append(recv)
    for node in block.nodes:
        gates[node] = max([gates.get(i, 0.0) for i in graph.sources[node]], default=0.0)
        parts[gates[node]].nodes.append(node)
    for send in block.sends:
        parts[gates.get(graph.sources[send][0], 0.0)].sends.append(send)
    return _joined([part for _, part in sorted(parts.items(), key=lambda item: item[0])], times)


def _joined(parts: list[Part], times: Times) -> list[Part]:
    """Without the parts that have too little to do: they wait with the next one."""
    found: list[Part] = []
    held = Part()
    for part in parts:
        held = Part(held.recvs + part.recvs, held.nodes + part.nodes, held.sends + part.sends)
        if held.sends or times.work_s(held.nodes) >= _WORTH_A_SEGMENT_S or part is parts[-1]:
            found.append(held)
            held = Part()
    return found


def _by_departure(graph: Graph, block: Part, times: Times) -> list[Part]:
    """Into what each send waits for, the first ones first, and what can be done while they
    travel."""
    if not block.sends or times.work_s(block.nodes) < _WORTH_A_SEGMENT_S:
        return [block]
    inside = set(block.nodes)
    done: set[int] = set()
    parts = [Part(block.recvs)]
    for send in sorted(block.sends, key=lambda send: times.begin_s[send]):
        needed = _needed(graph, graph.sources[send][0], inside, done)
        if parts[-1].sends and times.work_s(needed) >= _WORTH_A_SEGMENT_S:
            parts.append(Part())
        parts[-1].nodes += needed
        parts[-1].sends.append(send)
    later = [node for node in block.nodes if node not in done]
    if parts[-1].sends and times.work_s(later) >= _WORTH_A_SEGMENT_S:
        parts.append(Part())
    parts[-1].nodes += later
    order = {i: k for k, i in enumerate([*block.nodes, *block.sends])}
    for part in parts:
        part.nodes.sort(key=order.__getitem__)
        part.sends.sort(key=order.__getitem__)
    return parts


def _needed(graph: Graph, node: int, inside: set[int], done: set[int]) -> list[int]:
    """The nodes inside that a value depends on, itself included, and that are not done yet."""
    found: list[int] = []
    pending = [node]
    while pending:
        node = pending.pop()
        if node in inside and node not in done:
            done.add(node)
            found.append(node)
            pending += graph.sources[node]
    return found
