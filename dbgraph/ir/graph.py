"""The graph: nodes in topological order, one value each (SSA)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

from dbgraph.ir.region import Region, grid
from dbgraph.ir.types import NO_ATTRS, Attrs, TensorType, Types
from dbgraph.source import Source


@dataclass(frozen=True, slots=True)
class Cut:
    """How a node's output is divided, and where each tile stands.

    Attributes:
        splits: bounds per axis of the output; `(0, n)` where an axis is whole.
        partitions: the partition of each tile, row-major.
    """

    splits: tuple[tuple[int, ...], ...]
    partitions: tuple[int, ...]

    @staticmethod
    def whole(shape: tuple[int, ...], partition: int) -> Cut:
        return Cut(tuple((0, n) for n in shape), (partition,))

    @property
    def pieces(self) -> tuple[int, ...]:
        """Number of ranges per axis."""
        return tuple(len(s) - 1 for s in self.splits)

    @property
    def count(self) -> int:
        return prod(self.pieces)

    def box(self, index: int) -> Region:
        """The region of the tile with a row-major index."""
        bounds = []
        for s in reversed(self.splits):
            index, i = divmod(index, len(s) - 1)
            bounds.append((s[i], s[i + 1]))
        return Region(tuple(reversed(bounds)))

    def tiles(self) -> Iterator[tuple[Region, int]]:
        return zip(grid(self.splits), self.partitions, strict=True)


@dataclass(frozen=True, slots=True)
class Pin:
    """What the user fixed for a layer: it stays fixed through every pass.

    Attributes:
        partitions: where the layer stands, from `with dbg.partition(…)`; empty: anywhere.
        pieces: (axis of the output, number of pieces), from `cut={"rows": 2}`.
        inner: (name of a reduced axis, number of pieces), from `cut={"inputs": 2}`.
    """

    partitions: tuple[int, ...] = ()
    pieces: tuple[tuple[int, int], ...] = ()
    inner: tuple[tuple[str, int], ...] = ()


NO_PIN = Pin()


@dataclass(frozen=True, slots=True)
class Node:
    """One operation and its value.

    Attributes:
        name: of the value; unique in its graph.
        op: a key of `dbgraph.ops.OPS`.
        inputs: names of values.
        type: of the value.
        layer: the user's layer that it belongs to.
        source: the user's line that declared it.
        pin: what the user fixed.
        cut: what the partition pass chose; None before it.
        partition: where the node stands, once it is a tile.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    type: TensorType
    attrs: Attrs = NO_ATTRS
    layer: str = ""
    source: Source | None = None
    pin: Pin = NO_PIN
    cut: Cut | None = None
    partition: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """All that an op's rules ask about a node: its type, its FLOPs and its memory follow from it.

    Nodes of a graph that agree in these share one object (`Graph.signatures`), which hashes by
    identity: a graph of a million nodes has a few thousand, and what follows is worked out once
    for each.
    """

    op: str
    attrs: Attrs
    inputs: Types
    type: TensorType


@dataclass(frozen=True, slots=True)
class Result:
    """A value that leaves the graph, or one region of it.

    Attributes:
        kind: "loss" (the total, a scalar), "term" (one loss or penalty of several), "output",
            or "gradient".
        name: of the output, or of the parameter for a gradient.
        region: the part of the whole that this value is.
        value: the name of the node.
    """

    kind: str
    name: str
    region: Region
    value: str


@dataclass(frozen=True)
class Graph:
    """A tuple of nodes in topological order, and the values that leave it."""

    nodes: tuple[Node, ...]
    results: tuple[Result, ...] = field(default=())

    @cached_property
    def by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    def __getitem__(self, name: str) -> Node:
        return self.by_name[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def input_types(self, node: Node) -> Types:
        by_name = self.by_name
        return tuple([by_name[name].type for name in node.inputs])

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """Where in `nodes` each value is."""
        return {node.name: i for i, node in enumerate(self.nodes)}

    @cached_property
    def sources(self) -> tuple[tuple[int, ...], ...]:
        """For each node the positions of its inputs: who walks over all edges of a large graph
        several times finds them faster by number than by name."""
        positions = self.positions
        return tuple([tuple([positions[name] for name in node.inputs]) for node in self.nodes])

    @cached_property
    def misread(self) -> tuple[Node, str] | None:
        """The first node that reads a value which is not defined before it, and what is wrong."""
        try:
            if all(max(read, default=-1) < i for i, read in enumerate(self.sources)):
                return None
        except KeyError:
            pass  # one reads a value that is nowhere
        places = self.positions
        return next(
            (node, f"reads %{name}, which is defined {'after it' if name in places else 'nowhere'}")
            for i, node in enumerate(self.nodes)
            for name in node.inputs
            if places.get(name, i) >= i
        )

    @cached_property
    def signatures(self) -> Mapping[str, Signature]:
        """Of all nodes but sends and recvs, of which there are many, and which only move."""
        nodes = self.nodes
        known: dict[tuple[str, Attrs, Types, TensorType], Signature] = {}
        found: dict[str, Signature] = {}
        for node, read in zip(nodes, self.sources, strict=True):
            if node.op in ("send", "recv"):
                continue
            key = (node.op, node.attrs, tuple([nodes[i].type for i in read]), node.type)
            if key not in known:
                known[key] = Signature(*key)
            found[node.name] = known[key]
        return found

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """For each value the nodes that read it, in order, each once."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs if len(node.inputs) == 1 else dict.fromkeys(node.inputs):
                found.setdefault(name, []).append(node)
        return {node.name: tuple(found.get(node.name, ())) for node in self.nodes}

    @cached_property
    def result_values(self) -> frozenset[str]:
        """The values that leave the graph."""
        return frozenset(result.value for result in self.results)

    @cached_property
    def invariant(self) -> frozenset[str]:
        """The values that are the same for all microbatches of a step: neither an input nor the
        clock has an influence on them."""
        found: set[str] = set()
        for node in self.nodes:
            if node.op not in ("input", "clock") and found.issuperset(node.inputs):
                found.add(node.name)
        return frozenset(found)

    def live(self) -> Graph:
        """Without the nodes that no result needs."""
        needed = set(self.result_values)
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.inputs)
        return replace(self, nodes=tuple(n for n in self.nodes if n.name in needed))


def parameters(graph: Iterable[Node]) -> tuple[Node, ...]:
    """The leaves that are parameters."""
    return tuple(node for node in graph if node.op == "parameter")
