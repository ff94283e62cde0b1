"""The search for the fastest plan: seeds, then better and better neighbours of the best. Only the
simulated step counts; memory is a hard limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from math import inf

from dbgraph.cluster import Cluster
from dbgraph.passes.partition.choice import used_partitions
from dbgraph.passes.partition.layerwise import bounded, is_bounded, is_layered, layerwise
from dbgraph.passes.partition.neighbours import neighbours
from dbgraph.passes.partition.pinned import check_places
from dbgraph.passes.partition.relocate import Relocation, relocate
from dbgraph.passes.partition.seeds import Seeds
from dbgraph.passes.partition.team import Team
from dbgraph.passes.partition.tiles import Tiles
from dbgraph.passes.partition.trial import ORDERS, Bench, Candidate, Outcome, Progress, Trial
from dbgraph.passes.search.budget import Budget
from dbgraph.simulate import Forecast

# The search ends when so many nodes of plans were looked at since the last gain of so much.
_PATIENCE_NODES = 40_000
_GAIN = 0.002
# The same while plans are tried whose bounds are below the best step.
_BOUNDED_NODES = 200_000
# Nodes of the network × machines above which only the plain strategies are affordable.
_LARGE = 40_000
# Up to here spans of layers are always priced; else if the best step is so many times the one
# whose work is shared without loss.
_QUICK, _MUCH = 1_000, 3.0
# For placing layers, and in the end tiles, by the search core: of the seconds that are left, and
# in its own steps.
_PLACE_SHARE, _PLACE_STEPS = 0.1, 20_000
_RELOCATE_SHARE, _RELOCATE_STEPS, _RELOCATE_NODES = 0.3, 50_000, 15_000


class Explorer:
    """One search. The same seed and steps give the same outcome, as long as seconds are not what
    ends it.

    Args:
        budget: its steps are plans that are simulated.
        microbatches, order: as the user fixed them, or None.
        may_idle: machines may be left without work.
        progress: is told of each better plan.
    """

    def __init__(
        self,
        bench: Bench,
        budget: Budget,
        *,
        microbatches: int | None = None,
        order: str | None = None,
        may_idle: bool = False,
        seed: int = 0,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.bench, self.seed, self.progress = bench, seed, progress
        self.seeds = Seeds(bench, microbatches, order, seed)
        self.orders = (order,) if order else ORDERS
        self.everyone = frozenset() if may_idle else frozenset(range(len(bench.cluster.machines)))
        self.clock = budget.start()
        self.best: Trial | None = None
        self.tried = 0
        self.idle_nodes = 0  # looked at since the last gain
        self.strategies: dict[str, float] = {}
        self.seen: set[int] = set()

    def run(self) -> Outcome:
        """Raises NoCutError where the network can't be cut so."""
        graph, machines = self.bench.graph(self.seeds.few), len(self.bench.cluster.machines)
        check_places(graph, machines)
        self._plain()
        if len(graph) * machines <= _LARGE:
            self._search()
        return self._relocated()

    def _search(self) -> None:
        if self.over:
            return
        self._try_microbatches()
        if not self.everyone:
            self._try_all(self.seeds.fewer())
        self._try_all(self.seeds.uniform())
        budget = Budget(_PLACE_SHARE * self.clock.seconds_left, _PLACE_STEPS)
        self._try_all(self.seeds.placed(budget))
        if self.best and self._is_worth_spans(self.best.forecast.step_s):
            self._try_all(self.seeds.pipelined(self.best.forecast.step_s))
        known = self._is_bounded()
        self._improve(known)
        best = self.best
        if known:
            self._try_bounded()
        if self.best is not best:
            self._improve(known)

    def _improve(self, known: bool) -> None:
        """Better and better neighbours of the best, until there is none.

        Args:
            known: plans of whole layers are bounded: those next to one of them need no trial.
        """
        improved = True
        while improved and self.best:
            found: Iterable[Candidate] = neighbours(self.bench, self.best, self.orders)
            if not (known and is_layered(self.bench, self.best.candidate)):
                found = chain(found, layerwise(self.bench, self.best))
            improved = self._try_all(found, first=True)

    def _is_bounded(self) -> bool:
        """Whether plans of whole layers can be bounded: those that train, of a small network."""
        trains = self.best and any(r.kind == "gradient" for r in self.best.made.graph.results)
        graph = self.bench.graph(self.seeds.few)
        return bool(trains) and is_bounded(graph, self.bench.cluster)

    def _try_bounded(self) -> None:
        self.idle_nodes = _PATIENCE_NODES - _BOUNDED_NODES
        for bound_s, candidate in bounded(self.bench, self.seeds.few, self.seeds.order):
            best = self.best
            if self.over or best is None or (not best.excess and bound_s >= best.forecast.step_s):
                break
            self._try_all([candidate])
        self.idle_nodes = 0

    def _plain(self) -> None:
        """They are tried whatever the budget: the outcome is never worse than they are."""
        for candidate in self.seeds.plain():
            trial = self._try(candidate)
            self.strategies[candidate.label] = trial.forecast.step_s
        if self.best is None and not self.everyone:
            self._try_all(self.seeds.fewer())
        if self.best is None:
            raise self.seeds.errors[0]

    def _try_all(self, found: Iterable[Candidate], first: bool = False) -> bool:
        """Whether one was better than the best; with `first` the others are left then."""
        improved = False
        for candidate in found:
            if self.over:
                return False
            if candidate.mark not in self.seen and self._uses_enough(candidate):
                improved |= self._try(candidate) is self.best
            if improved and first:
                return True
        return improved

    def _try_microbatches(self) -> None:
        """More of them, as long as that is better, or something does not fit."""
        for candidate in self.seeds.microbatched():
            if not self._try_all([candidate]) and self.best and not self.best.excess:
                return

    def _is_worth_spans(self, best_s: float) -> bool:
        """Where pricing them takes long, only if there is much to gain."""
        cluster = self.bench.cluster
        graph, count = self.bench.graph(self.seeds.few), len(cluster.machines)
        if len(graph) * count <= _QUICK:
            return True
        alone_s = sum(Tiles(cluster).prices(graph, Team.of(cluster).slice(0, 1)).values())
        speed = sum(m.flop_s for m in cluster.machines) / cluster.machines[0].flop_s
        return best_s > _MUCH * alone_s / speed

    @property
    def over(self) -> bool:
        """No more plans are tried: there was no gain for long, or the next might take longer than
        is left."""
        mean_s = self.clock.elapsed_s / max(1, self.tried)
        return (
            self.clock.over or self.clock.seconds_left < mean_s or self.idle_nodes > _PATIENCE_NODES
        )

    def _uses_enough(self, candidate: Candidate) -> bool:
        return self.everyone <= used_partitions(candidate.choices)

    def _try(self, candidate: Candidate) -> Trial:
        self.seen.add(candidate.mark)
        made, forecast = self.bench.simulate(candidate)
        trial = Trial(candidate, made, forecast, excess(forecast, self.bench.cluster))
        self.clock.spend(1)
        self.tried += 1
        self.idle_nodes += len(made.graph)
        if self.best is None or trial.key < self.best.key:
            self._take(trial)
        return trial

    def _take(self, trial: Trial) -> None:
        old = self.best
        self.best = trial
        if old is None or old.excess or _gain(old, trial) > _GAIN:
            self.idle_nodes = 0
        if self.progress is not None:
            self.progress(Progress(self.tried, trial.forecast.step_s, trial.candidate.label))

    def _relocated(self) -> Outcome:
        """The best plan's tiles placed anew by the search core, where that is faster."""
        best = self.best
        assert best is not None
        outcome = Outcome(best, self.tried, self.strategies)
        if self.clock.over or best.excess or len(best.made.graph) > _RELOCATE_NODES:
            return outcome
        found = [self._moved(best, step_s) for step_s in (None, best.forecast.step_s)]
        self.idle_nodes = 0
        self._try_all(candidate for candidate, _ in found)
        first = found[0][1]
        return Outcome(self.best or best, self.tried, self.strategies, first.value_s, first.bound_s)

    def _moved(self, best: Trial, step_s: float | None) -> tuple[Candidate, Relocation]:
        """
        Args:
            step_s: of the best plan, to set the core's estimate right by; None: its own measure.
        """
        found = relocate(
            self.bench.graph(best.candidate.microbatches),
            best.candidate.choices,
            self.bench.cluster,
            Budget(_RELOCATE_SHARE * self.clock.seconds_left, _RELOCATE_STEPS),
            microbatches=best.candidate.microbatches,
            step_s=step_s,
            seed=self.seed,
        )
        label = "tiles placed anew"
        return replace(best.candidate, choices=found.choices, recipe=None, label=label), found


def _gain(old: Trial, new: Trial) -> float:
    """Relative."""
    step_s = old.forecast.step_s
    return 1 - new.forecast.step_s / step_s if 0 < step_s < inf else 0.0


def excess(forecast: Forecast, cluster: Cluster) -> float:
    """How many times too much the machine holds that lacks most memory; 0 if all fit. What
    deadlocks fits nowhere."""
    if forecast.blocked:
        return inf
    machines = zip(forecast.machines, cluster.machines, strict=True)
    worst = max(held.peak_bytes / spec.memory_bytes for held, spec in machines)
    return worst if worst > 1 else 0.0
