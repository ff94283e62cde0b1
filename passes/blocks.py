"""What one partition does at one level of messages, in parts: RECV, RUN, SEND, and again.

All messages that a block receives were sent by blocks of lower levels, so any order inside it is
free of deadlocks. A part that waits for a slow message stands behind those that do not, and a
value that is ready early is sent before the rest is computed: its reader can go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from dbgraph.ir.graph import Graph, Node

# Another segment is worth its dispatch only if it saves that many seconds of waiting.
_WORTH_A_SEGMENT_S = 300e-6


@dataclass
class Part:
    """Receive, then compute, then send."""

    recvs: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    sends: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Times:
    """Estimates of each node: when it could begin at the earliest, and how long it takes."""

    begin_s: Mapping[str, float]
    takes_s: Mapping[str, float]

    def work_s(self, nodes: Iterable[Node]) -> float:
        return sum(self.takes_s[node.name] for node in nodes)


def divide(graph: Graph, block: Part, times: Times) -> list[Part]:
    """A block's parts, in order."""
    return [
        part
        for gated in _by_arrival(graph, block, times)
        for part in _by_departure(graph, gated, times)
    ]


def _by_arrival(graph: Graph, block: Part, times: Times) -> list[Part]:
    """One part for all messages that arrive at about the same time."""
    arrivals = sorted({times.begin_s[name] for name in block.recvs})
    gate_of: dict[float, float] = {}  # arrival → the first of those that wait together
    first = 0.0
    for arrival in arrivals:
        if not gate_of or arrival - first >= _WORTH_A_SEGMENT_S:
            first = arrival
        gate_of[arrival] = first
    if len(set(gate_of.values())) < 2:
        return [block]
    gates = {name: gate_of[times.begin_s[name]] for name in block.recvs}
    parts: dict[float, Part] = {0.0: Part()}
    for name in block.recvs:
        parts.setdefault(gates[name], Part()).recvs.append(name)
    for node in block.nodes:
        gates[node.name] = max((gates.get(name, 0.0) for name in node.inputs), default=0.0)
        parts[gates[node.name]].nodes.append(node)
    for send in block.sends:
        parts[gates.get(graph[send].inputs[0], 0.0)].sends.append(send)
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
    inside = {node.name: node for node in block.nodes}
    done: set[str] = set()
    parts = [Part(block.recvs)]
    for send in sorted(block.sends, key=lambda send: times.begin_s[send]):
        needed = _needed(graph[send].inputs[0], inside, done)
        if parts[-1].sends and times.work_s(inside[n] for n in needed) >= _WORTH_A_SEGMENT_S:
            parts.append(Part())
        parts[-1].nodes += [inside[name] for name in needed]
        parts[-1].sends.append(send)
    later = [node for node in block.nodes if node.name not in done]
    if parts[-1].sends and times.work_s(later) >= _WORTH_A_SEGMENT_S:
        parts.append(Part())
    parts[-1].nodes += later
    order = {name: k for k, name in enumerate([*inside, *block.sends])}
    for part in parts:
        part.nodes.sort(key=lambda node: order[node.name])
        part.sends.sort(key=order.__getitem__)
    return parts


def _needed(name: str, inside: Mapping[str, Node], done: set[str]) -> list[str]:
    """The nodes inside that a value depends on, itself included, and that are not done yet."""
    found: list[str] = []
    pending = [name]
    while pending:
        name = pending.pop()
        if name in inside and name not in done:
            done.add(name)
            found.append(name)
            pending += inside[name].inputs
    return found
