"""tile: every node becomes one node per tile, and every read becomes the region that it needs.

What follows from interval arithmetic alone: the region of each input that a tile reads, the tiles
that hold it, and, where they stand on another partition, the disjoint boxes of each that cross,
each once, however many tiles there read them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, NamedTuple

from dbgraph.ir.graph import Cut, Graph, Node, Result
from dbgraph.ir.region import Region, disjoint, grid_overlap
from dbgraph.ir.types import Attrs
from dbgraph.ops import op
from dbgraph.passes.views import Need, resolve

_LOCAL_LEAVES = ("input", "clock", "fill")  # every partition has its own


@dataclass(frozen=True)
class Tile:
    """Rewrites a placed graph into tiles."""

    name: ClassVar[str] = "tile"
    ensures: ClassVar[str] = "tiled"

    def __call__(self, graph: Graph) -> Graph:
        return _Tiling(graph).run()


class Piece(NamedTuple):
    """One tile of a value: its region there, where it stands, the node that computes it."""

    region: Region
    partition: int
    node: str


@dataclass(frozen=True)
class _Value:
    """The pieces of one value, found fast: by grid where it has one."""

    pieces: tuple[Piece, ...]
    splits: tuple[tuple[int, ...], ...] | None = None

    def overlapping(self, region: Region, partition: int) -> Iterator[Piece]:
        """The pieces that a reader on a partition takes a region from."""
        if self.splits is not None:
            for index in grid_overlap(self.splits, region):
                yield self.pieces[index]
            return
        for piece in self.pieces:
            if piece.region.overlaps(region):
                yield piece


@dataclass(frozen=True)
class _LocalValue(_Value):
    """A leaf that every partition holds for itself."""

    @cached_property
    def _by_partition(self) -> dict[int, list[Piece]]:
        found: dict[int, list[Piece]] = defaultdict(list)
        for piece in self.pieces:
            found[piece.partition].append(piece)
        return found

    def overlapping(self, region: Region, partition: int) -> Iterator[Piece]:
        for piece in self._by_partition[partition]:
            if piece.region.overlaps(region):
                yield piece


class _Tiling:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = {}
        self.values: dict[str, _Value] = {}
        # (node name, tile index) → for each input what it needs
        self.reads: dict[tuple[str, int], list[list[Need]]] = {}
        # value → partition → regions that its tiles there read
        self.demand: dict[str, dict[int, list[Region]]] = defaultdict(lambda: defaultdict(list))
        # (tile node, partition) → the boxes of the tile that cross to that partition
        self.crossing: dict[tuple[str, int], list[Region]] = {}
        self.assembled: dict[tuple[object, ...], str] = {}
        self.owned_bytes: dict[int, int] = defaultdict(int)

    def run(self) -> Graph:
        for node in self.graph:
            self._collect_demand(node)
        for result in self.graph.results:
            self._demand_leaf_result(result)
        for node in self.graph:
            self._emit(node)
        results = [r for result in self.graph.results for r in self._results(result)]
        return Graph(tuple(self.nodes.values()), tuple(results))

    # What is read

    def _collect_demand(self, node: Node) -> None:
        if node.cut is None:
            return
        rule, types = op(node.op), self.graph.input_types(node)
        for index, (region, partition) in enumerate(node.cut.tiles()):
            needs = []
            for name, read in zip(node.inputs, rule.reads(node.attrs, types, region), strict=True):
                resolved = list(resolve(self.graph, name, read))
                for need in resolved:
                    self.demand[need.value][partition].append(need.region)
                needs.append(resolved)
            self.reads[node.name, index] = needs

    def _demand_leaf_result(self, result: Result) -> None:
        """An output that is a leaf is read by partition 0."""
        for need in self._resolve_whole(result):
            if self.graph[need.value].cut is None:
                self.demand[need.value][0].append(need.region)

    def _resolve_whole(self, result: Result) -> Iterable[Need]:
        whole = Region.whole(self.graph[result.value].type.shape)
        return resolve(self.graph, result.value, whole)

    # Tiles

    def _emit(self, node: Node) -> None:
        if node.op in _LOCAL_LEAVES:
            self._emit_local_leaf(node)
        elif node.op == "parameter":
            self._emit_parameter(node)
        elif node.cut is not None:
            self._emit_tiles(node, node.cut)
        self._find_crossings(node.name)

    def _emit_local_leaf(self, node: Node) -> None:
        pieces = []
        for partition, regions in sorted(self.demand[node.name].items()):
            for k, box in enumerate(disjoint(regions)):
                name = f"{node.name}@{partition}" + (f".{k}" if k else "")
                pieces.append(self._add_tile(node, name, box, partition, ()))
        self.values[node.name] = _LocalValue(tuple(pieces))

    def _emit_parameter(self, node: Node) -> None:
        atoms = _atoms(self.demand[node.name])
        pieces = []
        for k, (box, readers) in enumerate(atoms):
            owner = min(readers, key=lambda p: (self.owned_bytes[p], p))
            name = node.name if len(atoms) == 1 else f"{node.name}[{k}]"
            pieces.append(self._add_tile(node, name, box, owner, ()))
            self.owned_bytes[owner] += self.nodes[name].type.size_bytes
        self.values[node.name] = _Value(tuple(pieces))

    def _emit_tiles(self, node: Node, cut: Cut) -> None:
        pieces = []
        for index, (region, partition) in enumerate(cut.tiles()):
            name = node.name if cut.count == 1 else f"{node.name}[{index}]"
            inputs = tuple(
                self._input(needs, partition, f"{name}.in{i}", node)
                for i, needs in enumerate(self.reads[node.name, index])
            )
            pieces.append(self._add_tile(node, name, region, partition, inputs))
        self.values[node.name] = _Value(tuple(pieces), cut.splits)

    def _add_tile(
        self, node: Node, name: str, region: Region, partition: int, inputs: tuple[str, ...]
    ) -> Piece:
        attrs = op(node.op).localize(node.attrs, self.graph.input_types(node), region)
        self.nodes[name] = replace(
            node,
            name=name,
            inputs=inputs,
            attrs=attrs,
            type=node.type.with_shape(region.shape),
            cut=Cut(region.bounds, (partition,)),
            partition=partition,
        )
        return Piece(region, partition, name)

    # What crosses

    def _find_crossings(self, value: str) -> None:
        """For each tile and each other partition: the disjoint boxes of it that are read there."""
        if value not in self.values or isinstance(self.values[value], _LocalValue):
            return
        wanted: dict[tuple[str, int], list[Region]] = defaultdict(list)
        for partition, regions in self.demand[value].items():
            for region in dict.fromkeys(regions):
                for piece in self.values[value].overlapping(region, partition):
                    if piece.partition != partition:
                        common = piece.region.intersect(region).within(piece.region)
                        wanted[piece.node, partition].append(common)
        for key, boxes in wanted.items():
            self.crossing[key] = disjoint(boxes)

    def _input(self, needs: list[Need], partition: int, name: str, reader: Node) -> str:
        """The node on the reader's partition that holds what one input of a tile needs."""
        parts = [part for need in needs for part in self._parts(need, partition)]
        shape = _extent(needs)
        source, box, *_ = parts[0]
        if len(parts) == 1 and box == Region.whole(self.nodes[source].type.shape):
            return source
        return self._assemble(parts, shape, partition, name, reader)

    def _parts(
        self, need: Need, partition: int
    ) -> Iterator[tuple[str, Region, tuple[int, ...], int]]:
        """(node, box in it, place in the reader's region, partition) for one need."""
        for piece in self.values[need.value].overlapping(need.region, partition):
            common = piece.region.intersect(need.region)
            to = tuple(
                t + c - r for t, c, r in zip(need.to, common.start, need.region.start, strict=True)
            )
            if piece.partition == partition:
                yield piece.node, common.within(piece.region), to, partition
                continue
            inside = common.within(piece.region)
            for box in self.crossing[piece.node, partition]:
                part = box.intersect(inside)
                if part.empty:
                    continue
                moved = tuple(
                    t + p - i for t, p, i in zip(to, part.start, inside.start, strict=True)
                )
                yield self._crop(piece, box), part.within(box), moved, piece.partition

    def _crop(self, piece: Piece, box: Region) -> str:
        """A box of a tile, cut out where the tile stands, so that no more than it crosses."""
        tile = self.nodes[piece.node]
        if box == Region.whole(tile.type.shape):
            return piece.node
        parts = [(piece.node, box, (0,) * box.rank, piece.partition)]
        name = f"{piece.node}#{_dashed(box)}"
        return self._assemble(parts, box.shape, piece.partition, name, tile)

    def _assemble(
        self,
        parts: list[tuple[str, Region, tuple[int, ...], int]],
        shape: tuple[int, ...],
        partition: int,
        name: str,
        blame: Node,
    ) -> str:
        inputs = tuple(dict.fromkeys(source for source, *_ in parts))
        pieces = tuple(
            (inputs.index(source), box.start, to, box.shape) for source, box, to, _ in parts
        )
        key = (inputs, pieces, partition)
        if key not in self.assembled:
            self.assembled[key] = name
            first = self.nodes[inputs[0]]
            self.nodes[name] = Node(
                name,
                "assemble",
                inputs,
                first.type.with_shape(shape),
                Attrs(shape=shape, pieces=pieces),
                layer=first.layer if len(inputs) == 1 else blame.layer,
                source=blame.source,
                partition=partition,
            )
        return self.assembled[key]

    # Results

    def _results(self, result: Result) -> Iterator[Result]:
        for need in self._resolve_whole(result):
            for piece in self.values[need.value].overlapping(need.region, partition=0):
                common = piece.region.intersect(need.region)
                at = tuple(
                    t + c - r
                    for t, c, r in zip(need.to, common.start, need.region.start, strict=True)
                )
                node = self._crop(piece, common.within(piece.region))
                yield replace(result, region=Region.at(at, common.shape), value=node)


def _extent(needs: list[Need]) -> tuple[int, ...]:
    """The shape of the reader's region, of the needs that fill it."""
    rank = len(needs[0].to)
    return tuple(max(n.to[a] + n.region.shape[a] for n in needs) for a in range(rank))


def _dashed(box: Region) -> str:
    return "_".join(f"{a}-{b}" for a, b in box.bounds)


def _atoms(demand: dict[int, list[Region]]) -> list[tuple[Region, tuple[int, ...]]]:
    """Disjoint boxes of a parameter, each with the partitions that read it."""
    atoms: list[tuple[Region, tuple[int, ...]]] = []
    for partition, regions in sorted(demand.items()):
        fresh = disjoint(regions)
        updated: list[tuple[Region, tuple[int, ...]]] = []
        for box, readers in atoms:
            rest = [box]
            for other in fresh:
                if other.overlaps(box):
                    updated.append((box.intersect(other), (*readers, partition)))
                    rest = [r for b in rest for r in b.subtract(other)]
            updated.extend((r, readers) for r in rest)
            fresh = [f for g in fresh for f in g.subtract(box)]
        atoms = updated + [(f, (partition,)) for f in fresh]
    return sorted(atoms)
