"""Branch and bound without any solver: for problems small enough to try every cut."""

from __future__ import annotations

from math import inf

from dbgraph.passes.search.alike import alike
from dbgraph.passes.search.atoms import Atoms, Reach
from dbgraph.passes.search.budget import Clock
from dbgraph.passes.search.loads import Loads
from dbgraph.passes.search.objective import Objective

_FITS = 1 + 1e-12


def branch(
    atoms: Atoms, objective: Objective, clock: Clock, least: float = inf
) -> tuple[int, ...] | None:
    """The machine of each atom in the best cut below `least`; None where there is none.

    Atoms are placed one by one, the heaviest first. Loads only grow on the way, so a part of a cut
    that is no better than the best known one is given up.
    """
    search = _Branch(atoms, objective, clock, least)
    search.place(0)
    return search.best


class _Branch:
    """The atoms that are placed so far, and what they cost each machine."""

    def __init__(self, atoms: Atoms, objective: Objective, clock: Clock, least: float) -> None:
        self.atoms, self.objective, self.clock = atoms, objective, clock
        self.least = least
        self.best: tuple[int, ...] | None = None
        self.specs = atoms.problem.machines
        self.twins = {m: group for group in alike(atoms) for m in group}
        self.order = sorted(range(atoms.count), key=lambda a: (-atoms.least_work[a], a))
        self.places = [-1] * atoms.count
        self.on: list[list[int]] = [[] for _ in self.specs]
        self.sums = Loads(atoms, objective)
        self.size_bytes = [0.0] * atoms.machines

    def place(self, depth: int) -> None:
        """Tries every machine for the atom at this depth."""
        self.clock.spend(1)
        if self.sums.value >= self.least:
            return
        if depth == len(self.order):
            if all(self._shape(m).convex for m in range(len(self.specs))):
                self.least, self.best = self.sums.value, tuple(self.places)
            return
        atom = self.order[depth]
        for m in self.atoms.allowed[atom]:
            if not self._may_hold(m, atom):
                continue
            sums, size_bytes = self.sums.saved(), self.size_bytes[m]
            self._put(atom, m)
            if self._stays_convex(depth):
                self.place(depth + 1)
            self.on[m].pop()
            self.places[atom] = -1
            self.sums.restore(sums)
            self.size_bytes[m] = size_bytes

    def _may_hold(self, m: int, atom: int) -> bool:
        """Whether the atom fits, and no empty machine like this one comes before it."""
        size_bytes = self.size_bytes[m] + self.atoms.size_bytes[atom]
        if size_bytes > self.specs[m].memory_bytes * _FITS:
            return False
        return bool(self.on[m]) or m == next(t for t in self.twins[m] if not self.on[t])

    def _put(self, atom: int, m: int) -> None:
        self.sums.put(atom, m)
        self.size_bytes[m] += self.atoms.size_bytes[atom]
        for i in self.atoms.read[atom]:
            self._arrives(i, atom, m)
        for i in self.atoms.made[atom]:
            self._leaves(i, m)
        self.sums.settle()
        self.places[atom] = m
        self.on[m].append(atom)

    def _arrives(self, i: int, atom: int, m: int) -> None:
        """What an atom reads comes to its machine, if it is not there."""
        value = self.atoms.values[i]
        source = self.places[value.source]
        there = {self.places[t] for t in value.targets if t != atom} - {source, -1}
        if source < 0 or m == source or m in there:
            return
        self.sums.receive(i, m, value.cost)
        if self.objective.per_destination or not there:
            self.sums.send(i, source, value.cost)

    def _leaves(self, i: int, m: int) -> None:
        """What an atom makes goes to the machines that read it."""
        value = self.atoms.values[i]
        there = {self.places[t] for t in value.targets} - {m, -1}
        for other in there:
            self.sums.receive(i, other, value.cost)
        times = len(there) if self.objective.per_destination else min(len(there), 1)
        self.sums.send(i, m, times * value.cost)

    def _shape(self, m: int) -> Reach:
        whole = Reach()
        if self.atoms.shape is not None:
            for atom in self.on[m]:
                whole |= self.atoms.shape[atom]
        return whole

    def _stays_convex(self, depth: int) -> bool:
        """Whether no atom that is placed lies between those of another machine."""
        shape = self.atoms.shape
        if shape is None:
            return True
        between = [self._shape(m).between for m in range(len(self.specs))]
        return all(
            self.places[a] == m or not nodes & shape[a].nodes
            for m, nodes in enumerate(between)
            if nodes
            for a in self.order[: depth + 1]
        )


__all__ = ["branch"]
