"""Who decides the cuts and places: the user's file, a strategy, or a search."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.cluster import Cluster, MachineSpec
from dbgraph.dsl.network import Network
from dbgraph.errors import NoCutError, UsageError
from dbgraph.ir.graph import Graph
from dbgraph.passes.partition import STRATEGIES, Partition, Strategy, decide
from dbgraph.passes.partition.choice import Choices
from dbgraph.passes.partition.explore import Explorer, excess
from dbgraph.passes.partition.reduce import apply_choices
from dbgraph.passes.partition.team import Team
from dbgraph.passes.partition.tiles import Tiles
from dbgraph.passes.partition.trial import ORDERS, Candidate, Made, Outcome
from dbgraph.passes.schedule import Schedule
from dbgraph.passes.search.budget import Budget
from dbgraph.pipeline import Options, back_passes, front_passes, run
from dbgraph.plan.declared import Declared
from dbgraph.simulate import Forecast, simulate
from dbgraph.units import bytes_

NAMES = (*STRATEGIES, "auto")
"""What `--strategy` takes."""
# How far to look for a number of machines that would do.
_MOST_MACHINES = 256


@dataclass(frozen=True)
class Placed:
    """A graph with cuts and places, and what was decided for it.

    Attributes:
        strategy: who decided.
        outcome: of the search, where there was one.
    """

    graph: Graph
    choices: Choices
    strategy: str
    microbatches: int
    order: str
    outcome: Outcome | None = None


def place(network: Network | Declared, options: Options) -> Placed:
    """Raises NoCutError, UsageError."""
    if options.given is not None:
        name = options.strategy or options.given.name
        return _by_strategy(network, options, options.given, name)
    name = options.strategy or "auto"
    if name not in NAMES:
        raise UsageError(f"no strategy {name!r}", hint=f"known: {', '.join(NAMES)}")
    if name == "auto":
        return _by_search(network, options)
    return _by_strategy(network, options, STRATEGIES[name](options.machines), name)


def _by_strategy(
    network: Network | Declared, options: Options, strategy: Strategy, name: str
) -> Placed:
    microbatches, order = options.microbatches or 1, options.order or ORDERS[0]
    graph = run(front_passes(network, microbatches), network.graph, options.watch)
    may_idle = options.may_idle or options.given is not None
    choices = decide(graph, strategy, options.partitions, may_idle=may_idle)
    placed = run((Partition(choices),), graph, options.watch)
    return Placed(placed, choices, name, microbatches, order)


def _by_search(network: Network | Declared, options: Options) -> Placed:
    bench = _Bench(network, options)
    explorer = Explorer(
        bench,
        Budget(options.budget_s, options.budget_steps),
        microbatches=options.microbatches,
        order=options.order,
        may_idle=options.may_idle,
        seed=options.seed,
        progress=options.progress,
    )
    outcome = explorer.run()
    if outcome.best.excess:
        raise _nothing_fits(bench, outcome)
    best = outcome.best.candidate
    graph = run(front_passes(network, best.microbatches), network.graph, options.watch)
    placed = run((Partition(best.choices),), graph, options.watch)
    return Placed(placed, best.choices, "auto", best.microbatches, best.order, outcome)


class _Bench:
    """The network as the search sees it. Graphs are made once; plans are not held against the
    rules here, the one that is chosen is."""

    def __init__(
        self, network: Network | Declared, options: Options, cluster: Cluster | None = None
    ) -> None:
        self.network, self.options = network, options
        self.cluster = cluster or options.machines
        self.batch = network.batch
        self._graphs: dict[int, Graph] = {}

    def graph(self, microbatches: int) -> Graph:
        if microbatches not in self._graphs:
            passes = front_passes(self.network, microbatches)
            self._graphs[microbatches] = run(passes, self.network.graph)
        return self._graphs[microbatches]

    def simulate(self, candidate: Candidate) -> tuple[Made, Forecast]:
        mode = self.options.modes[0]
        graph = apply_choices(self.graph(candidate.microbatches), candidate.choices)
        for step in back_passes(mode):
            graph = step(graph)
        machines = len(self.cluster.machines)
        schedule = Schedule(machines, candidate.microbatches, mode == "training", candidate.order)
        made = Made(graph, *schedule(graph))
        return made, simulate(graph, made.transfers, made.programs, self.cluster)

    def on(self, cluster: Cluster) -> _Bench:
        """The same network on other machines."""
        return _Bench(self.network, self.options, cluster)


def _nothing_fits(bench: _Bench, outcome: Outcome) -> NoCutError:
    """The binding limit, and how many such machines would do."""
    held = outcome.best.forecast.machines
    specs = bench.cluster.machines
    worst = max(range(len(held)), key=lambda p: held[p].peak_bytes / specs[p].memory_bytes)
    limit = f"its machine has {bytes_(specs[worst].memory_bytes)}"
    count = _fewest(bench, specs[worst], len(specs), outcome.best.candidate.microbatches)
    return NoCutError(
        f"nothing fits the memory: of the best cut found, partition {worst} needs "
        f"{bytes_(held[worst].peak_bytes)}, and {limit}",
        hint=f"{count} of such machines would do, and no fewer"
        if count
        else f"nor do {_MOST_MACHINES} of such machines: a smaller batch, or more microbatches?",
    )


def _fewest(bench: _Bench, spec: MachineSpec, too_few: int, microbatches: int) -> int | None:
    """The smallest number of equal machines that a tiling fits; None above _MOST_MACHINES."""
    enough = too_few
    while not _fits(bench.on(Cluster((spec,) * enough)), microbatches):
        if enough >= _MOST_MACHINES:
            return None
        too_few, enough = enough, min(2 * enough, _MOST_MACHINES)
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if _fits(bench.on(Cluster((spec,) * middle)), microbatches):
            enough = middle
        else:
            too_few = middle
    return enough


def _fits(bench: _Bench, microbatches: int) -> bool:
    tiles = Tiles(bench.cluster)
    choices = tiles.greedy(bench.graph(microbatches), Team.of(bench.cluster))
    candidate = Candidate(choices, microbatches, ORDERS[0], tiles.name)
    return not excess(bench.simulate(candidate)[1], bench.cluster)
