"""What a strategy decides for a node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ir.region import Region, even_splits, grid
from dbgraph.ops import op
from dbgraph.ops.schema import Reduction


@dataclass(frozen=True, slots=True)
class InnerCut:
    """Reduced axes in ranges: one partial result for each cell of their grid.

    Attributes:
        reductions: the axes that are cut.
        splits: bounds of the ranges, for each of them.
        partials: for each cell, row-major, how that partial result is cut and where it stands.
    """

    reductions: tuple[Reduction, ...]
    splits: tuple[tuple[int, ...], ...]
    partials: tuple[Cut, ...]

    def cells(self) -> Iterator[tuple[Region, Cut]]:
        """Each cell's range per reduction, and its cut."""
        return zip(grid(self.splits), self.partials, strict=True)

    def restrict(self, reads: list[Region], cell: Region) -> list[Region]:
        """What a partial result reads of what the whole would."""
        for reduction, bounds in zip(self.reductions, cell.bounds, strict=True):
            for index, axis in reduction.axes:
                reads[index] = reads[index].replace(axis, bounds)
        return reads


@dataclass(frozen=True, slots=True)
class Choice:
    """How a node's output is cut and, where its reduction is cut too, into which partial results;
    `cut` is then that of their combination."""

    cut: Cut
    inner: InnerCut | None = None

    @property
    def partitions(self) -> set[int]:
        """All that get something to do."""
        cuts = (self.cut, *(self.inner.partials if self.inner else ()))
        return {partition for cut in cuts for partition in cut.partitions}


Choices = Mapping[str, Choice]


def used_partitions(choices: Choices) -> set[int]:
    """All that get something to do."""
    return {partition for choice in choices.values() for partition in choice.partitions}


class Strategy(Protocol):
    """Decides a cut and a place for every node that computes."""

    @property
    def name(self) -> str: ...

    def choose(self, graph: Graph, partitions: int) -> Choices:
        """Raises NoCutError where it can't give every partition something to do."""


def computes(node: Node) -> bool:
    """Whether a node needs a cut: it is neither a leaf nor a view."""
    return bool(node.inputs) and not op(node.op).view


def spread(count: int, partitions: tuple[int, ...]) -> tuple[int, ...]:
    """Partitions for row-major tiles, neighbours kept together.

    >>> spread(4, (0, 1))
    (0, 0, 1, 1)
    """
    return tuple(partitions[i * len(partitions) // count] for i in range(count))


def even_cut(
    shape: tuple[int, ...], pieces: Mapping[int, int], partitions: tuple[int, ...]
) -> Cut:
    """Ranges of lengths that differ by at most one; axes that are not named stay whole."""
    splits = tuple(even_splits(n, pieces.get(axis, 1)) for axis, n in enumerate(shape))
    count = 1
    for s in splits:
        count *= len(s) - 1
    return Cut(splits, spread(count, partitions))


def reduced_length(graph: Graph, node: Node, reduction: Reduction) -> int:
    """Elements along a reduced axis."""
    index, axis = reduction.axes[0]
    return graph[node.inputs[index]].type.shape[axis]


# Larger results than this are combined by all machines, each one part of them.
_COMBINED_WHOLE_BYTES = 64 * 1024


def combination_cut(node: Node, partitions: tuple[int, ...]) -> Cut:
    """Where partial results are combined: small ones at one place, large ones everywhere."""
    distinct = tuple(dict.fromkeys(partitions))
    axes = [a for a in range(node.type.rank) if node.type.shape[a] >= len(distinct)]
    if node.type.size_bytes <= _COMBINED_WHOLE_BYTES or not axes:
        return Cut.whole(node.type.shape, distinct[0])
    axis = axes[-1]
    return even_cut(node.type.shape, {axis: len(distinct)}, distinct)


def inner_choice(
    graph: Graph,
    node: Node,
    pieces: Mapping[str, int],
    partitions: tuple[int, ...],
    outer: Mapping[int, int] | None = None,
) -> Choice:
    """Reduced axes cut evenly by name, and each partial result cut along `outer` axes."""
    reductions = tuple(r for r in reductions_of(graph, node) if r.name in pieces)
    splits = tuple(
        even_splits(reduced_length(graph, node, r), pieces[r.name]) for r in reductions
    )
    cells, outer = prod(len(s) - 1 for s in splits), outer or {}
    tiles = even_cut(node.type.shape, outer, partitions[:1]).count
    places = spread(cells * tiles, partitions)
    partials = tuple(
        even_cut(node.type.shape, outer, places[i * tiles : (i + 1) * tiles]) for i in range(cells)
    )
    return Choice(combination_cut(node, places), InnerCut(reductions, splits, partials))


def reductions_of(graph: Graph, node: Node) -> tuple[Reduction, ...]:
    return op(node.op).reductions(node.attrs, graph.input_types(node))
