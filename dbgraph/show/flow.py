"""A plan collapsed by layer: for each layer and partition one cell, and the bytes between cells.
What drawings draw; computed in linear time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dbgraph.cost import node_flop
from dbgraph.ir.graph import Node
from dbgraph.ops import COMMUNICATION, LEAVES
from dbgraph.show.digest import Digest, layer_of

Place = tuple[str, int]
"""A layer and a partition."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one partition has of one layer.

    Attributes:
        tiles: of the forward pass.
        flop: in one step, the backward pass included.
    """

    layer: str
    partition: int
    tiles: int
    parameters: int
    flop: int


@dataclass(frozen=True, slots=True)
class Edge:
    """What flows from a cell to another in a step; 0 bytes where both are on one partition."""

    source: Place
    to: Place
    bytes: int
    backward: bool


@dataclass(frozen=True)
class Flow:
    """Cells, edges, and the rank of each layer: inputs stand at 0."""

    ranks: Mapping[str, int]
    cells: Mapping[Place, Cell]
    edges: tuple[Edge, ...]


def flow(digest: Digest) -> Flow:
    """The collapsed plan."""
    return Flow(_ranks(digest), _cells(digest), tuple(_edges(digest)))


def _ranks(digest: Digest) -> Mapping[str, int]:
    """The longest way from an input, in layers; what reads nothing stands just before its first
    reader. An edge against the order of declaration counts for nothing."""
    order: dict[str, int] = {}
    reads: dict[str, set[str]] = defaultdict(set)
    network = digest.plan.network
    for node in network:
        if node.op == "clock":
            continue
        name = layer_of(node)
        order.setdefault(name, len(order))
        reads[name].update(
            layer_of(network[value]) for value in node.inputs if network[value].op != "clock"
        )
    ranks: dict[str, int] = {}
    for name in order:
        before = [ranks[other] for other in reads[name] if order[other] < order[name]]
        ranks[name] = max(before, default=-1) + 1
    first: dict[str, int] = {}
    for name in order:
        for other in reads[name] - {name}:
            first[other] = min(first.get(other, ranks[name]), ranks[name])
    return {
        name: rank if reads[name] - {name} else max(first.get(name, 1) - 1, 0)
        for name, rank in ranks.items()
    }


def _cells(digest: Digest) -> Mapping[Place, Cell]:
    graph, plan = digest.plan.graph, digest.plan
    tiles: dict[Place, int] = defaultdict(int)
    parameters: dict[Place, int] = defaultdict(int)
    flop: dict[Place, int] = defaultdict(int)
    for node in graph:
        if node.op in COMMUNICATION or node.op == "clock":
            continue
        place = _place(node)
        if node.op == "parameter":
            parameters[place] += node.type.size
        if node.cut is not None:
            tiles[place] += node.op not in LEAVES
        elif node.op == "assemble":
            continue  # it belongs to what it was made for
        flop[place] += node_flop(graph, node) * plan.microbatches
    places = dict.fromkeys((*flop, *tiles))
    return {place: Cell(*place, tiles[place], parameters[place], flop[place]) for place in places}


def _edges(digest: Digest) -> Iterator[Edge]:
    """Transfers by their bytes, and what stays on its partition once per pair of layers."""
    plan, graph = digest.plan, digest.plan.graph
    crossing: dict[tuple[Place, Place, bool], int] = defaultdict(int)
    for t in plan.transfers:
        readers = list(dict.fromkeys(_readers(digest, t.recv))) or [_place(graph[t.recv])]
        key = (_place(graph[t.value]), readers[0], t.value in digest.backward)
        crossing[key] += t.type.size_bytes * t.times(plan.microbatches)
    local: dict[tuple[Place, Place], None] = {}
    for node in graph:
        if node.op in COMMUNICATION or node.name in digest.backward:
            continue
        for value in node.inputs:
            if graph[value].op not in (*COMMUNICATION, "clock") and _place(graph[value]) != _place(
                node
            ):
                local[_place(graph[value]), _place(node)] = None
    yield from (Edge(a, b, 0, False) for a, b in local)
    yield from (Edge(a, b, size, back) for (a, b, back), size in crossing.items())


def _readers(digest: Digest, value: str) -> Iterator[Place]:
    """The cells that read a value, seen through what only puts it together."""
    for reader in digest.plan.graph.consumers[value]:
        if reader.op == "assemble":
            yield from _readers(digest, reader.name)
        else:
            yield _place(reader)


def _place(node: Node) -> Place:
    assert node.partition is not None
    return layer_of(node), node.partition
