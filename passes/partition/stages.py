"""The strategy `stages`: contiguous layers, one machine each, balanced by FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.cluster import Cluster
from dbgraph.errors import NoCutError
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ops import flops_of
from dbgraph.passes.partition.choice import Choice, Choices, computes
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
            found.setdefault(node.layer or node.name, []).append(node)
    return list(found.values())


def balanced(weights: list[int], parts: int) -> list[tuple[int, int]]:
    """Contiguous ranges, none empty, with the smallest largest sum.

    A dynamic program: best[k][i] is the smallest bottleneck of the first i weights in k parts.
    """
    count = len(weights)
    total = [0]
    for weight in weights:
        total.append(total[-1] + weight)
    infinity = float("inf")
    best = [[infinity] * (count + 1) for _ in range(parts + 1)]
    choice = [[0] * (count + 1) for _ in range(parts + 1)]
    best[0][0] = 0
    for k in range(1, parts + 1):
        for i in range(k, count + 1):
            for j in range(k - 1, i):
                bottleneck = max(best[k - 1][j], total[i] - total[j])
                if bottleneck < best[k][i]:
                    best[k][i], choice[k][i] = bottleneck, j
    ranges = []
    stop = count
    for k in range(parts, 0, -1):
        start = choice[k][stop]
        ranges.append((start, stop))
        stop = start
    return ranges[::-1]
