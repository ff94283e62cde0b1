"""Where a search begins: cuts of linear orders, partitions, list scheduling, packing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain, repeat
from random import Random
from typing import NamedTuple

from dbgraph.passes.search import metis
from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.atoms import Atoms
from dbgraph.passes.search.coarsen import coarsen
from dbgraph.passes.search.linear import Linear, most_atoms
from dbgraph.passes.search.listing import listed
from dbgraph.passes.search.objective import Objective
from dbgraph.passes.search.refine import make_fit

_ORDERS, _PARTITIONS = 24, 200
_LINEAR_SHARE, _METIS_SHARE = 0.1, 0.1


class Seed(NamedTuple):
    """A cut, which need not be valid, and the steps that it took."""

    cut: Assignment
    steps: float


class Kind(NamedTuple):
    """One kind of seeds.

    Attributes:
        next: another one; None where there is none.
        most: how many to take.
        share: of the time, for them and their refinement.
    """

    name: str
    next: Callable[[], Seed | None]
    most: int
    share: float


class Seeds:
    """Seeds without end."""

    def __init__(self, atoms: Atoms, objective: Objective, rng: Random) -> None:
        self.atoms, self.objective, self.rng = atoms, objective, rng

    def kinds(self) -> list[Kind]:
        """In the order in which to take them. Most of them know nothing of contiguity."""
        found = [Kind("linear", self.linear, _ORDERS, _LINEAR_SHARE)]
        if self.atoms.shape is None:
            found.append(Kind("metis", self.metis, _PARTITIONS, _METIS_SHARE))
        return found

    def linear(self) -> Seed | None:
        """The next linear order, cut into stretches."""
        taken = next(self._orders, None)
        if taken is None:
            return None
        linear, order = taken
        split = linear.split(order)
        if split is None:
            return None
        places = self.atoms.gather(linear.atoms.spread(split.places))
        return Seed(self._cut(places), (len(order) + 1) ** 2 / 1000 + 10)

    def metis(self) -> Seed | None:
        """The next partition by METIS."""
        places = next(self._partitions, None)
        if places is None:
            return None
        cut = self._cut(places)
        make_fit(cut)
        return Seed(cut, self.atoms.count / 10 + 10)

    def listed(self) -> Seed | None:
        """By list scheduling, where epochs go one after another."""
        if self.objective.serial == 0 or self.atoms.shape is not None:
            return None
        cut = self._cut(listed(self.atoms, self.objective))
        make_fit(cut)
        return Seed(cut, self.atoms.count / 10 + 10)

    def packed(self) -> Seed:
        """Where nothing else fits: largest atoms first, each where most memory is left."""
        left = [m.memory_bytes for m in self.atoms.problem.machines]
        places = [0] * self.atoms.count
        sizes, work = self.atoms.size_bytes, [0.0] * self.atoms.machines
        for atom in sorted(range(self.atoms.count), key=lambda a: (-sizes[a], a)):
            allowed = self.atoms.allowed[atom]
            m = max(allowed, key=lambda m: (left[m] >= sizes[atom], left[m], -work[m], -m))
            places[atom] = m
            left[m] -= sizes[atom]
            work[m] += self.atoms.work[self.atoms.problem.machines[m].kind][atom]
        return Seed(self._cut(places), self.atoms.count / 10)

    def _cut(self, places: Sequence[int]) -> Assignment:
        return Assignment(self.atoms, self.objective, places)

    @cached_property
    def _orders(self) -> Iterator[tuple[Linear, list[int]]]:
        """Linear orders of the atoms, or of merged ones where their matrix would be too large; the
        first two leave nothing to chance."""
        atoms = coarsen(self.atoms, most_atoms(self.atoms), self.rng)
        if not self.atoms.machines < atoms.count <= 2 * most_atoms(self.atoms):
            return iter(())
        linear = Linear(atoms, self.objective)
        rngs = chain((None,), repeat(self.rng))
        return ((linear, linear.order(rng, s)) for rng in rngs for s in ("deep", "wide"))

    @cached_property
    def _partitions(self) -> Iterator[list[int]]:
        return metis.seeds(self.atoms, self.objective, self.rng)


__all__ = ["Kind", "Seed", "Seeds"]
