"""A cut while it is changed: every machine's load, kept up to date move by move."""

from __future__ import annotations

from collections.abc import Sequence

from dbgraph.passes.search.atoms import Atoms, Reach
from dbgraph.passes.search.objective import Key, Objective, key_of

_FITS = 1 + 1e-9  # sums that were added and taken away again


class Assignment:
    """The machine of each atom, with what follows from it.

    Attributes:
        places: the machine of each atom.
        loads: each machine's load.
        moved: what all machines send and receive, together.
    """

    def __init__(self, atoms: Atoms, objective: Objective, places: Sequence[int]) -> None:
        self.atoms, self.objective = atoms, objective
        self.places = list(places)
        machines = atoms.machines
        self._kinds = [m.kind for m in atoms.problem.machines]
        self._work = [0.0] * machines
        self._received = [0.0] * machines
        self._sent = [0.0] * machines
        self._bytes = [0.0] * machines
        # How many atoms on each machine read a value; what the value's source reads needs no move.
        self._readers = [[0] * machines for _ in atoms.values]
        for atom, machine in enumerate(self.places):
            self._work[machine] += atoms.work[self._kinds[machine]][atom]
            self._bytes[machine] += atoms.size_bytes[atom]
        for i, value in enumerate(atoms.values):
            for t in value.targets:
                self._readers[i][self.places[t]] += 1
            self._account(i, +1)
        self.loads = [self._load(m) for m in range(machines)]

    @property
    def moved(self) -> float:
        return sum(self._received) + sum(self._sent)

    def key(self) -> Key:
        return key_of(self.loads, self.moved)

    def members(self, machine: int) -> list[int]:
        """The atoms on a machine."""
        return [a for a, m in enumerate(self.places) if m == machine]

    def busiest(self) -> int:
        return max(range(len(self.loads)), key=lambda m: (self.loads[m], -m))

    def move(self, atom: int, machine: int) -> None:
        """Moves an atom. Whether it may stand there is the caller's question: see `may_move`."""
        old = self.places[atom]
        if old == machine:
            return
        touched = {old, machine}
        made, read = self.atoms.made[atom], self.atoms.read[atom]
        for i in (*made, *read):
            touched.update(self._account(i, -1))
        self.places[atom] = machine
        for i in read:
            self._readers[i][old] -= 1
            self._readers[i][machine] += 1
        for i in (*made, *read):
            touched.update(self._account(i, +1))
        self._work[old] -= self.atoms.work[self._kinds[old]][atom]
        self._work[machine] += self.atoms.work[self._kinds[machine]][atom]
        self._bytes[old] -= self.atoms.size_bytes[atom]
        self._bytes[machine] += self.atoms.size_bytes[atom]
        for m in touched:
            self.loads[m] = self._load(m)

    def fits(self, machine: int) -> bool:
        """Whether what a machine holds fits its memory."""
        return self._bytes[machine] <= self.atoms.problem.machines[machine].memory_bytes * _FITS

    def valid(self) -> bool:
        """Whether memory, allowed machines and contiguity all hold."""
        allowed = self.atoms.allowed
        return (
            all(m in allowed[a] for a, m in enumerate(self.places))
            and all(self.fits(m) for m in range(len(self.loads)))
            and all(self.convex(m) for m in range(len(self.loads)))
        )

    def convex(self, machine: int) -> bool:
        """Whether a machine's atoms are contiguous, where that is asked for."""
        shape = self.atoms.shape
        if shape is None:
            return True
        whole = Reach()
        for atom in self.members(machine):
            whole |= shape[atom]
        return whole.convex

    def _load(self, m: int) -> float:
        return self.objective.load(self._kinds[m], self._work[m], self._received[m], self._sent[m])

    def _account(self, i: int, sign: int) -> list[int]:
        """Adds (+1) or takes away (-1) what moving a value costs; the machines concerned."""
        value = self.atoms.values[i]
        source, cost = self.places[value.source], sign * value.cost
        there = [m for m, n in enumerate(self._readers[i]) if n and m != source]
        if there:
            self._sent[source] += cost * (len(there) if self.objective.per_destination else 1)
            for m in there:
                self._received[m] += cost
            there.append(source)
        return there


__all__ = ["Assignment"]
