"""The strategy `tiles`: each layer cut N ways along its best axes, neighbours kept together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from dbgraph.cluster import Cluster
from dbgraph.errors import NoCutError
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ops import flops_of
from dbgraph.passes.partition.ahead import ahead_s, is_heavy
from dbgraph.passes.partition.choice import Choice, Choices, computes, used_partitions
from dbgraph.passes.partition.follow import follow
from dbgraph.passes.partition.grids import (
    batched_values,
    candidates,
    most_tiles,
    spreading,
)
from dbgraph.passes.partition.pinned import pinned, pinned_choice
from dbgraph.passes.partition.traffic import Traffic

# A node that takes less than this on one machine just follows its input, if nothing crosses then.
_CHEAP_S = 50e-6
# Of the cuts of a node with weights that cost at most so many times the cheapest, so many are
# compared by what comes after them.
_NEAR, _NEAREST = 1.1, 4


@dataclass(frozen=True)
class Tiles:
    """Greedy in topological order: the cheapest of a node's grids, its cut reductions, its
    input's cut and standing whole, given what is decided for its inputs."""

    cluster: Cluster
    name: str = "tiles"

    def choose(self, graph: Graph, partitions: int) -> Choices:
        choices = self._greedy(graph, partitions)
        if used_partitions(choices) == set(range(partitions)):
            return choices
        # Too little work to be worth spreading, but all machines are to have some: the node with
        # most of it that can be cut so finely is.
        nodes = [n for n in graph if computes(n) and not pinned(n)]
        batched = batched_values(graph)
        for node in sorted(nodes, key=lambda n: -flops_of(n, graph.input_types(n))):
            if any(spreading(graph, node, tuple(range(partitions)), node.name in batched)):
                return self._greedy(graph, partitions, spread=node.name)
        if nodes and not any(pinned(n) for n in graph):
            raise _too_many(graph, partitions, nodes, batched)
        return choices

    def _greedy(self, graph: Graph, partitions: int, spread: str = "") -> Choices:
        """Args: spread: a node that must stand on all partitions."""
        everywhere = tuple(range(partitions))
        traffic = Traffic(graph, self.cluster)
        batched = batched_values(graph)
        choices: dict[str, Choice] = {}
        for node in graph:
            if not computes(node):
                continue
            choice = pinned_choice(graph, node, everywhere)
            if node.name == spread:
                spreads = spreading(graph, node, everywhere, node.name in batched)
                choice = min(spreads, key=partial(traffic.price_s, node))
            if choice is None:
                places = node.pin.partitions or everywhere
                choice = self._cheapest(traffic, node, places, node.name in batched)
            choices[node.name] = choice
            traffic.decide(node, choice)
        return choices

    def _cheapest(
        self, traffic: Traffic, node: Node, places: tuple[int, ...], batched: bool
    ) -> Choice:
        followed = follow(traffic, node)
        if followed is not None and not _within(followed, places):
            followed = None
        if followed is not None and self._is_free(traffic, node, followed, len(places)):
            return followed
        choices = [] if followed is None else [followed]
        choices += candidates(traffic.graph, node, places, batched)

        def price_s(choice: Choice) -> float:
            # Who leaves the layout of its input must expect that its readers want it back.
            back_s = traffic.relayout_s(node, choice.cut, followed.cut) if followed else 0.0
            return traffic.price_s(node, choice) + back_s

        priced = sorted(((price_s(choice), k) for k, choice in enumerate(choices)))
        near = [(s, choices[k]) for s, k in priced[:_NEAREST] if s <= _NEAR * priced[0][0]]
        if len(near) == 1 or not is_heavy(traffic.graph, node):
            return near[0][1]
        return min(near, key=lambda entry: entry[0] + ahead_s(traffic, node, entry[1]))[1]

    def _is_free(self, traffic: Traffic, node: Node, choice: Choice, partitions: int) -> bool:
        """Nothing crosses, and the work is spread or too little to be worth spreading."""
        if choice.inner is not None:
            return False
        lone = traffic.price_s(node, Choice(Cut.whole(node.type.shape, choice.cut.partitions[0])))
        spread_out = len(set(choice.cut.partitions)) == partitions
        return (spread_out or lone < _CHEAP_S) and not traffic.crosses(node, choice)


def _too_many(
    graph: Graph, partitions: int, nodes: list[Node], batched: set[str]
) -> NoCutError:
    finest = max(nodes, key=lambda n: most_tiles(graph, n, n.name in batched))
    count = most_tiles(graph, finest, finest.name in batched)
    return NoCutError(
        f"{partitions} partitions are asked for, but no layer can be cut so finely; "
        f"{finest.layer or finest.name} can, into {count}",
        at=finest.source,
        hint=f"use --partitions {count} or fewer",
    )


def _within(choice: Choice, places: tuple[int, ...]) -> bool:
    return choice.partitions <= set(places)
