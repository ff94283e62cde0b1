"""The cuts that `tiles` considers for a node."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ir.region import Region
from dbgraph.ops import op
from dbgraph.passes.partition.choice import (
    Choice,
    even_cut,
    inner_choice,
    reduced_length,
    reductions_of,
)

# Of the grids with equally many tiles, only those that read least are priced.
_GRIDS = 6


def candidates(
    graph: Graph, node: Node, places: tuple[int, ...], batched: bool
) -> Iterator[Choice]:
    """Standing whole, grids of tiles, and each reduction cut into as many ranges."""
    for place in places if len(places) <= 4 else places[:1]:
        yield Choice(Cut.whole(node.type.shape, place))
    for pieces in _grids(graph, node, range(len(places), 1, -1), batched):
        yield Choice(even_cut(node.type.shape, pieces, places))
    for reduction in reductions_of(graph, node):
        count = min(len(places), reduced_length(graph, node, reduction))
        if count > 1 and op(node.op).combine:
            yield inner_choice(graph, node, {reduction.name: count}, places)


def spreading(
    graph: Graph, node: Node, places: tuple[int, ...], batched: bool
) -> Iterator[Choice]:
    """Those that give every place something to do, with more tiles than places if need be."""
    count = len(places)
    for pieces in _grids(graph, node, range(count, 2 * count), batched):
        choice = Choice(even_cut(node.type.shape, pieces, places))
        if choice.partitions == set(places):
            yield choice
    for reduction in reductions_of(graph, node):
        if reduced_length(graph, node, reduction) >= count and op(node.op).combine:
            yield inner_choice(graph, node, {reduction.name: count}, places)


def most_tiles(graph: Graph, node: Node, batched: bool) -> int:
    """How finely a node can be cut in one way."""
    rule, types = op(node.op), graph.input_types(node)
    axes = rule.cut_axes(node.attrs, types)
    lengths = [node.type.shape[a] for a in axes]
    batch = [lengths.pop(0)] if batched and 0 in axes else []
    reduced = [reduced_length(graph, node, r) for r in reductions_of(graph, node)]
    most: int = max([prod(lengths), *batch, *(reduced if rule.combine else ())])
    return most


def _grids(graph: Graph, node: Node, counts: range, batched: bool) -> list[dict[int, int]]:
    """Grids of the first number of tiles that there is one of; the batch is cut alone or not at
    all."""
    rule, types = op(node.op), graph.input_types(node)
    axes = rule.cut_axes(node.attrs, types)
    shape = node.type.shape
    inner_axes = tuple(a for a in axes if not (batched and a == 0))
    whole_read = Region.whole(shape)
    grids: list[dict[int, int]] = []
    for tiles in counts:
        grids = [dict(g) for g in _factorisations(tiles, inner_axes, shape)]
        if grids:
            break

    def read_elements(pieces: dict[int, int]) -> int:
        """Of a largest tile, in the middle, where it has all its halos."""
        region = whole_read
        for axis, n in pieces.items():
            length = -(-shape[axis] // n)
            start = min(n // 2 * shape[axis] // n, shape[axis] - length)
            region = region.replace(axis, (start, start + length))
        return sum(read.size for read in rule.reads(node.attrs, types, region))

    grids = sorted(grids, key=read_elements)[:_GRIDS]
    if batched and counts and 0 in axes and shape[0] > 1:
        grids.append({0: min(counts[0], shape[0])})
    return grids


def _factorisations(
    count: int, axes: tuple[int, ...], shape: tuple[int, ...]
) -> Iterator[tuple[tuple[int, int], ...]]:
    """All ways to write `count` as a product of pieces along the axes."""
    if not axes:
        if count == 1:
            yield ()
        return
    axis, *rest = axes
    for pieces in range(1, min(count, shape[axis]) + 1):
        if count % pieces == 0:
            for others in _factorisations(count // pieces, tuple(rest), shape):
                yield ((axis, pieces), *others)


def batched_values(graph: Graph) -> set[str]:
    """Values that depend on an input, and so have the batch as axis 0 if they have it at all."""
    found: set[str] = set()
    for node in graph:
        if node.op == "input" or any(name in found for name in node.inputs):
            found.add(node.name)
    return found
