"""Plans next to a plan: other shares of the work, another cut of one node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from dbgraph.ir.graph import Cut, Node
from dbgraph.passes.partition.ahead import readers_ahead
from dbgraph.passes.partition.borders import bordered
from dbgraph.passes.partition.choice import Choice, Choices, computes, layer_of
from dbgraph.passes.partition.grids import batched_values, candidates
from dbgraph.passes.partition.pinned import pinned
from dbgraph.passes.partition.team import Team
from dbgraph.passes.partition.tiles import Tiles
from dbgraph.passes.partition.traffic import Traffic
from dbgraph.passes.partition.trial import ORDERS, Bench, Candidate, Trial

# Machines whose loads differ by less are left alone.
_BALANCED = 1.03
# The nodes that take longest are changed, each into so many other cuts, if their price is at most
# so many times its own.
_NODES, _OTHERS, _OTHERS_PRICE = 12, 4, 1.5


def neighbours(bench: Bench, trial: Trial, orders: Sequence[str] = ORDERS) -> Iterator[Candidate]:
    """The likeliest first.

    Args: orders: of microbatches, that may be taken.
    """
    yield from _balanced(bench, trial)
    if trial.candidate.microbatches > 1:
        yield from (replace(trial.candidate, order=order) for order in orders)
    yield from _OtherCuts(bench, trial.candidate).run()


def _balanced(bench: Bench, trial: Trial) -> Iterator[Candidate]:
    """The same tiling, with less for machines that have too much to do or too much to hold."""
    recipe, machines = trial.candidate.recipe, bench.cluster.machines
    if recipe is None or recipe.teams or recipe.given or len(machines) == 1:
        return
    team = recipe.team or Team.of(bench.cluster)
    loads = [trial.forecast.machines[p].busy_s for p in team.places]
    mean = sum(loads) / len(loads)
    if not trial.excess and max(loads) < _BALANCED * mean:
        return
    weights = []
    for place, weight, load in zip(team.places, team.weights, loads, strict=True):
        held = trial.forecast.machines[place].peak_bytes / machines[place].memory_bytes
        wanted = mean / load if load and not trial.excess else 1.0
        weights.append(weight * min(wanted, 1 / held if held > 1 else wanted))
    changed = replace(recipe, team=Team(team.places, tuple(weights)))
    choices = changed.greedy(bench.graph(trial.candidate.microbatches), changed.team or team)
    yield replace(trial.candidate, choices=choices, recipe=changed, label="balanced")


class _OtherCuts:
    """Another cut of one node; the light nodes behind it follow it, all else stays."""

    def __init__(self, bench: Bench, candidate: Candidate) -> None:
        self.bench, self.candidate = bench, candidate
        self.graph = bench.graph(candidate.microbatches)
        self.recipe = candidate.recipe or Tiles(bench.cluster)
        self.batched = batched_values(self.graph)

    def run(self) -> Iterator[Candidate]:
        priced = self._priced()
        slowest = sorted(priced, key=lambda name: -priced[name])[:_NODES]
        yield from self._bordered(slowest)
        for name in slowest:
            node = self.graph[name]
            for choice in self._others(node, priced[name]):
                yield self._with(node, choice)

    def _bordered(self, names: Sequence[str]) -> Iterator[Candidate]:
        """Halos that travel while the inner tiles are computed."""
        everywhere = self.candidate.choices
        for name in names:
            choices = bordered(self.graph, self.candidate.choices, self.graph[name])
            if choices is not None:
                everywhere = bordered(self.graph, everywhere, self.graph[name]) or everywhere
                yield self._exactly(choices, f"{layer_of(self.graph[name])} with borders apart")
        yield self._exactly(everywhere, "borders apart")

    def _exactly(self, choices: Choices, label: str) -> Candidate:
        recipe = replace(self.recipe, given=choices)
        return replace(self.candidate, choices=choices, recipe=recipe, label=label)

    def _priced(self) -> dict[str, float]:
        """Seconds of each node that may be changed."""
        found: dict[str, float] = {}
        traffic = Traffic(self.graph, self.bench.cluster)
        for node in self.graph:
            if computes(node):
                choice = self.candidate.choices[node.name]
                if not pinned(node):
                    found[node.name] = traffic.price_s(node, choice)
                traffic.decide(node, choice)
        return found

    def _others(self, node: Node, price_s: float) -> list[Choice]:
        """The cheapest first."""
        traffic = self._before(node)
        team = self.recipe.teams.get(layer_of(node), self.recipe.team)
        team = team or Team.of(self.bench.cluster)
        now = self.candidate.choices[node.name]
        choices = [*candidates(self.graph, node, team, node.name in self.batched)]
        choices += self._near(node)
        limit_s = _OTHERS_PRICE * price_s
        priced = [(traffic.price_s(node, c), k) for k, c in enumerate(choices) if c != now]
        return [choices[k] for s, k in sorted(priced)[:_OTHERS] if s <= limit_s]

    def _near(self, node: Node) -> Iterator[Choice]:
        """Standing whole where its inputs or its readers stand."""
        beside = [*node.inputs, *(reader.name for reader in self.graph.consumers[node.name])]
        known = (self.candidate.choices[n] for n in beside if n in self.candidate.choices)
        places = dict.fromkeys(choice.cut.partitions[0] for choice in known)
        for place in places:
            yield Choice(Cut.whole(node.type.shape, place))

    def _before(self, node: Node) -> Traffic:
        """All that is decided before a node."""
        traffic = Traffic(self.graph, self.bench.cluster)
        for other in self.graph:
            if other.name == node.name:
                break
            if computes(other):
                traffic.decide(other, self.candidate.choices[other.name])
        return traffic

    def _with(self, node: Node, choice: Choice) -> Candidate:
        behind = {reader.name for reader in readers_ahead(self.graph, node)}
        given: Choices = {
            name: kept
            for name, kept in self.candidate.choices.items()
            if name not in behind or pinned(self.graph[name])
        }
        recipe = replace(self.recipe, given={**given, node.name: choice})
        team = recipe.team or Team.of(self.bench.cluster)
        choices = recipe.greedy(self.graph, team)
        label = f"{layer_of(node)} cut otherwise"
        return replace(self.candidate, choices=choices, recipe=recipe, label=label)
