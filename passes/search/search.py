"""The search: seeds by the dynamic program, refinement, exact search, neighbourhoods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, log
from random import Random

from dbgraph.errors import NoCutError
from dbgraph.passes.search import exact
from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.atoms import condense
from dbgraph.passes.search.branch import branch
from dbgraph.passes.search.budget import Budget, Clock
from dbgraph.passes.search.coarsen import coarsen
from dbgraph.passes.search.contract import contract, simple_bound
from dbgraph.passes.search.linear import Linear
from dbgraph.passes.search.neighbourhood import improve
from dbgraph.passes.search.objective import Objective, better
from dbgraph.passes.search.problem import Place, Problem
from dbgraph.passes.search.refine import perturb, refine

PROVED_GAP = 5e-5
"""A relative gap up to which a cut counts as proved: CP-SAT's figures are integers."""

_TOLERANCE = 1e-9
_ORDERS = 24
_MOST_ATOMS = 2000  # in a linear order, whose matrix grows with the square
_MOST_CHOICES = 50_000  # atoms × machines that CP-SAT is given at once
_LINEAR_SHARE = 0.1
_SMALL = 20_000  # cuts that can be tried one by one
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
        loads: each machine's load.
        bound: no cut of this problem has a busiest machine below it.
        steps: the steps that were spent.
        seconds: the time that was spent.
        stages: the busiest machine's load after each stage, and when it was reached.
    """

    place: Place
    loads: tuple[float, ...]
    bound: float
    steps: float
    seconds: float
    stages: tuple[tuple[str, float, float], ...]

    @property
    def value(self) -> float:
        """The busiest machine's load."""
        return max(self.loads)

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
) -> Found:
    """The best cut found within a budget.

    Args:
        seed: the same seed gives the same result, as long as seconds are not what ends the search.
        use_exact: whether to use CP-SAT; None for where OR-Tools is installed.
        progress: is told the stage and the value whenever a better cut is found.

    Raises:
        NoCutError: no cut was found that fits the memories, the pins and the kinds.
        UsageError: CP-SAT is asked for and not installed.
    """
    use_exact = exact.available() if use_exact is None else use_exact
    return _Search(problem, objective, budget, seed, progress).run(use_exact)


class _Search:
    def __init__(
        self,
        problem: Problem,
        objective: Objective,
        budget: Budget,
        seed: int,
        progress: Progress | None,
    ) -> None:
        self.objective, self.progress = objective, progress
        self.atoms = condense(problem)
        self.clock, self.rng = budget.start(), Random(seed)
        self.best: Assignment | None = None
        self.bound = simple_bound(self.atoms, objective)
        self.stages: list[tuple[str, float, float]] = []

    def run(self, use_exact: bool) -> Found:
        if self.atoms.count == 0:
            return Found((), (0.0,) * self.atoms.machines, 0.0, 0, 0.0, ())
        best = self._start(use_exact)
        if use_exact:
            best = self._improved(best)
        return self._found(best)

    def _improved(self, best: Assignment) -> Assignment:
        first, middle = _SHARES_CONTIGUOUS if self.atoms.problem.contiguous else _SHARES_ANY
        if not self.done:
            best = self._exact(best, first)
        if not self.done:
            best = self._neighbourhoods(best, middle)
        if not self.done:
            best = self._exact(best, 1.0)
        if self.done and not self.clock.over and max(best.loads) > self.bound:
            best = self._exact(best, 1.0, _FINE, _FINE_EFFORT_S)
        return best

    def _start(self, use_exact: bool) -> Assignment:
        self._small()
        if self.best is None or not self.done:
            self._linear(use_exact)
        if self.best is None:
            self._packed()
        if self.best is None:
            raise NoCutError(
                f"no cut of {self.atoms.count} indivisible parts over {self.atoms.machines} "
                "machines was found that fits them",
                hint="use more machines, or machines with more memory, or a larger budget",
            )
        return self.best

    @property
    def done(self) -> bool:
        """Whether time is up, or the best cut proved."""
        return self.clock.over or (
            self.best is not None and max(self.best.loads) * (1 - PROVED_GAP) <= self.bound
        )

    def _take(self, stage: str, cut: Assignment) -> Assignment:
        """Keeps a copy of a cut if it is valid and better; the best one."""
        old = self.best
        if not cut.valid() or (old and not better(cut.key(), old.key(), _TOLERANCE)):
            return old or cut
        self.best = Assignment(cut.atoms, cut.objective, cut.places)
        value = max(cut.loads)
        if old is None or value < max(old.loads) * (1 - _TOLERANCE):
            self.stages.append((stage, value, self.clock.elapsed_s))
            if self.progress:
                self.progress(stage, value)
        return self.best

    def _small(self) -> None:
        """Small problems are solved outright."""
        if self.atoms.count * log(self.atoms.machines) > log(_SMALL):
            return
        places = branch(self.atoms, self.objective, self.clock)
        if places is None:
            raise NoCutError(
                f"no cut over {self.atoms.machines} machines keeps memory, pins and contiguity",
                hint="use more machines, or machines with more memory",
            )
        self.bound = max(self._take("branch", Assignment(self.atoms, self.objective, places)).loads)

    def _linear(self, with_exact: bool) -> None:
        """Orders in turn, each cut and refined. A few where an exact search follows."""
        atoms = coarsen(self.atoms, _MOST_ATOMS, self.rng)
        if atoms.count > 2 * _MOST_ATOMS:  # nothing holds them together
            return
        linear = Linear(atoms, self.objective)
        limit = self.clock.part(_LINEAR_SHARE if with_exact else 1.0)
        for tried, (style, rng) in enumerate(_styles(self.rng)):
            if tried and (self.done or limit.over or (with_exact and tried >= _ORDERS)):
                return
            order = linear.order(rng, style)
            split = linear.split(order)
            self._spend(limit, (len(order) + 1) ** 2 / 1000 + 10)
            if split is not None:
                places = self.atoms.gather(atoms.spread(split.places))
                self._refined("linear", Assignment(self.atoms, self.objective, places), limit)
            if self.best is not None and not with_exact and tried >= _ORDERS:
                cut = perturb(self.best, self.rng, 1 + tried % 4)
                self._refined("refine", cut, limit)

    def _refined(self, stage: str, cut: Assignment, limit: Clock) -> None:
        if not cut.valid():
            return
        self._take(stage, cut)
        before = limit.spent
        refine(cut, limit, self.rng)
        self.clock.spend(limit.spent - before)
        self._take("refine", cut)

    def _spend(self, limit: Clock, steps: float) -> None:
        limit.spend(steps)
        self.clock.spend(steps)

    def _packed(self) -> None:
        """Where no linear order fits: largest atoms first, each where most memory is left."""
        left = [m.memory_bytes for m in self.atoms.problem.machines]
        places = [0] * self.atoms.count
        sizes, work = self.atoms.size_bytes, [0.0] * self.atoms.machines
        for atom in sorted(range(self.atoms.count), key=lambda a: (-sizes[a], a)):
            allowed = self.atoms.allowed[atom]
            m = max(allowed, key=lambda m: (left[m] >= sizes[atom], left[m], -work[m], -m))
            places[atom] = m
            left[m] -= sizes[atom]
            work[m] += self.atoms.work[self.atoms.problem.machines[m].kind][atom]
        cut = Assignment(self.atoms, self.objective, places)
        self._refined("packing", cut, self.clock.part(1.0))

    def _exact(
        self,
        best: Assignment,
        share: float,
        resolution: int = exact.RESOLUTION,
        most_effort_s: float = inf,
    ) -> Assignment:
        """CP-SAT on all that a better cut could still part, for a share of what is left."""
        if self.atoms.count * self.atoms.machines > _MOST_CHOICES:
            return best
        value = max(best.loads)
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
        return self._take("exact", Assignment(self.atoms, self.objective, places))

    def _neighbourhoods(self, best: Assignment, share: float) -> Assignment:
        part = self.clock.part(share)
        improve(best, part, self.rng, lambda cut: self._take("neighbourhood", cut))
        self.clock.spend(part.spent)
        return self.best or best

    def _found(self, best: Assignment) -> Found:
        fresh = Assignment(self.atoms, self.objective, best.places)  # free of rounding
        return Found(
            self.atoms.spread(fresh.places),
            tuple(fresh.loads),
            min(self.bound, max(fresh.loads)),
            self.clock.spent,
            self.clock.elapsed_s,
            tuple(self.stages),
        )


def _styles(rng: Random) -> Iterator[tuple[str, Random | None]]:
    """Orders to take: the first ones leave nothing to chance."""
    yield "deep", None
    yield "wide", None
    while True:
        yield "deep", rng
        yield "wide", rng


__all__ = ["PROVED_GAP", "Found", "Progress", "search"]
