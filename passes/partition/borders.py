"""Border tiles: what a neighbour reads of a tile becomes a tile of its own.

The schedule sends a value as soon as it is there. With the border computed apart it leaves first,
and the halo travels while the inner tile is computed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ir.region import Region, grid, grid_parts
from dbgraph.ops import op
from dbgraph.passes.partition.choice import Choice, Choices, computes
from dbgraph.passes.views import resolve

# With more borders than that many per range the tiles would be crumbs.
_MOST_PER_RANGE = 2


def bordered(graph: Graph, choices: Choices, node: Node) -> Choices | None:
    """The choices with a node's tiles, and those of the nodes that it follows elementwise, parted
    where other partitions read them. None where they read all or nothing of them."""
    choice = choices[node.name]
    if choice.inner is not None or choice.cut.count < 2:
        return None
    lines = _lines(graph, choices, node)
    if not any(lines) or any(
        len(found) > _MOST_PER_RANGE * (len(s) - 1)
        for found, s in zip(lines, choice.cut.splits, strict=True)
    ):
        return None
    parted = _parted(choice.cut, lines)
    chain = _chain(graph, choices, node)
    return {**choices, **dict.fromkeys(chain, Choice(parted))}


def _lines(graph: Graph, choices: Choices, node: Node) -> list[set[int]]:
    """Along each axis where a reader's region on another partition ends inside a tile."""
    cut = choices[node.name].cut
    lines: list[set[int]] = [set() for _ in cut.splits]
    for partition, region in _reads(graph, choices, node):
        for index, part in grid_parts(cut.splits, region):
            if cut.partitions[index] != partition:
                for axis, bounds in enumerate(part.bounds):
                    lines[axis].update(bounds)
    return [found - set(s) for found, s in zip(lines, cut.splits, strict=True)]


def _reads(graph: Graph, choices: Choices, node: Node) -> Iterator[tuple[int, Region]]:
    """What the tiles of other nodes read of a node, each with its partition."""
    for reader in graph:
        if not computes(reader) or reader.name not in choices:
            continue
        choice = choices[reader.name]
        if choice.inner is not None:
            continue
        rule, types = op(reader.op), graph.input_types(reader)
        wanted = [i for i, name in enumerate(reader.inputs) if _stands_on(graph, name, node.name)]
        if not wanted:
            continue
        for region, partition in choice.cut.tiles():
            reads = rule.reads(reader.attrs, types, region)
            for index in wanted:
                for need in resolve(graph, reader.inputs[index], reads[index]):
                    if need.value == node.name:
                        yield partition, need.region


def _stands_on(graph: Graph, name: str, value: str) -> bool:
    """Whether a value is another one, or views of it."""
    if name == value:
        return True
    node = graph[name]
    return op(node.op).view and any(_stands_on(graph, n, value) for n in node.inputs)


def _parted(cut: Cut, lines: list[set[int]]) -> Cut:
    splits = tuple(tuple(sorted({*s, *found})) for s, found in zip(cut.splits, lines, strict=True))
    places = []
    for region in grid(splits):
        index = 0
        for s, (start, _) in zip(cut.splits, region.bounds, strict=True):
            index = index * (len(s) - 1) + bisect_right(s, start) - 1
        places.append(cut.partitions[index])
    return Cut(splits, tuple(places))


def _chain(graph: Graph, choices: Choices, node: Node) -> list[str]:
    """A node, and back from it those of the same shape and cut of which each tile reads just its
    own region, down to the one that does the work."""
    chain = [node.name]
    while True:
        mains = [
            name
            for name in node.inputs
            if name in choices
            and choices[name] == choices[chain[0]]
            and graph[name].type.shape == node.type.shape
        ]
        if not mains:
            return chain
        node = graph[mains[0]]
        chain.append(node.name)
