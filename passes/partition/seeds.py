"""Where the search begins: tilings, stages, whole layers placed, spans on groups of machines."""

from __future__ import annotations

from collections.abc import Iterator

from dbgraph.errors import NoCutError
from dbgraph.passes.partition.ahead import is_heavy
from dbgraph.passes.partition.choice import Choices, computes
from dbgraph.passes.partition.grids import batched_values, every_way, over_all
from dbgraph.passes.partition.pinned import pinned
from dbgraph.passes.partition.relocate import place_layers
from dbgraph.passes.partition.spans import pipelines
from dbgraph.passes.partition.stages import Stages
from dbgraph.passes.partition.team import Team
from dbgraph.passes.partition.tiles import Tiles
from dbgraph.passes.partition.trial import ORDERS, Bench, Candidate
from dbgraph.passes.search.budget import Budget

_MICROBATCHES = (1, 2, 4, 8, 16, 32)
# Pipelines that are simulated, and how much their estimate may be above the best step.
_PIPELINES, _FAR = 12, 1.4


class Seeds:
    """Args:
    microbatches: as the user fixed them, or None.
    order: likewise.
    """

    def __init__(
        self, bench: Bench, microbatches: int | None, order: str | None, seed: int
    ) -> None:
        self.bench, self.seed = bench, seed
        self.microbatches = microbatches
        self.order = order or ORDERS[0]
        self.team = Team.of(bench.cluster)
        self.errors: list[NoCutError] = []

    @property
    def few(self) -> int:
        """The microbatches of plans that have no use for them."""
        return self.microbatches or 1

    def plain(self) -> Iterator[Candidate]:
        """The strategies that need no search; why one could not cut the network goes to
        `errors`."""
        graph = self.bench.graph(self.few)
        for strategy in (Tiles(self.bench.cluster), Stages(self.bench.cluster)):
            try:
                choices = strategy.choose(graph, len(self.team))
            except NoCutError as error:
                self.errors.append(error)
                continue
            recipe = strategy if isinstance(strategy, Tiles) else None
            yield self._candidate(choices, self.few, strategy.name, recipe)

    def fewer(self) -> Iterator[Candidate]:
        """Tilings of all machines that need not use all, of half of them and so on; of unequal
        ones the fastest."""
        count = len(self.team)
        while count:
            team = self.team.some(count)
            recipe = Tiles(self.bench.cluster, team)
            choices = recipe.greedy(self.bench.graph(self.few), team)
            label = "tiles" if count == len(self.team) else f"tiles on {count}"
            yield self._candidate(choices, self.few, label, recipe)
            count //= 2

    def uniform(self) -> Iterator[Candidate]:
        """All that is heavy cut in the same way over all machines. Plans that are cut so
        throughout are far from those that are not: one node cut otherwise is worse than either."""
        graph = self.bench.graph(self.few)
        batched = batched_values(graph)
        heavy = [n for n in graph if computes(n) and not pinned(n) and is_heavy(graph, n)]
        for along_batch, label in ((False, "every layer"), (True, "batch")):
            cuts = {
                n.name: over_all(graph, n, self.team, n.name in batched, along_batch) for n in heavy
            }
            given = {name: choice for name, choice in cuts.items() if choice is not None}
            recipe = Tiles(self.bench.cluster, self.team, given=given)
            yield self._candidate(recipe.greedy(graph, self.team), self.few, label, recipe)
        recipe = Tiles(self.bench.cluster, self.team, offer=every_way)
        choices = recipe.greedy(graph, self.team)
        yield self._candidate(choices, self.few, "every layer, light ones too", recipe)

    def microbatched(self) -> Iterator[Candidate]:
        """Tilings with more and more microbatches: one is computed while another's values travel,
        and less is alive at once."""
        for count in self._counts()[1:]:
            recipe = Tiles(self.bench.cluster, self.team)
            choices = recipe.greedy(self.bench.graph(count), self.team)
            yield self._candidate(choices, count, f"tiles, {count} microbatches", recipe)

    def placed(self, budget: Budget) -> Iterator[Candidate]:
        """Whole layers, contiguous and in any way, by the search core."""
        graph = self.bench.graph(self.few)
        for contiguous, label in ((True, "stages by time"), (False, "layers placed")):
            choices = place_layers(
                graph,
                self.bench.cluster,
                len(self.team),
                budget,
                contiguous=contiguous,
                microbatches=self.few,
                seed=self.seed,
            )
            if choices is not None:
                yield self._candidate(choices, self.few, label)

    def pipelined(self, best_s: float) -> Iterator[Candidate]:
        """Spans of layers on groups of machines, with microbatches; those whose estimate is not
        far above the best step so far."""
        if len(self.team) == 1:
            return
        found = pipelines(self.bench.graph, self.bench.cluster, self.team, self._counts())
        for pipeline in found[:_PIPELINES]:
            if pipeline.step_s > _FAR * best_s:
                return
            recipe = Tiles(self.bench.cluster, teams=pipeline.teams)
            choices = recipe.greedy(self.bench.graph(pipeline.microbatches), self.team)
            label = f"{'+'.join(map(str, pipeline.sizes))} machines"
            yield self._candidate(choices, pipeline.microbatches, label, recipe)

    def _counts(self) -> list[int]:
        if self.microbatches:
            return [self.microbatches]
        return [m for m in _MICROBATCHES if self.bench.batch % m == 0]

    def _candidate(
        self, choices: Choices, microbatches: int, label: str, recipe: Tiles | None = None
    ) -> Candidate:
        return Candidate(choices, microbatches, self.order, label, recipe)
