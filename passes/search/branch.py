"""Branch and bound without any solver: for problems small enough to try every cut."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from dbgraph.passes.search.atoms import Atoms, Reach
from dbgraph.passes.search.budget import Clock
from dbgraph.passes.search.objective import Objective

_FITS = 1 + 1e-12


def branch(atoms: Atoms, objective: Objective, clock: Clock) -> tuple[int, ...] | None:
    """The machine of each atom in the best cut; None where none is valid.

    Atoms are placed one by one, the heaviest first. Loads only grow on the way, so a part of a cut
    that is no better than the best known one is given up.
    """
    search = _Branch(atoms, objective, clock)
    search.place(0, _Partial.empty(atoms))
    return search.best


@dataclass(slots=True)
class _Partial:
    """What the atoms that are placed so far cost each machine."""

    places: list[int]
    work: list[float]
    received: list[float]
    sent: list[float]
    size_bytes: list[float]
    sets: list[Reach]

    @staticmethod
    def empty(atoms: Atoms) -> _Partial:
        zeros = [0.0] * atoms.machines
        sets = [Reach()] * atoms.machines
        return _Partial([-1] * atoms.count, zeros, zeros, zeros, zeros, sets)

    def copy(self) -> _Partial:
        return _Partial(
            self.places[:],
            self.work[:],
            self.received[:],
            self.sent[:],
            self.size_bytes[:],
            self.sets[:],
        )


class _Branch:
    def __init__(self, atoms: Atoms, objective: Objective, clock: Clock) -> None:
        self.atoms, self.objective, self.clock = atoms, objective, clock
        self.least = inf
        self.best: tuple[int, ...] | None = None
        self.machines = atoms.problem.machines
        self.pinned = set(atoms.problem.pins.values())
        heavy = [min(w[a] for w in atoms.work) for a in range(atoms.count)]
        self.order = sorted(range(atoms.count), key=lambda a: (-heavy[a], a))

    def place(self, depth: int, partial: _Partial) -> None:
        """Tries every machine for the atom at this depth."""
        self.clock.spend(1)
        value = self._value(partial)
        if value >= self.least:
            return
        if depth == len(self.order):
            if all(s.convex for s in partial.sets):
                self.least, self.best = value, tuple(partial.places)
            return
        atom = self.order[depth]
        for m in self.atoms.allowed[atom]:
            if self._repeats(m, partial):
                continue
            new = self._with(partial, atom, m)
            if new is not None:
                self.place(depth + 1, new)

    def _value(self, p: _Partial) -> float:
        return max(
            self.objective.load(spec.kind, p.work[m], p.received[m], p.sent[m])
            for m, spec in enumerate(self.machines)
        )

    def _repeats(self, m: int, partial: _Partial) -> bool:
        """Whether an empty machine like this one comes before it."""
        used = set(partial.places)
        return m not in used | self.pinned and any(
            self.machines[other] == self.machines[m] and other not in used | self.pinned
            for other in range(m)
        )

    def _with(self, old: _Partial, atom: int, m: int) -> _Partial | None:
        """One more atom placed; None where that can't lead to a valid cut."""
        new = old.copy()
        new.places[atom] = m
        new.work[m] += self.atoms.work[self.machines[m].kind][atom]
        new.size_bytes[m] += self.atoms.size_bytes[atom]
        if new.size_bytes[m] > self.machines[m].memory_bytes * _FITS:
            return None
        if self.atoms.shape is not None and not self._contiguous(new, atom, m):
            return None
        for i in (*self.atoms.made[atom], *self.atoms.read[atom]):
            self._transfer(new, i, old.places, -1)
            self._transfer(new, i, new.places, +1)
        return new

    def _contiguous(self, new: _Partial, atom: int, m: int) -> bool:
        """Whether no atom that is placed lies between those of another machine."""
        shape = self.atoms.shape or ()
        new.sets[m] |= shape[atom]
        return all(
            new.places[a] in (-1, other) or not s.between & shape[a].nodes
            for other, s in enumerate(new.sets)
            for a in self.order[: self.order.index(atom) + 1]
        )

    def _transfer(self, p: _Partial, i: int, places: list[int], sign: int) -> None:
        """Adds (+1) or takes away (-1) what a value costs between the atoms that are placed."""
        value = self.atoms.values[i]
        source, cost = places[value.source], sign * value.cost
        there = {places[t] for t in value.targets} - {source, -1}
        if source < 0 or not there:
            return
        p.sent[source] += cost * (len(there) if self.objective.per_destination else 1)
        for m in there:
            p.received[m] += cost


__all__ = ["branch"]
