"""What crosses between machines, and why: by transfers, and by edges of the network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dbgraph.explain.cargo import Cargo, cargoes
from dbgraph.explain.reasons import SUM, Reason, Reasons
from dbgraph.plan.plan import Plan
from dbgraph.show.digest import layer_of
from dbgraph.source import Source

Ends = tuple[str, str]
"""The layer that a value is of, and the layer that reads it."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """One transfer and its reason.

    Attributes:
        sources: the lines of the user's file that declared the ends.
        times: in a step.
    """

    cargo: Cargo
    reason: Reason
    ends: Ends
    sources: tuple[Source | None, Source | None]
    times: int

    @property
    def bytes_(self) -> int:
        """In one step."""
        return self.cargo.transfer.type.size_bytes * self.times


@dataclass(frozen=True, slots=True)
class Edge:
    """All that crosses for one kind of reason between the machines of two layers, or of one; or
    of two nodes."""

    transfers: tuple[Crossing, ...]

    @property
    def ends(self) -> Ends:
        return self.transfers[0].ends

    @property
    def kind(self) -> str:
        return self.transfers[0].reason.kind

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(axis for one in self.transfers for axis in one.reason.axes))

    @property
    def forward(self) -> Edge:
        return Edge(tuple(one for one in self.transfers if not one.cargo.backward))

    @property
    def backward(self) -> Edge:
        return Edge(tuple(one for one in self.transfers if one.cargo.backward))

    @property
    def bytes_(self) -> int:
        """In one step."""
        return sum(one.bytes_ for one in self.transfers)

    @property
    def messages(self) -> int:
        """In one step."""
        return sum(one.times for one in self.transfers)


def crossings(plan: Plan) -> tuple[Crossing, ...]:
    """One for each transfer, in order."""
    reasons, network = Reasons(plan), plan.network.by_name

    def crossing(cargo: Cargo) -> Crossing:
        reason = reasons.of(cargo)
        # It is the node itself that puts its partial results together.
        names = (cargo.value, cargo.value if reason.kind == SUM else reason.reader)
        value, reader = (network.get(name) or reasons.graph[name] for name in names)
        ends, sources = (layer_of(value), layer_of(reader)), (value.source, reader.source)
        times = cargo.transfer.times(plan.microbatches)
        return Crossing(cargo, reason, ends, sources, times)

    return tuple(crossing(cargo) for cargo in cargoes(plan))


def edges(found: Iterable[Crossing]) -> list[Edge]:
    """By layers; the heaviest first."""
    groups: dict[object, list[Crossing]] = {}
    for one in found:
        groups.setdefault((one.ends, one.reason.kind), []).append(one)
    made = [Edge(tuple(group)) for group in groups.values()]
    return sorted(made, key=lambda edge: -edge.bytes_)


def node_edges(found: Iterable[Crossing]) -> list[Edge]:
    """By nodes of the network, in order."""
    groups: dict[object, list[Crossing]] = {}
    for one in found:
        key = (one.cargo.value, one.reason.reader, one.reason.kind)
        groups.setdefault(key, []).append(one)
    return [Edge(tuple(group)) for group in groups.values()]
