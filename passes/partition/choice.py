"""What a strategy decides for a node."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Protocol

from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ops import op
from dbgraph.ops.schema import Reduction
from dbgraph.passes.partition.team import Team
from dbgraph.plan.choice import Choice as Choice
from dbgraph.plan.choice import Choices as Choices
from dbgraph.plan.choice import InnerCut as InnerCut


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


def reduced_length(graph: Graph, node: Node, reduction: Reduction) -> int:
    """Elements along a reduced axis."""
    index, axis = reduction.axes[0]
    return graph[node.inputs[index]].type.shape[axis]


def layer_of(node: Node) -> str:
    """A node's layer; what stands outside all layers is one of its own."""
    return node.layer or node.name


# Larger results than this are combined by all machines, each one part of them.
_COMBINED_WHOLE_BYTES = 64 * 1024


def combination_cut(node: Node, partitions: tuple[int, ...]) -> Cut:
    """Where partial results are combined: small ones at one place, large ones everywhere."""
    distinct = tuple(dict.fromkeys(partitions))
    axes = [a for a in range(node.type.rank) if node.type.shape[a] >= len(distinct)]
    if node.type.size_bytes <= _COMBINED_WHOLE_BYTES or not axes:
        return Cut.whole(node.type.shape, distinct[0])
    axis = axes[-1]
    return Team.equal(distinct).cut(node.type.shape, {axis: len(distinct)})


def inner_choice(
    graph: Graph,
    node: Node,
    pieces: Mapping[str, int],
    team: Team,
    outer: Mapping[int, int] | None = None,
) -> Choice:
    """Reduced axes cut by name, and each partial result cut along `outer` axes."""
    reductions = tuple(r for r in reductions_of(graph, node) if r.name in pieces)
    lengths = tuple(reduced_length(graph, node, r) for r in reductions)
    counts = {axis: pieces[r.name] for axis, r in enumerate(reductions)}
    ranges = team.cut(lengths, counts)
    tiles = prod(min(n, node.type.shape[axis]) for axis, n in (outer or {}).items())
    places = team.spread(ranges.count * tiles)
    partials = tuple(
        Team.equal(places[i * tiles : (i + 1) * tiles]).cut(node.type.shape, outer or {})
        for i in range(ranges.count)
    )
    return Choice(combination_cut(node, places), InnerCut(reductions, ranges.splits, partials))


def reductions_of(graph: Graph, node: Node) -> tuple[Reduction, ...]:
    return op(node.op).reductions(node.attrs, graph.input_types(node))
