"""The strategy `tiles`: each layer cut N ways along its best axes, neighbours kept together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import ClassVar

from dbgraph.cluster import Cluster
from dbgraph.errors import NoCutError
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ops import flops_of
from dbgraph.passes.partition.ahead import ahead_s, is_heavy
from dbgraph.passes.partition.choice import (
    Choice,
    Choices,
    computes,
    layer_of,
    used_partitions,
)
from dbgraph.passes.partition.follow import follow
from dbgraph.passes.partition.grids import (
    batched_values,
    candidates,
    most_tiles,
    spreading,
)
from dbgraph.passes.partition.pinned import pinned, pinned_choice
from dbgraph.passes.partition.team import Team
from dbgraph.passes.partition.traffic import Traffic

# A node that takes less than this on one machine just follows its input, if nothing crosses then.
_CHEAP_S = 50e-6
# Of the cuts of a node with weights that cost at most so many times the cheapest, so many are
# compared by what comes after them.
_NEAR, _NEAREST = 1.1, 4


@dataclass(frozen=True)
class Tiles:
    """Greedy in topological order: the cheapest of a node's grids, its cut reductions, its
    input's cut and standing whole, given what is decided for its inputs.

    Attributes:
        team: the machines to use, and each one's share of the work; None: all, by their speed.
        teams: by layer, where layers have teams of their own.
        given: choices that are decided already.
        offer: the cuts to choose from.
    """

    cluster: Cluster
    team: Team | None = None
    teams: Mapping[str, Team] = field(default_factory=dict)
    given: Choices = field(default_factory=dict)
    offer: Callable[[Graph, Node, Team, bool], Iterable[Choice]] = candidates
    name: ClassVar[str] = "tiles"

    def choose(self, graph: Graph, partitions: int) -> Choices:
        team = self.team or Team.of(self.cluster, range(partitions))
        choices = self.greedy(graph, team)
        if used_partitions(choices) == set(team.places):
            return choices
        # Too little work to be worth spreading, but all machines are to have some: the node with
        # most of it that can be cut so finely is.
        nodes = [n for n in graph if computes(n) and not pinned(n)]
        batched = batched_values(graph)
        for node in sorted(nodes, key=lambda n: -flops_of(n, graph.input_types(n))):
            if any(spreading(graph, node, team, node.name in batched)):
                return self.greedy(graph, team, spread=node.name)
        if nodes and not any(pinned(n) for n in graph):
            raise _too_many(graph, len(team), nodes, batched)
        return choices

    def greedy(self, graph: Graph, team: Team, spread: str = "") -> Choices:
        """Choices that may leave some machines without work.

        Args: spread: a node that must stand on all of them.
        """
        return {node.name: choice for node, choice, _ in self._decided(graph, team, spread)}

    def prices(self, graph: Graph, team: Team) -> dict[str, float]:
        """By layer the seconds of its nodes, one after the other, if cut so."""
        found: dict[str, float] = defaultdict(float)
        for node, choice, traffic in self._decided(graph, team):
            found[layer_of(node)] += traffic.price_s(node, choice)
        return found

    def _decided(
        self, graph: Graph, team: Team, spread: str = ""
    ) -> Iterator[tuple[Node, Choice, Traffic]]:
        """Each node with its choice, and what is decided before it."""
        traffic = Traffic(graph, self.cluster)
        batched = batched_values(graph)
        for node in graph:
            if not computes(node):
                continue
            mine = self.teams.get(layer_of(node), team)
            choice = pinned_choice(graph, node, mine.places) or self.given.get(node.name)
            if node.name == spread:
                spreads = spreading(graph, node, team, node.name in batched)
                choice = min(spreads, key=partial(traffic.price_s, node))
            if choice is None:
                allowed = mine.only(node.pin.partitions) if node.pin.partitions else mine
                choice = self._cheapest(traffic, node, allowed, node.name in batched)
            yield node, choice, traffic
            traffic.decide(node, choice)

    def _cheapest(self, traffic: Traffic, node: Node, team: Team, batched: bool) -> Choice:
        followed = follow(traffic, node)
        if followed is not None and not followed.partitions <= set(team.places):
            followed = None
        if followed is not None and self._is_free(traffic, node, followed, team):
            return followed
        choices = [] if followed is None else [followed]
        choices += self.offer(traffic.graph, node, team, batched)

        priced: list[tuple[float, int]] = []
        limit_s = inf
        for k, choice in enumerate(choices):
            # Who leaves the layout of its input must expect that its readers want it back.
            back_s = traffic.relayout_s(node, choice.cut, followed.cut) if followed else 0.0
            priced.append((back_s + traffic.price_s(node, choice, limit_s - back_s), k))
            limit_s = min(limit_s, _NEAR * priced[-1][0])
        priced.sort()
        near = [(s, choices[k]) for s, k in priced[:_NEAREST] if s <= _NEAR * priced[0][0]]
        if len(near) == 1 or not is_heavy(traffic.graph, node):
            return near[0][1]
        return min(near, key=lambda entry: entry[0] + ahead_s(traffic, node, entry[1]))[1]

    def _is_free(self, traffic: Traffic, node: Node, choice: Choice, team: Team) -> bool:
        """Nothing crosses, and the work is spread or too little to be worth spreading."""
        if choice.inner is not None:
            return False
        lone = traffic.price_s(node, Choice(Cut.whole(node.type.shape, choice.cut.partitions[0])))
        spread_out = len(set(choice.cut.partitions)) == len(team)
        return (spread_out or lone < _CHEAP_S) and not traffic.crosses(node, choice)


def _too_many(graph: Graph, partitions: int, nodes: list[Node], batched: set[str]) -> NoCutError:
    finest = max(nodes, key=lambda n: most_tiles(graph, n, n.name in batched))
    count = most_tiles(graph, finest, finest.name in batched)
    return NoCutError(
        f"{partitions} partitions are asked for, but no layer can be cut so finely; "
        f"{finest.layer or finest.name} can, into {count}",
        at=finest.source,
        hint=f"use --partitions {count} or fewer",
    )
