"""A seed by list scheduling: epoch after epoch, each atom where it would be done first.

After Graham, "Bounds on Multiprocessing Timing Anomalies" (SIAM J. Appl. Math. 1969); that moving
what an atom reads counts too is from Topcuoglu, Hariri, Wu, "Performance-Effective and
Low-Complexity Task Scheduling for Heterogeneous Computing" (IEEE TPDS 2002).
"""

from __future__ import annotations

from dbgraph.passes.search.atoms import Atoms
from dbgraph.passes.search.loads import Loads
from dbgraph.passes.search.objective import Objective


def listed(atoms: Atoms, objective: Objective) -> list[int]:
    """The machine of each atom. Memories are looked at, but where none is left it may not fit."""
    return _Listing(atoms, objective).run()


class _Listing:
    def __init__(self, atoms: Atoms, objective: Objective) -> None:
        self.atoms, self.objective = atoms, objective
        self.sums = Loads(atoms, objective)
        self.places = [-1] * atoms.count
        self.left_bytes = [m.memory_bytes for m in atoms.problem.machines]
        self.there: list[set[int]] = [set() for _ in atoms.values]  # who has each value by now

    def run(self) -> list[int]:
        works = self.sums.works
        for atom in sorted(range(self.atoms.count), key=lambda a: (works[a][0][0], a)):
            self._put(atom, min(self._candidates(atom), key=lambda m: self._key(atom, m)))
        return self.places

    def _candidates(self, atom: int) -> list[int]:
        """The machines that make what an atom reads, and the one with least to do."""
        block = self.sums.works[atom][0][0]
        size_bytes, allowed = self.atoms.size_bytes[atom], self.atoms.allowed[atom]
        room = [m for m in allowed if size_bytes <= self.left_bytes[m]] or allowed
        near = {self.places[self.atoms.values[i].source] for i in self.atoms.read[atom]}
        row = self.sums.row(block)
        idlest = min(room, key=lambda m: (row[m], m))
        return [idlest, *sorted(near.intersection(room))]

    def _key(self, atom: int, m: int) -> tuple[float, float]:
        """When it would be done there, by what the machine has to do in its epoch."""
        block, last = self.sums.works[atom][0][0], len(self.sums.peaks) - 1
        moved = sum(
            self.atoms.values[i].cost
            for i in self.atoms.read[atom]
            if m not in self.there[i] and self.places[self.atoms.values[i].source] >= 0
        )
        return self.sums.with_more(atom, block, m, moved), self.sums.row(last)[m]

    def _put(self, atom: int, m: int) -> None:
        sums, values = self.sums, self.atoms.values
        sums.put(atom, m)
        self.places[atom] = m
        self.left_bytes[m] -= self.atoms.size_bytes[atom]
        for i in self.atoms.made[atom]:
            self.there[i].add(m)
        for i in self.atoms.read[atom]:
            source = self.places[values[i].source]
            if source >= 0 and m not in self.there[i]:
                sums.receive(i, m, values[i].cost)
                if self.objective.per_destination or len(self.there[i]) == 1:
                    sums.send(i, source, values[i].cost)
                self.there[i].add(m)
        sums.settle()


__all__ = ["listed"]
