"""The strategy `stages`: contiguous layers, one machine each, balanced by FLOPs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import inf

from dbgraph.cluster import Cluster
from dbgraph.errors import NoCutError
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ops import flops_of
from dbgraph.passes.partition.choice import Choice, Choices, computes, layer_of
from dbgraph.passes.partition.pinned import pinned_choice


@dataclass(frozen=True)
class Stages:
    """The bottleneck of a linear partition, minimised exactly over the layers in order."""

    cluster: Cluster
    name: str = "stages"

    def choose(self, graph: Graph, partitions: int) -> Choices:
        layers = _layers(graph)
        if len(layers) < partitions:
            raise NoCutError(
                f"{partitions} stages need as many layers; the network has {len(layers)}",
                hint="use fewer partitions, or the strategy tiles",
            )
        weights = [sum(flops_of(n, graph.input_types(n)) for n in nodes) for nodes in layers]
        everywhere = tuple(range(partitions))
        choices: dict[str, Choice] = {}
        for stage, (start, stop) in enumerate(balanced(weights, partitions)):
            for node in (n for nodes in layers[start:stop] for n in nodes):
                pinned = pinned_choice(graph, node, everywhere)
                places = node.pin.partitions or (stage,)
                choices[node.name] = pinned or Choice(Cut.whole(node.type.shape, places[0]))
        return choices


def _layers(graph: Graph) -> list[list[Node]]:
    """The computing nodes by layer, in order of each layer's first node."""
    found: dict[str, list[Node]] = {}
    for node in graph:
        if computes(node):
            found.setdefault(layer_of(node), []).append(node)
    return list(found.values())


def balanced(weights: list[int], parts: int) -> list[tuple[int, int]]:
    """Contiguous ranges, none empty, with the smallest largest sum.

    A dynamic program: best[i] is the smallest bottleneck of the first i weights in k parts. As the
    last part begins later, its sum falls and the bottleneck before it rises: they meet at a place
    that moves on with i, so one sweep finds it for all i.
    """
    count = len(weights)
    total = [0, *accumulate(weights)]
    best: list[float] = list(total)
    starts: list[list[int]] = [[0] * (count + 1)]
    for k in range(2, parts + 1):
        found, start = [inf] * (count + 1), [0] * (count + 1)
        meet = k - 1
        for i in range(k, count + 1):
            while meet < i - 1 and best[meet] < total[i] - total[meet]:
                meet += 1
            at = _least(best, total, range(max(k - 1, meet - 1), meet + 1), i)
            found[i], start[i] = max(best[at], total[i] - total[at]), at
        best = found
        starts.append(start)
    ranges = []
    stop = count
    for start in reversed(starts):
        ranges.append((start[stop], stop))
        stop = start[stop]
    return ranges[::-1]


def _least(best: list[float], total: list[int], begins: range, i: int) -> int:
    """Where the last of some parts of the first i weights best begins."""
    at = min(begins, key=lambda j: max(best[j], total[i] - total[j]))
    while at > begins.start and total[at - 1] == total[at]:  # the first of equals
        at -= 1
    return at
