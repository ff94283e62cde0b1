"""What the ways of layers cost, as tables: of each node by its machine and its layer's way; of each
value that it reads by the machines of both tiles and the ways of both layers.

Machines come first in every table, and what is looked up for many plans at once keeps them there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dbgraph.cluster import Cluster
from dbgraph.cost import Work, op_work, work_s
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ir.region import Region, grid_shares
from dbgraph.ir.types import DTYPE_BYTES, Attrs, TensorType, Types
from dbgraph.ops import op
from dbgraph.ops.schema import POINTWISE
from dbgraph.passes.gradient import Derivative, derivatives, reached_by_parameters
from dbgraph.passes.partition.choice import Choices
from dbgraph.passes.tile import atoms_of
from dbgraph.passes.views import resolve

Table = NDArray[np.float64]
Space = Sequence[Sequence[Choices]]
"""For each layer its ways."""


@dataclass(frozen=True)
class Read:
    """A value of another node of the space, as one input of a node.

    Attributes:
        index: which input.
        returned: its cotangent comes back.
        sent_bytes: from each machine's tile to each machine's. [from, to, its way, reader's way]
        tile_bytes: of its own tiles. [machine, its way]
        known: what is copied on the way follows from these.
    """

    value: str
    layer: int
    index: int
    returned: bool
    sent_bytes: Table
    tile_bytes: Table
    known: bool


@dataclass(frozen=True)
class Weights:
    """A parameter, as one input of a node.

    Attributes:
        size_bytes: of its boxes, disjoint ones that different machines read. [box, way]
        read: which machines read each. [box, machine, way]
    """

    name: str
    index: int
    size_bytes: Table
    read: NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """A node that computes.

    Attributes:
        placed: whether it has a tile. [machine, way]
        forward_s: 0 where it has none. Likewise.
        backward_s: by each input. Likewise.
        given: for each input the inputs that its derivative is computed from.
    """

    name: str
    layer: int
    placed: NDArray[np.bool_]
    forward_s: Table
    backward_s: tuple[Table, ...]
    given: Mapping[int, tuple[int, ...]]
    reads: tuple[Read, ...]
    weights: tuple[Weights, ...]


class _Tile(NamedTuple):
    """
    Attributes:
        wanted: for each input the regions of other values that it consists of.
    """

    place: int
    region: Region
    reads: tuple[Region, ...]
    wanted: tuple[tuple[tuple[str, Region], ...], ...]


class Tables:
    """The rows of all nodes of a space, in the graph's order.

    Each way gives a node at most one tile on each machine.
    """

    def __init__(self, graph: Graph, space: Space, cluster: Cluster) -> None:
        self.graph, self.space, self.cluster = graph, space, cluster
        self.layer = {name: k for k, ways in enumerate(space) for name in ways[0]}
        self.returned = _returned(graph)
        self.rows = [self._row(node) for node in graph if node.name in self.layer]

    def _row(self, node: Node) -> Row:
        layer = self.layer[node.name]
        by_way = [self._tiles(node, choices[node.name].cut) for choices in self.space[layer]]
        shape = (len(self.cluster.machines), len(by_way))
        placed, forward_s = np.zeros(shape, np.bool_), np.zeros(shape)
        backward_s = tuple(np.zeros(shape) for _ in node.inputs)
        given: dict[int, tuple[int, ...]] = {}
        for way, tiles in enumerate(by_way):
            for tile in tiles:
                placed[tile.place, way] = True
                forward_s[tile.place, way] = self._forward_s(node, tile)
                for k, by_input in self._derivatives(node, tile):
                    given[k] = by_input.given
                    backward_s[k][tile.place, way] = self._backward_s(node, tile, k, by_input)
        reads: list[Read] = []
        weights: list[Weights] = []
        for k in range(len(node.inputs)):
            for name in dict.fromkeys(name for name, _ in by_way[0][0].wanted[k]):
                if self.graph[name].op == "parameter":
                    weights.append(self._weights(name, k, by_way))
                elif name in self.layer:
                    reads.append(self._read(name, layer, k, by_way))
        return Row(
            node.name, layer, placed, forward_s, backward_s, given, tuple(reads), tuple(weights)
        )

    def _tiles(self, node: Node, cut: Cut) -> list[_Tile]:
        rule, types = op(node.op), self.graph.input_types(node)
        found = []
        for region, place in cut.tiles():
            reads = rule.reads(node.attrs, types, region)
            wanted = tuple(
                tuple((need.value, need.region) for need in resolve(self.graph, name, read))
                for name, read in zip(node.inputs, reads, strict=True)
            )
            found.append(_Tile(place, region, reads, wanted))
        return found

    # What a tile computes

    def _local(self, node: Node, tile: _Tile) -> tuple[Attrs, Types, TensorType]:
        types = self.graph.input_types(node)
        attrs = op(node.op).localize(node.attrs, types, tile.region)
        inputs = tuple(t.with_shape(r.shape) for t, r in zip(types, tile.reads, strict=True))
        return attrs, inputs, node.type.with_shape(tile.region.shape)

    def _forward_s(self, node: Node, tile: _Tile) -> float:
        attrs, inputs, out = self._local(node, tile)
        machine = self.cluster.machines[tile.place]
        return work_s(op_work(node.op, attrs, inputs, out), out.dtype, machine)

    def _derivatives(self, node: Node, tile: _Tile) -> Iterator[tuple[int, Derivative]]:
        """By each input whose cotangent is computed."""
        if node.name in self.returned:
            attrs, inputs, _ = self._local(node, tile)
            for k, by_input in enumerate(derivatives(op(node.op), attrs, inputs)):
                if node.inputs[k] in self.returned and by_input.op:
                    yield k, by_input

    def _backward_s(self, node: Node, tile: _Tile, k: int, by_input: Derivative) -> float:
        _, inputs, out = self._local(node, tile)
        taken = (*(inputs[i] for i in by_input.given), out)
        work = op_work(by_input.op, by_input.attrs, taken, inputs[k])
        return work_s(work, inputs[k].dtype, self.cluster.machines[tile.place])

    # What a tile reads

    def _weights(self, name: str, index: int, by_way: Sequence[Sequence[_Tile]]) -> Weights:
        boxes: list[list[tuple[Region, tuple[int, ...]]]] = []
        for tiles in by_way:
            demand: dict[int, set[Region]] = defaultdict(set)
            for tile in tiles:
                demand[tile.place].update(r for n, r in tile.wanted[index] if n == name)
            boxes.append(atoms_of(demand))
        most = max(map(len, boxes))
        size_bytes = np.zeros((most, len(by_way)))
        read = np.zeros((most, len(self.cluster.machines), len(by_way)), np.bool_)
        for way, of_way in enumerate(boxes):
            for k, (box, readers) in enumerate(of_way):
                size_bytes[k, way] = box.size * self._item_bytes(name)
                read[k, list(readers), way] = True
        return Weights(name, index, size_bytes, read)

    def _read(self, name: str, layer: int, index: int, by_way: Sequence[Sequence[_Tile]]) -> Read:
        own, count = self.layer[name], len(self.cluster.machines)
        cuts = [choices[name].cut for choices in self.space[own]]
        sent_bytes = np.zeros((count, count, len(cuts), len(by_way)))
        tile_bytes = np.zeros((count, len(cuts)))
        for there, cut in enumerate(cuts):
            for region, place in cut.tiles():
                tile_bytes[place, there] = region.size
            # Nodes of one layer stand in the same way.
            for here in range(len(by_way)) if own != layer else (there,):
                for tile in by_way[here]:
                    for k, size in _taken(cut, name, tile.wanted[index]):
                        sent_bytes[cut.partitions[k], tile.place, there, here] += size
        known = all(len(tile.wanted[index]) == 1 for tiles in by_way for tile in tiles)
        item_bytes, returned = self._item_bytes(name), name in self.returned
        sent_bytes, tile_bytes = sent_bytes * item_bytes, tile_bytes * item_bytes
        return Read(name, own, index, returned, sent_bytes, tile_bytes, known)

    def _item_bytes(self, name: str) -> int:
        return DTYPE_BYTES[self.graph[name].type.dtype]


def _taken(cut: Cut, name: str, wanted: Sequence[tuple[str, Region]]) -> Iterator[tuple[int, int]]:
    """(tile, elements) of a value that some regions take."""
    for value, region in wanted:
        if value == name:
            yield from grid_shares(cut.splits, region)


def _returned(graph: Graph) -> set[str]:
    """The values whose cotangents are computed."""
    trained = reached_by_parameters(graph)
    found = {r.value for r in graph.results if r.kind == "loss"} & trained
    for node in reversed(graph.nodes):
        if node.name in found:
            found.update(trained.intersection(node.inputs))
    return found


def byte_s(cluster: Cluster) -> Table:
    """Seconds of reading or writing a byte in memory, of each machine."""
    byte, nothing = Work(POINTWISE, 0, 1), Work(POINTWISE, 0, 0)
    return np.array(
        [work_s(byte, "float32", m) - work_s(nothing, "float32", m) for m in cluster.machines]
    )
