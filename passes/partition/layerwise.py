"""Plans of whole layers: each stands on one of the machines, or is cut over all of them along one
axis.

`neighbours` changes one node; where work is small against messages, a node that leaves its layer
costs more than it saves, and so does a layer that leaves those beside it. Where there are not too
many such plans, those come first whose step is bounded lowest, and the rest need not be simulated
once the bound is above the best step. Else those next to a plan are tried, in which one layer
stands in every other way, then two at once, then three.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, islice, product
from math import prod

import numpy as np

from dbgraph.cluster import Cluster
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ops import op
from dbgraph.passes.partition.bound import Bound
from dbgraph.passes.partition.choice import Choice, Choices, computes, layer_of
from dbgraph.passes.partition.grids import batched_values
from dbgraph.passes.partition.pinned import pinned
from dbgraph.passes.partition.team import Team
from dbgraph.passes.partition.tiles import Tiles
from dbgraph.passes.partition.trial import Bench, Candidate, Trial

_MOST = 256
"""Plans, seldom fewer than there are of three layers on three machines."""
_ALL = 2**19
"""Plans whose steps are bounded, more than there are of eight layers on three machines."""


def is_bounded(graph: Graph, cluster: Cluster) -> bool:
    """Whether there are not too many plans of whole layers, and the bound knows all they do:
    nothing is pinned, and no two layers share a parameter."""
    ways = layer_ways(graph, Team.of(cluster))
    if prod(map(len, ways)) > _ALL:
        return False
    placed = {name for of_layer in ways for name in of_layer[0]}
    readers = [
        {layer_of(reader) for reader in graph.consumers[node.name]}
        for node in graph
        if node.op == "parameter"
    ]
    return all(node.name in placed for node in graph if computes(node)) and all(
        len(layers) == 1 for layers in readers
    )


def is_layered(bench: Bench, candidate: Candidate) -> bool:
    """Whether a plan is one of whole layers."""
    ways = layer_ways(bench.graph(candidate.microbatches), Team.of(bench.cluster))
    made = candidate.choices.items()
    return all(any(way.items() <= made for way in of_layer) for of_layer in ways)


def bounded(bench: Bench, microbatches: int, order: str) -> Iterator[tuple[float, Candidate]]:
    """All plans of whole layers, each with what its training step takes at the least; the lowest
    first."""
    graph, team = bench.graph(microbatches), Team.of(bench.cluster)
    ways = layer_ways(graph, team)
    bounds_s = Bound(graph, ways, bench.cluster).all_s()
    counts = tuple(map(len, ways))
    for number in np.argsort(bounds_s, kind="stable"):
        choices: dict[str, Choice] = {}
        for of_layer, way in zip(ways, np.unravel_index(number, counts), strict=True):
            choices.update(of_layer[way])
        recipe = Tiles(bench.cluster, given=choices)
        made = Candidate(choices, microbatches, order, "layers at once", recipe)
        yield float(bounds_s[number]), made


def layerwise(bench: Bench, trial: Trial) -> Iterator[Candidate]:
    """Those that differ from the plan in the fewest layers first."""
    return islice(_all(bench, trial), _MOST)


def _all(bench: Bench, trial: Trial) -> Iterator[Candidate]:
    old = trial.candidate
    ways = [
        [way for way in of_layer if not way.items() <= old.choices.items()]
        for of_layer in layer_ways(bench.graph(old.microbatches), Team.of(bench.cluster))
    ]
    recipe = old.recipe or Tiles(bench.cluster)
    for count in range(1, len(ways) + 1):
        label = "a layer at once" if count == 1 else f"{count} layers at once"
        for layers in combinations(ways, count):
            for changes in product(*layers):
                choices = dict(old.choices)
                for change in changes:
                    choices.update(change)
                made = replace(recipe, given=choices)
                yield replace(old, choices=choices, recipe=made, label=label)


def layer_ways(graph: Graph, team: Team) -> list[list[Choices]]:
    """For each layer: whole on one of the machines, and along each axis over all of them. What
    the user pinned is left out."""
    layers: dict[str, list[Node]] = defaultdict(list)
    for node in graph:
        if computes(node) and not pinned(node):
            layers[layer_of(node)].append(node)
    batched = batched_values(graph)
    return [_ways(graph, nodes, team, batched) for nodes in layers.values()]


def _ways(graph: Graph, nodes: list[Node], team: Team, batched: set[str]) -> list[Choices]:
    ways: list[Choices] = [
        {node.name: Choice(Cut.whole(node.type.shape, place)) for node in nodes}
        for place in team.places
    ]
    for axis in range(max(node.type.rank for node in nodes)):
        cuts = {node.name: _along(graph, node, axis, team, batched) for node in nodes}
        if any(cut.count > 1 for cut in cuts.values()):
            ways.append({name: Choice(cut) for name, cut in cuts.items()})
    return ways


def _along(graph: Graph, node: Node, axis: int, team: Team, batched: set[str]) -> Cut:
    """A node that has no such axis to be cut along stands whole on the first machine."""
    axes = op(node.op).cut_axes(node.attrs, graph.input_types(node))
    short = axis in axes and node.type.shape[axis] < len(team)
    if axis not in axes or short or (axis == 0 and node.name not in batched):
        return Cut.whole(node.type.shape, team.places[0])
    return team.cut(node.type.shape, {axis: len(team)})
