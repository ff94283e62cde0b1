"""What another cut of one layer would have cost, all else being as it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dbgraph.cluster import Cluster
from dbgraph.compile import forecast
from dbgraph.ir.graph import Graph, Node
from dbgraph.ops import flops_of
from dbgraph.passes.partition import Partition
from dbgraph.passes.partition.choice import Choice, Choices, computes
from dbgraph.passes.partition.follow import follow
from dbgraph.passes.partition.grids import batched_values, candidates
from dbgraph.passes.partition.team import Team
from dbgraph.passes.partition.traffic import Traffic
from dbgraph.passes.schedule import Schedule
from dbgraph.pipeline import back_passes, front_passes, run
from dbgraph.plan.cuts import name_of_reduction, names_of_axes
from dbgraph.plan.declared import Declared
from dbgraph.plan.plan import Plan
from dbgraph.show.digest import LayerCut, layer_of
from dbgraph.show.words import ranges
from dbgraph.simulate import Forecast, simulate

# So many other cuts are simulated at the most, and together so many nodes of plans: about two
# seconds' worth. Larger plans are priced only.
_SIMULATED, _NODES = 4, 24_000


@dataclass(frozen=True, slots=True)
class Other:
    """A cut of the layer.

    Attributes:
        cut: in words, with the partitions.
        price_s: of its costliest node alone, by `dbgraph.passes.partition.traffic`.
        step_s, traffic_bytes: of the plan with it; None where that was not simulated.
    """

    cut: str
    price_s: float
    step_s: float | None = None
    traffic_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Others:
    """
    Attributes:
        node: the layer's costliest, which is cut otherwise; those after it in the layer follow.
        now: the plan's own cut.
        best: other cuts, the best first, by their step where that was simulated.
    """

    node: str
    now: Other
    best: tuple[Other, ...]

    @property
    def simulated(self) -> bool:
        return self.now.step_s is not None


def others(plan: Plan, layer: str, cluster: Cluster) -> Others | None:
    """The best other cuts of a layer; None where it computes nothing or can't be cut otherwise."""
    graph = run(front_passes(Declared.of(plan), plan.microbatches), plan.network)
    nodes = [n for n in graph if computes(n) and _layer(plan, n) == layer]
    if not nodes:
        return None
    main = max(nodes, key=lambda n: flops_of(n, graph.input_types(n)))
    return _Trial(plan, cluster, graph, main).run()


def _layer(plan: Plan, node: Node) -> str:
    return layer_of(plan.network.by_name.get(node.name, node))


class _Trial:
    """One node, cut in other ways."""

    def __init__(self, plan: Plan, cluster: Cluster, graph: Graph, node: Node) -> None:
        self.plan, self.cluster, self.graph, self.node = plan, cluster, graph, node

    def run(self) -> Others | None:
        priced = self._priced()
        if not priced:
            return None
        count = min(_SIMULATED, _NODES // len(self.plan.graph))
        best = [self._other(choice, price_s, count > 0) for price_s, choice in priced[: count or 1]]
        if count:
            best.sort(key=lambda other: other.step_s or 0.0)
        now = self.plan.cuts[self.node.name]
        cost = forecast(self.plan, self.cluster) if count else None
        return Others(self.node.name, self._described(now, self._price_s(now), cost), tuple(best))

    def _priced(self) -> list[tuple[float, Choice]]:
        """All other cuts, the cheapest first."""
        batched = self.node.name in batched_values(self.graph)
        team = Team.of(self.cluster, range(self.plan.partitions))
        found = dict.fromkeys(candidates(self.graph, self.node, team, batched))
        found.pop(self.plan.cuts[self.node.name], None)
        return sorted(((self._price_s(c), c) for c in found), key=lambda entry: entry[0])

    def _price_s(self, choice: Choice) -> float:
        return self._before.price_s(self.node, choice)

    @cached_property
    def _before(self) -> Traffic:
        """All that is decided before the node."""
        traffic = Traffic(self.graph, self.cluster)
        for node in self.graph:
            if node.name == self.node.name:
                break
            if computes(node):
                traffic.decide(node, self.plan.cuts[node.name])
        return traffic

    def _other(self, choice: Choice, price_s: float, simulated: bool) -> Other:
        cost = self._simulated(self._with(choice)) if simulated else None
        return self._described(choice, price_s, cost)

    def _described(self, choice: Choice, price_s: float, cost: Forecast | None) -> Other:
        traffic_bytes = sum(cost.link_bytes.values()) if cost else None
        return Other(self._words(choice), price_s, cost.step_s if cost else None, traffic_bytes)

    def _simulated(self, choices: Choices) -> Forecast:
        plan = self.plan
        graph = Partition(choices)(self.graph)
        for step in back_passes(plan.mode):
            graph = step(graph)
        training = plan.mode == "training"
        schedule = Schedule(plan.partitions, plan.microbatches, training, plan.order)
        return simulate(graph, *schedule(graph), self.cluster)

    def _with(self, choice: Choice) -> Choices:
        """The plan's cuts, with this one; the nodes behind it in the layer follow."""
        traffic, found = Traffic(self.graph, self.cluster), dict(self.plan.cuts)
        layer, behind = _layer(self.plan, self.node), False
        found[self.node.name] = choice
        for node in self.graph:
            if not computes(node):
                continue
            if behind and _layer(self.plan, node) == layer:
                found[node.name] = follow(traffic, node) or found[node.name]
            behind = behind or node.name == self.node.name
            traffic.decide(node, found[node.name])
        return found

    def _words(self, choice: Choice) -> str:
        plan, inner = self.plan, choice.inner
        declared = plan.network[self.node.name]
        types = plan.network.input_types(declared)
        names = names_of_axes(declared.type.shape, plan.batch)
        reductions, splits = (inner.reductions, inner.splits) if inner else ((), ())
        reduced = [name_of_reduction(types, r, plan.batch) for r in reductions]
        cut = inner.partials[0] if inner else choice.cut
        outer = tuple((n, k) for n, k in zip(names, cut.pieces, strict=True) if k > 1)
        pieces = tuple((n, len(s) - 1) for n, s in zip(reduced, splits, strict=True))
        return f"{LayerCut(outer, pieces)} on {ranges(tuple(sorted(choice.partitions)))}"
