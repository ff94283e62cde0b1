"""The search: seeds by the dynamic program and METIS, refinement, exact search, neighbourhoods."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from math import inf, log
from random import Random

from dbgraph.errors import NoCutError
from dbgraph.passes.search import exact
from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.atoms import Atoms, condense
from dbgraph.passes.search.branch import branch
from dbgraph.passes.search.budget import Budget, Clock
from dbgraph.passes.search.busy import employ
from dbgraph.passes.search.coarsen import coarsen
from dbgraph.passes.search.contract import contract, simple_bound
from dbgraph.passes.search.fold import fold
from dbgraph.passes.search.neighbourhood import improve
from dbgraph.passes.search.objective import Objective, better
from dbgraph.passes.search.problem import Place, Problem
from dbgraph.passes.search.refine import STRENGTH, perturb, refine
from dbgraph.passes.search.seeds import Seed, Seeds

PROVED_GAP = 5e-5
"""A relative gap up to which a cut counts as proved: CP-SAT's figures are integers."""

_TOLERANCE = 1e-9
_MOST_ATOMS = 2000  # that are searched at once; more are merged first
_MOST_CONTIGUOUS = 8000  # nodes: who lies between whom grows with their square
_MOST_LITERALS = 50_000  # that CP-SAT is given at once
_SMALL = 20_000  # cuts that can be tried one by one
_SHAKE_STEPS, _MOST_SWAPS = 10, 300
_SHAKEN_SHARE, _PATIENCE = 0.3, 150  # where an exact search follows
# Of what is left, for the merged atoms; and for the single ones after them.
_COARSE_SHARE, _SINGLE_SHARE = 0.5, 0.5
# What is proved in coarse integers is then searched once more in fine ones, for so long.
_FINE, _FINE_EFFORT_S = 10**9, 2.0
# Shares of what is left, for the exact search and the neighbourhoods; the exact search ends it.
# A contiguous cut by the dynamic program is near the best, so that the proof is what takes time.
_SHARES_CONTIGUOUS = 0.6, 0.3
_SHARES_ANY = 0.25, 0.95


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        place: each node's machine.
        value: what was made small: the busiest machine's load, or the sum of each epoch's.
        loads: each machine's load, all epochs together.
        bound: no cut of this problem has a value below it.
        steps: the steps that were spent.
        seconds: the time that was spent.
        stages: the value after each stage, and when it was reached.
    """

    place: Place
    value: float
    loads: tuple[float, ...]
    bound: float
    steps: float
    seconds: float
    stages: tuple[tuple[str, float, float], ...]

    @property
    def gap(self) -> float:
        """How far, relatively, the value may at most be from the best there is."""
        return (self.value - self.bound) / self.value if self.value > 0 else 0.0

    @property
    def proved(self) -> bool:
        return self.gap <= PROVED_GAP


Progress = Callable[[str, float], None]


def search(
    problem: Problem,
    objective: Objective,
    budget: Budget,
    *,
    seed: int = 0,
    use_exact: bool | None = None,
    progress: Progress | None = None,
    start: Place | None = None,
    busy: Collection[int] = (),
) -> Found:
    """The best cut found within a budget.

    Args:
        seed: the same seed gives the same result, as long as seconds are not what ends the search.
        use_exact: whether to use CP-SAT; None for where OR-Tools is installed.
        progress: is told the stage and the value whenever a better cut is found.
        start: a cut to begin with. What is found is no worse, if it keeps memory and all else.
        busy: machines that get some work, if any can be spared, even where that costs.

    Raises:
        NoCutError: no cut was found that fits the memories, the pins and the kinds.
        UsageError: CP-SAT is asked for and not installed.
    """
    use_exact = exact.available() if use_exact is None else use_exact
    clock = budget.start()
    if problem.contiguous and problem.nodes > _MOST_CONTIGUOUS:
        free = condense(replace(problem, contiguous=False))
        folded = fold(free, _MOST_ATOMS, start)
        run = _Search(condense(folded.problem), objective, clock, Random(seed), progress)
        found = run.run(use_exact, None if start is None else folded.gather(start), busy)
        # The bound holds for stretches only; that of any cut holds for all.
        bound = simple_bound(free, objective)
        return replace(found, place=folded.spread(found.place), bound=bound)
    run = _Search(condense(problem), objective, clock, Random(seed), progress)
    return run.run(use_exact, start, busy)


class _Search:
    """One search, over atoms that are merged further where they are too many."""

    def __init__(
        self,
        atoms: Atoms,
        objective: Objective,
        clock: Clock,
        rng: Random,
        progress: Progress | None,
    ) -> None:
        self.atoms, self.objective, self.progress = atoms, objective, progress
        self.clock, self.rng = clock, rng
        self.seeds = Seeds(atoms, objective, rng)
        self.best: Assignment | None = None
        self.bound = simple_bound(self.atoms, objective)
        self.stages: list[tuple[str, float, float]] = []

    def run(self, use_exact: bool, start: Place | None, busy: Collection[int]) -> Found:
        if self.atoms.count == 0:
            return Found((), 0.0, (0.0,) * self.atoms.machines, 0.0, 0, 0.0, ())
        if start is not None:
            self._take("start", self._cut(self.atoms.gather(start)))
        if self.atoms.count > 2 * _MOST_ATOMS:
            self._by_levels(use_exact)
        else:
            self._whole(use_exact)
        if self.best is None:
            raise NoCutError(
                f"no cut of {self.atoms.count} indivisible parts over {self.atoms.machines} "
                "machines was found that fits them",
                hint="use more machines, or machines with more memory, or a larger budget",
            )
        employ(self.best, busy)
        return self._found(self.best)

    @property
    def done(self) -> bool:
        """Whether time is up, or the best cut proved."""
        return self.clock.over or (
            self.best is not None and self.best.value * (1 - PROVED_GAP) <= self.bound
        )

    def _whole(self, use_exact: bool) -> None:
        """All atoms at once."""
        self._small()
        self._seeds()
        if self.best is not None and use_exact:
            self._improved(self.best)
        elif self.best is not None:
            self._shaken(1.0, inf)

    def _shaken(self, share: float, patience: float) -> None:
        """Copies of the best in which a few atoms moved at random, refined, again and again.

        Args:
            patience: copies without gain after which to end.
        """
        limit, idle = self.clock.part(share), 0
        while self.best is not None and not (self.done or limit.over or idle > patience):
            old = self.best
            self._spend(limit, _SHAKE_STEPS)
            if self.atoms.shape is not None:
                self._try("linear", self.seeds.linear(), limit)
            shaken = perturb(old, self.rng, self.rng.randint(1, STRENGTH))
            self._refined("refine", shaken, limit)
            idle = idle + 1 if self.best is old else 0

    def _by_levels(self, use_exact: bool) -> None:
        """Merged atoms first, along the best cut if there is one; then single atoms move."""
        self._list()
        while True:
            before, begun_s = self.best, self.clock.elapsed_s
            self._merged(use_exact)
            if self.best is None:
                self._try("packing", self.seeds.packed(), self.clock)
            if self.best is None or self.done:
                return
            self._refined("refine", self._cut(self.best.places), self.clock.part(_SINGLE_SHARE))
            if before is not None and not better(self.best.key(), before.key(), _TOLERANCE):
                return
            if self.clock.seconds_left < (self.clock.elapsed_s - begun_s) * _COARSE_SHARE:
                return

    def _merged(self, use_exact: bool) -> None:
        """A search over merged atoms."""
        places = None if self.best is None else self.best.places
        coarse = coarsen(self.atoms, _MOST_ATOMS, self.rng, places)
        part = self.clock.part(_COARSE_SHARE)
        inner = _Search(coarse, self.objective, part, self.rng, None)
        if places is not None:
            inner._take("start", inner._cut(coarse.gather(self.atoms.spread(places))))
        inner._whole(use_exact)
        self.clock.spend(part.spent)
        if inner.best is not None:
            self._take("merged", self._cut(self.atoms.gather(coarse.spread(inner.best.places))))

    def _improved(self, best: Assignment) -> None:
        """By CP-SAT, and before its neighbourhoods by shaking."""
        first, middle = _SHARES_ANY if self.atoms.shape is None else _SHARES_CONTIGUOUS
        if not self.done:
            best = self._exact(best, first)
        if self.atoms.shape is None:
            self._shaken(_SHAKEN_SHARE, _PATIENCE)
            best = self.best or best
        if not self.done:
            best = self._neighbourhoods(best, middle)
        if not self.done:
            best = self._exact(best, 1.0)
        if self.done and not self.clock.over and best.value > self.bound:
            self._exact(best, 1.0, _FINE, _FINE_EFFORT_S)

    def _cut(self, places: Sequence[int]) -> Assignment:
        return Assignment(self.atoms, self.objective, places)

    def _take(self, stage: str, cut: Assignment) -> Assignment:
        """Keeps a copy of a cut if it is valid and better; the best one."""
        old = self.best
        if not cut.valid() or (old and not better(cut.key(), old.key(), _TOLERANCE)):
            return old or cut
        self.best = self._cut(cut.places)
        value = cut.value
        if old is None or value < old.value * (1 - _TOLERANCE):
            self.stages.append((stage, value, self.clock.elapsed_s))
            if self.progress:
                self.progress(stage, value)
        return self.best

    def _small(self) -> None:
        """Small problems are solved outright."""
        if self.atoms.count * log(self.atoms.machines) > log(_SMALL):
            return
        known = inf if self.best is None else self.best.value
        places = branch(self.atoms, self.objective, self.clock, known)
        if places is not None:
            self._take("branch", self._cut(places))
        if self.best is None:
            raise NoCutError(
                f"no cut over {self.atoms.machines} machines keeps memory, pins and contiguity",
                hint="use more machines, or machines with more memory",
            )
        self.bound = self.best.value

    def _seeds(self) -> None:
        """Seeds of each kind in turn, each of them refined."""
        self._list()
        for kind in self.seeds.kinds():
            limit = self.clock.part(kind.share)
            for _ in range(kind.most):
                if self.best is not None and (self.done or limit.over):
                    break
                self._try(kind.name, kind.next(), limit)
                if self.clock.over:
                    break
        if self.best is None:
            self._try("packing", self.seeds.packed(), self.clock)

    def _list(self) -> None:
        """List scheduling, as it is."""
        seed = None if self.done else self.seeds.listed()
        if seed is not None:
            self.clock.spend(seed.steps)
            self._take("list", seed.cut)

    def _try(self, stage: str, seed: Seed | None, limit: Clock) -> None:
        """Keeps a seed, and what refinement makes of it, if they are better."""
        if seed is not None:
            self._spend(limit, seed.steps)
            self._refined(stage, seed.cut, limit)

    def _refined(self, stage: str, cut: Assignment, limit: Clock) -> None:
        """Keeps a cut, and what refinement makes of it, if they are better.

        Args:
            limit: the search's own clock, or one for a part of it.
        """
        if not cut.valid():
            return
        self._take(stage, cut)
        before = limit.spent
        refine(cut, limit, self.rng, _MOST_SWAPS)
        if limit is not self.clock:
            self.clock.spend(limit.spent - before)
        self._take("refine", cut)

    def _spend(self, limit: Clock, steps: float) -> None:
        limit.spend(steps)
        if limit is not self.clock:
            self.clock.spend(steps)

    def _exact(
        self,
        best: Assignment,
        share: float,
        resolution: int = exact.RESOLUTION,
        most_effort_s: float = inf,
    ) -> Assignment:
        """CP-SAT on all that a better cut could still part, for a share of what is left."""
        if exact.literals(self.atoms, self.objective) > _MOST_LITERALS:
            return best
        value = best.value
        atoms = contract(self.atoms, self.objective, value * (1 + _TOLERANCE))
        if atoms is None:
            self.bound = value
            return best
        start = Assignment(atoms, self.objective, atoms.gather(self.atoms.spread(best.places)))
        solved = exact.solve(
            start,
            seconds=self.clock.seconds_left * share,
            effort_s=min(self.clock.effort_left_s * share, most_effort_s),
            seed=self.rng.randrange(2**31),
            resolution=resolution,
        )
        self.clock.spend_effort(solved.effort_s)
        self.bound = max(self.bound, min(solved.bound, value))
        if solved.places is None:
            return best
        places = self.atoms.gather(atoms.spread(solved.places))
        return self._take("exact", self._cut(places))

    def _neighbourhoods(self, best: Assignment, share: float) -> Assignment:
        part = self.clock.part(share)
        improve(best, part, self.rng, lambda cut: self._take("neighbourhood", cut))
        self.clock.spend(part.spent)
        return self.best or best

    def _found(self, best: Assignment) -> Found:
        fresh = self._cut(best.places)  # free of rounding
        return Found(
            self.atoms.spread(fresh.places),
            fresh.value,
            tuple(fresh.loads),
            min(self.bound, fresh.value),
            self.clock.spent,
            self.clock.elapsed_s,
            tuple(self.stages),
        )


__all__ = ["PROVED_GAP", "Found", "Progress", "search"]
