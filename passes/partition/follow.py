"""Following: a node cut as its main input is cut, each tile where most of what it reads is."""

from __future__ import annotations

from collections import Counter
from math import prod

from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ir.region import Region, even_splits, grid
from dbgraph.ops import op
from dbgraph.passes.partition.choice import Choice, InnerCut, combination_cut, reductions_of
from dbgraph.passes.partition.traffic import Traffic


def follow(traffic: Traffic, node: Node) -> Choice | None:
    """The choice that follows the largest input whose cut is known; None where there is none."""
    graph = traffic.graph
    known = [i for i, name in enumerate(node.inputs) if name in traffic.cuts]
    if not known:
        return None
    main = max(known, key=lambda i: graph[node.inputs[i]].type.size)
    cut = traffic.cuts[node.inputs[main]]
    splits = _followed_splits(graph, node, main, cut)
    reductions = tuple(
        r
        for r in reductions_of(graph, node)
        if any(i == main and len(cut.splits[axis]) > 2 for i, axis in r.axes)
    )
    if not reductions:
        return Choice(_placed(traffic, node, main, splits, None, Region(())))
    ranges = tuple(next(cut.splits[axis] for i, axis in r.axes if i == main) for r in reductions)
    blank = Cut(splits, (0,) * prod(len(s) - 1 for s in splits))
    cells = tuple(grid(ranges))
    inner = InnerCut(reductions, ranges, (blank,) * len(cells))
    partials = tuple(_placed(traffic, node, main, splits, inner, cell) for cell in cells)
    places = tuple(p for partial in partials for p in partial.partitions)
    return Choice(combination_cut(node, places), InnerCut(reductions, ranges, partials))


def _followed_splits(graph: Graph, node: Node, main: int, cut: Cut) -> tuple[tuple[int, ...], ...]:
    """For each axis of the output the splits of the input's axis that it reads along."""
    rule, types = op(node.op), graph.input_types(node)
    whole = Region.whole(node.type.shape)
    everything = rule.reads(node.attrs, types, whole)[main]
    splits: list[tuple[int, ...]] = [(0, n) for n in node.type.shape]
    for axis in rule.cut_axes(node.attrs, types):
        length = node.type.shape[axis]
        if length < 2:
            continue
        half = rule.reads(node.attrs, types, whole.replace(axis, (0, length // 2)))[main]
        narrowed = [a for a in range(half.rank) if half.bounds[a] != everything.bounds[a]]
        if len(narrowed) != 1:
            continue
        theirs = cut.splits[narrowed[0]]
        same = theirs[-1] == length
        splits[axis] = theirs if same else even_splits(length, min(len(theirs) - 1, length))
    return tuple(splits)


def _placed(
    traffic: Traffic,
    node: Node,
    main: int,
    splits: tuple[tuple[int, ...], ...],
    inner: InnerCut | None,
    cell: Region,
) -> Cut:
    rule, types = op(node.op), traffic.graph.input_types(node)
    places = []
    for region in grid(splits):
        reads = list(rule.reads(node.attrs, types, region))
        if inner is not None:
            reads = inner.restrict(reads, cell)
        held: Counter[int] = Counter()
        for partition, size in traffic.sources(node.inputs[main], reads[main]):
            held[partition] += size
        # The most elements; of equals the first partition.
        places.append(min(held, key=lambda p: (-held[p], p)) if held else 0)
    return Cut(splits, tuple(places))
