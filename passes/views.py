"""Views: slices and concatenations only rename parts of other values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dbgraph.ir.graph import Graph
from dbgraph.ir.region import Region


class Need(NamedTuple):
    """A region of a value that is no view, and where in the reader's region it goes."""

    value: str
    region: Region
    to: tuple[int, ...]


def resolve(
    graph: Graph, name: str, region: Region, to: tuple[int, ...] | None = None
) -> Iterator[Need]:
    """The regions of computed values and leaves that a region of a value consists of."""
    node = graph[name]
    to = (0,) * region.rank if to is None else to
    if node.op == "slice":
        yield from resolve(graph, node.inputs[0], region.shift(node.attrs.ints("start")), to)
    elif node.op == "concat":
        yield from _resolve_concat(graph, name, region, to)
    else:
        yield Need(name, region, to)


def _resolve_concat(graph: Graph, name: str, region: Region, to: tuple[int, ...]) -> Iterator[Need]:
    axis, start = graph[name].attrs.int("axis"), 0
    for part in graph[name].inputs:
        shape = graph[part].type.shape
        frame = Region.whole(shape).replace(axis, (start, start + shape[axis]))
        common = region.intersect(frame)
        if not common.empty:
            moved = tuple(t + c - r for t, c, r in zip(to, common.start, region.start, strict=True))
            yield from resolve(graph, part, common.within(frame), moved)
        start += shape[axis]
