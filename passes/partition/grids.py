"""The cuts that `tiles` considers for a node."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ir.region import Region
from dbgraph.ops import op
from dbgraph.passes.partition.choice import (
    Choice,
    inner_choice,
    reduced_length,
    reductions_of,
)
from dbgraph.passes.partition.team import Team

# Of the grids with equally many tiles, only those that read least are considered.
_GRIDS, _SMALLER_GRIDS = 6, 2
# A layer that is not worth all machines may stand on a half, a quarter and so on of them.
_FEWER = 2
# Of the ways to cut a reduction and the output at once.
_MIXED = 3


def candidates(graph: Graph, node: Node, team: Team, batched: bool) -> Iterator[Choice]:
    """Standing whole; and for all machines, half of them and so on: grids of tiles, the reduction
    cut, and both cut at once."""
    for place in team.places if len(team) <= 4 else team.some(1).places:
        yield Choice(Cut.whole(node.type.shape, place))
    count = len(team)
    while count > 1:
        yield from _spread_over(graph, node, team, count, batched)
        count //= _FEWER


def _spread_over(
    graph: Graph, node: Node, team: Team, count: int, batched: bool
) -> Iterator[Choice]:
    """The cuts for so many machines of a team."""
    part, shape = team.some(count), node.type.shape
    most = _GRIDS if count == len(team) else _SMALLER_GRIDS
    counts = range(count, count // _FEWER, -1)
    for pieces in grids(graph, node, counts, batched, most):
        yield Choice(part.some(prod(pieces.values())).cut(shape, pieces))
    if not op(node.op).combine:
        return
    for reduction in reductions_of(graph, node):
        length = reduced_length(graph, node, reduction)
        if length >= count:
            yield inner_choice(graph, node, {reduction.name: count}, part)
        for cells in _balanced_divisors(count):
            outer = grids(graph, node, range(count // cells, count // cells - 1, -1), False, 1)
            if cells <= length and outer:
                yield inner_choice(graph, node, {reduction.name: cells}, part, outer[0])


def _balanced_divisors(count: int) -> list[int]:
    """Proper divisors, those next to the square root first."""
    found = [d for d in range(2, count // 2 + 1) if count % d == 0]
    return sorted(found, key=lambda d: (max(d * d, count) / min(d * d, count), d))[:_MIXED]


def over_all(
    graph: Graph, node: Node, team: Team, batched: bool, along_batch: bool
) -> Choice | None:
    """One tile for each place: along the batch, or else not along it; None where that can't be."""
    count = len(team)
    for pieces in grids(graph, node, range(count, count - 1, -1), batched, most=1):
        by_batch = batched and 0 in pieces
        if by_batch == along_batch and prod(pieces.values()) == count:
            return Choice(team.cut(node.type.shape, pieces))
    return None


def every_way(graph: Graph, node: Node, team: Team, batched: bool) -> Iterator[Choice]:
    """Those of Dean et al. 2012: a layer's units, or its rows and columns, over as many places as
    there can be."""
    for pieces in grids(graph, node, range(len(team), 0, -1), False, most=3):
        yield Choice(team.cut(node.type.shape, pieces))


def spreading(graph: Graph, node: Node, team: Team, batched: bool) -> Iterator[Choice]:
    """Those that give every place something to do, with more tiles than places if need be."""
    count = len(team)
    for pieces in grids(graph, node, range(count, 2 * count), batched, _GRIDS):
        choice = Choice(team.cut(node.type.shape, pieces))
        if choice.partitions == set(team.places):
            yield choice
    for reduction in reductions_of(graph, node):
        if reduced_length(graph, node, reduction) >= count and op(node.op).combine:
            yield inner_choice(graph, node, {reduction.name: count}, team)


def most_tiles(graph: Graph, node: Node, batched: bool) -> int:
    """How finely a node can be cut in one way."""
    rule, types = op(node.op), graph.input_types(node)
    axes = rule.cut_axes(node.attrs, types)
    lengths = [node.type.shape[a] for a in axes]
    batch = [lengths.pop(0)] if batched and 0 in axes else []
    reduced = [reduced_length(graph, node, r) for r in reductions_of(graph, node)]
    most: int = max([prod(lengths), *batch, *(reduced if rule.combine else ())])
    return most


def grids(
    graph: Graph, node: Node, counts: range, batched: bool, most: int
) -> list[dict[int, int]]:
    """Pieces per axis, for the first number of tiles that there is a grid of: those that read
    least. The batch is cut alone or not at all."""
    rule, types = op(node.op), graph.input_types(node)
    axes = rule.cut_axes(node.attrs, types)
    shape = node.type.shape
    inner_axes = tuple(a for a in axes if not (batched and a == 0))
    whole_read = Region.whole(shape)
    found: list[dict[int, int]] = []
    for tiles in counts:
        found = [dict(g) for g in _factorisations(tiles, inner_axes, shape)]
        if found:
            break

    def read_elements(pieces: dict[int, int]) -> int:
        """Of a largest tile, in the middle, where it has all its halos."""
        region = whole_read
        for axis, n in pieces.items():
            length = -(-shape[axis] // n)
            start = min(n // 2 * shape[axis] // n, shape[axis] - length)
            region = region.replace(axis, (start, start + length))
        return sum(read.size for read in rule.reads(node.attrs, types, region))

    found = sorted(found, key=read_elements)[:most]
    if batched and counts and 0 in axes and shape[0] > 1:
        found.append({0: min(counts[0], shape[0])})
    return found


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
