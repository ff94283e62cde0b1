"""tile: every node becomes one node per tile, and every read becomes the region that it needs.

What follows from interval arithmetic alone: the region of each input that a tile reads, the tiles
that hold it, and, where they stand on another partition, the disjoint boxes of each that cross,
each once, however many tiles there read them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from dbgraph.ir.graph import Cut, Graph, Node, Result
from dbgraph.ir.region import Region, disjoint, touching
from dbgraph.ir.types import Attrs, TensorType
from dbgraph.ops import op
from dbgraph.passes.pieces import Grid, Local, Piece, Pieces, pieces_of
from dbgraph.passes.views import Need, resolve

_LOCAL_LEAVES = ("input", "clock", "fill")  # every partition has its own


@dataclass(frozen=True)
class Tile:
    """Rewrites a placed graph into tiles."""

    name: ClassVar[str] = "tile"
    ensures: ClassVar[str] = "tiled"

    def __call__(self, graph: Graph) -> Graph:
        return _Tiling(graph).run()


class _Place(NamedTuple):
    """One tile of a node, to be made."""

    name: str
    region: Region
    partition: int
    inputs: tuple[str, ...] = ()


class _Part(NamedTuple):
    """A box of a node's value, from `start` on, and where in the reader's region it goes."""

    node: str
    start: tuple[int, ...]
    to: tuple[int, ...]
    shape: tuple[int, ...]


Needs = tuple[Need, ...]
"""What one input of a tile consists of."""


class _Tiling:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = {}
        self.values: dict[str, Pieces] = {}
        # node name → for each tile, for each input, what it needs
        self.reads: dict[str, list[list[Needs]]] = {}
        # value → partition → regions that its tiles there read
        self.demand: dict[str, dict[int, set[Region]]] = defaultdict(lambda: defaultdict(set))
        # (tile node, partition) → the boxes of the tile that cross to that partition
        self.crossing: dict[tuple[str, int], list[Region]] = {}
        # (partition, needs) → the node there that holds them
        self.held: dict[tuple[int, Needs], str] = {}
        # (tile node, box of it) → the node that holds just that
        self.cropped: dict[tuple[str, Region], str] = {}
        self.assembled: dict[tuple[object, ...], str] = {}
        self.owned_bytes: dict[int, int] = defaultdict(int)
        # Tiles repeat their shapes and attributes: each once.
        self.types: dict[TensorType, TensorType] = {}

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
        of_tiles: list[list[Needs]] = []
        for region, partition in node.cut.tiles():
            reads = rule.reads(node.attrs, types, region)
            needs = [
                tuple(resolve(self.graph, name, read))
                for name, read in zip(node.inputs, reads, strict=True)
            ]
            for need in (need for of_input in needs for need in of_input):
                self.demand[need.value][partition].add(need.region)
            of_tiles.append(needs)
        self.reads[node.name] = of_tiles

    def _demand_leaf_result(self, result: Result) -> None:
        """An output that is a leaf is read by partition 0."""
        for need in self._resolve_whole(result):
            if self.graph[need.value].cut is None:
                self.demand[need.value][0].add(need.region)

    def _resolve_whole(self, result: Result) -> Iterable[Need]:
        whole = Region.whole(self.graph[result.value].type.shape)
        return resolve(self.graph, result.value, whole)

    # Tiles

    def _emit(self, node: Node) -> None:
        if node.op in _LOCAL_LEAVES:
            self.values[node.name] = Local(self._add_tiles(node, self._local_leaf(node)))
        elif node.op == "parameter":
            self.values[node.name] = pieces_of(self._add_tiles(node, self._parameter(node)))
            self._find_crossings(node.name)
        elif node.cut is not None:
            pieces = self._add_tiles(node, self._computed(node, node.cut))
            self.values[node.name] = Grid(pieces, node.cut.splits)
            self._find_crossings(node.name)

    def _local_leaf(self, node: Node) -> Iterator[_Place]:
        for partition, regions in sorted(self.demand[node.name].items()):
            for k, box in enumerate(disjoint(regions)):
                name = f"{node.name}@{partition}" + (f".{k}" if k else "")
                yield _Place(name, box, partition)

    def _parameter(self, node: Node) -> Iterator[_Place]:
        """Each box is owned by one of those that read it: who owns least so far."""
        atoms = atoms_of(self.demand[node.name])
        item_bytes = node.type.size_bytes // node.type.size
        for k, (box, readers) in enumerate(atoms):
            owner = min(readers, key=lambda p: (self.owned_bytes[p], p))
            self.owned_bytes[owner] += box.size * item_bytes
            yield _Place(_numbered(node.name, k, len(atoms)), box, owner)

    def _computed(self, node: Node, cut: Cut) -> Iterator[_Place]:
        reads = self.reads.pop(node.name)
        for index, (region, partition) in enumerate(cut.tiles()):
            name = _numbered(node.name, index, cut.count)
            inputs = [
                self._input(needs, partition, f"{name}.in{i}", node)
                for i, needs in enumerate(reads[index])
            ]
            yield _Place(name, region, partition, tuple(inputs))

    def _add_tiles(self, node: Node, places: Iterable[_Place]) -> list[Piece]:
        localize, types = op(node.op).localize, self.graph.input_types(node)
        same: dict[Attrs, Attrs] = {}
        pieces = []
        for name, region, partition, inputs in places:
            attrs = localize(node.attrs, types, region)
            self.nodes[name] = Node(
                name,
                node.op,
                inputs,
                self._type(node, region.shape),
                same.setdefault(attrs, attrs),
                node.layer,
                node.source,
                node.pin,
                Cut(region.bounds, (partition,)),
                partition,
            )
            pieces.append(Piece(region, partition, name))
        return pieces

    def _type(self, like: Node, shape: tuple[int, ...]) -> TensorType:
        found = like.type.with_shape(shape)
        return self.types.setdefault(found, found)

    # What crosses

    def _find_crossings(self, value: str) -> None:
        """For each tile and each other partition: the disjoint boxes of it that are read there."""
        wanted: dict[tuple[str, int], list[Region]] = defaultdict(list)
        for partition, regions in self.demand[value].items():
            for region in regions:
                for piece, part in self.values[value].taken(region, partition):
                    if piece.partition != partition:
                        wanted[piece.node, partition].append(part.within(piece.region))
        for key, boxes in wanted.items():
            self.crossing[key] = disjoint(boxes)

    def _input(self, needs: Needs, partition: int, name: str, reader: Node) -> str:
        """The node on the reader's partition that holds what one input of a tile needs."""
        key = (partition, needs)
        if key not in self.held:
            parts = [part for need in needs for part in self._parts(need, partition)]
            self.held[key] = self._joined(parts, _extent(needs), partition, name, reader)
        return self.held[key]

    def _parts(self, need: Need, partition: int) -> Iterator[_Part]:
        """Where on the reader's partition what it needs is, or comes to be."""
        for piece, taken in self.values[need.value].taken(need.region, partition):
            to = _moved(need.to, taken, need.region)
            inside = taken.within(piece.region)
            if piece.partition == partition:
                yield _Part(piece.node, inside.start, to, inside.shape)
                continue
            for box in self.crossing[piece.node, partition]:
                part = box.intersect(inside)
                if not part.empty:
                    node, start = self._crop(piece, box), part.within(box).start
                    yield _Part(node, start, _moved(to, part, inside), part.shape)

    def _crop(self, piece: Piece, box: Region) -> str:
        """A box of a tile, cut out where the tile stands, so that no more than it crosses."""
        key = (piece.node, box)
        if key not in self.cropped:
            name, tile = f"{piece.node}#{_dashed(box)}", self.nodes[piece.node]
            part = _Part(piece.node, box.start, (0,) * box.rank, box.shape)
            self.cropped[key] = self._joined([part], box.shape, piece.partition, name, tile)
        return self.cropped[key]

    def _joined(
        self,
        parts: list[_Part],
        shape: tuple[int, ...],
        partition: int,
        name: str,
        reader: Node,
    ) -> str:
        """A node that holds the parts: the one of which they are all, or an assemble."""
        if len(parts) == 1 and parts[0].shape == self.nodes[parts[0].node].type.shape:
            return parts[0].node
        inputs = tuple(dict.fromkeys([part.node for part in parts]))
        number = {node: k for k, node in enumerate(inputs)}
        pieces = tuple([(number[node], start, to, n) for node, start, to, n in parts])
        key = (inputs, pieces, partition)
        if key not in self.assembled:
            self.assembled[key] = name
            first = self.nodes[inputs[0]]
            self.nodes[name] = Node(
                name,
                "assemble",
                inputs,
                self._type(first, shape),
                Attrs(shape=shape, pieces=pieces),
                layer=first.layer if len(inputs) == 1 else reader.layer,
                source=reader.source,
                partition=partition,
            )
        return self.assembled[key]

    # Results

    def _results(self, result: Result) -> Iterator[Result]:
        for need in self._resolve_whole(result):
            for piece, part in self.values[need.value].taken(need.region, partition=0):
                at = _moved(need.to, part, need.region)
                node = self._crop(piece, part.within(piece.region))
                yield replace(result, region=Region.at(at, part.shape), value=node)


def _numbered(name: str, index: int, count: int) -> str:
    return name if count == 1 else f"{name}[{index}]"


def _moved(to: tuple[int, ...], part: Region, whole: Region) -> tuple[int, ...]:
    """Where a part goes if the whole goes to `to`."""
    pairs = zip(to, part.bounds, whole.bounds, strict=True)
    return tuple([t + a - o for t, (a, _), (o, _) in pairs])


def _extent(needs: Needs) -> tuple[int, ...]:
    """The shape of the reader's region, of the needs that fill it."""
    rank = len(needs[0].to)
    ends = [[n.to[a] + n.region.shape[a] for a in range(rank)] for n in needs]
    return tuple(map(max, zip(*ends, strict=True)))


def _dashed(box: Region) -> str:
    return "_".join([f"{a}-{b}" for a, b in box.bounds])


def atoms_of(demand: dict[int, set[Region]]) -> list[tuple[Region, tuple[int, ...]]]:
    """Disjoint boxes of a parameter, each with the partitions that read it."""
    readers: dict[Region, list[int]] = defaultdict(list)
    for partition, regions in sorted(demand.items()):
        for box in disjoint(regions):
            readers[box].append(partition)
    groups = touching(list(readers))
    return sorted(atom for boxes in groups for atom in _cut_up(boxes, readers))


def _cut_up(
    boxes: list[Region], readers: dict[Region, list[int]]
) -> list[tuple[Region, tuple[int, ...]]]:
    """Boxes that overlap, as disjoint ones."""
    if len(boxes) == 1:
        return [(boxes[0], tuple(readers[boxes[0]]))]
    wanted: dict[int, list[Region]] = defaultdict(list)
    for box in sorted(boxes):
        for partition in readers[box]:
            wanted[partition].append(box)
    atoms: list[tuple[Region, tuple[int, ...]]] = []
    for partition, fresh in sorted(wanted.items()):
        updated: list[tuple[Region, tuple[int, ...]]] = []
        for box, known in atoms:
            rest = [box]
            for other in fresh:
                if other.overlaps(box):
                    updated.append((box.intersect(other), (*known, partition)))
                    rest = [r for b in rest for r in b.subtract(other)]
            updated.extend((r, known) for r in rest)
            fresh = [f for g in fresh for f in g.subtract(box)]
        atoms = updated + [(f, (partition,)) for f in fresh]
    return atoms
