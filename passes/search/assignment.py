"""A cut while it is changed: every machine's load, kept up to date move by move."""

from __future__ import annotations

from collections.abc import Sequence

from dbgraph.passes.search.atoms import Atoms, Reach
from dbgraph.passes.search.loads import Loads
from dbgraph.passes.search.objective import Key, Objective

_FITS = 1 + 1e-9  # sums that were added and taken away again


class Assignment:
    """The machine of each atom, with what follows from it.

    Attributes:
        places: the machine of each atom.
        moved: what all machines send and receive, together.
    """

    def __init__(self, atoms: Atoms, objective: Objective, places: Sequence[int]) -> None:
        self.atoms, self.objective = atoms, objective
        self.places = list(places)
        machines = range(atoms.machines)
        self._sums = Loads(atoms, objective)
        self._bytes = [0.0 for _ in machines]
        self._on: list[set[int]] = [set() for _ in machines]
        # How many atoms on each machine read a value.
        self._readers: list[dict[int, int]] = [{} for _ in atoms.values]
        for atom, machine in enumerate(self.places):
            self._sums.put(atom, machine)
            self._bytes[machine] += atoms.size_bytes[atom]
            self._on[machine].add(atom)
        self.moved = 0.0
        for i in range(len(atoms.values)):
            self._begin(i)
        self._sums.settle()

    @property
    def loads(self) -> list[float]:
        """Each machine's load, all epochs together."""
        return self._sums.row(len(self._sums.peaks) - 1)

    @property
    def value(self) -> float:
        """What is to be made small."""
        return self._sums.value

    def key(self) -> Key:
        return self._sums.value, self._sums.squares, self.moved

    def members(self, machine: int) -> list[int]:
        """The atoms on a machine."""
        return sorted(self._on[machine])

    def hot(self) -> list[int]:
        """The blocks whose busiest machine counts, most uneven ones first."""
        sums, machines = self._sums, self.atoms.machines
        uneven = [
            w * (peak - sum(sums.row(b)) / machines)
            for b, (w, peak) in enumerate(zip(sums.weights, sums.peaks, strict=True))
        ]
        found = [b for b, w in enumerate(sums.weights) if w > 0]
        return sorted(found, key=lambda b: (-uneven[b], b))

    def busiest(self, block: int) -> int:
        """The machine with most to do in a block."""
        return self._sums.row(block).index(self._sums.peaks[block])

    def may_relieve(self, atom: int, machine: int, block: int) -> bool:
        """Whether a machine's work in a block stays below the busiest one's with an atom more."""
        return self._sums.least_with(atom, block, machine) < self._sums.peaks[block]

    def row(self, block: int) -> list[float]:
        """Each machine's load in a block."""
        return self._sums.row(block)

    def active(self, machine: int, block: int) -> list[int]:
        """The atoms on a machine that have a part in what it does in a block."""
        if len(self._sums.peaks) == 1:
            return self.members(machine)
        moves, atoms = self._sums.moves, self.atoms
        return [
            a
            for a in self.members(machine)
            if any(b == block for b, _ in self._sums.works[a])
            or any(block in moves[i] for i in (*atoms.made[a], *atoms.read[a]))
        ]

    def move(self, atom: int, machine: int) -> None:
        """Moves an atom. Whether it may stand there is the caller's question."""
        old = self.places[atom]
        if old == machine:
            return
        for i in self.atoms.read[atom]:
            self._move_reader(i, old, machine)
        for i in self.atoms.made[atom]:
            self._move_source(i, old, machine)
        self.places[atom] = machine
        self._on[old].remove(atom)
        self._on[machine].add(atom)
        self._sums.put(atom, old, -1)
        self._sums.put(atom, machine)
        self._bytes[old] -= self.atoms.size_bytes[atom]
        self._bytes[machine] += self.atoms.size_bytes[atom]
        self._sums.settle()

    def fits(self, machine: int) -> bool:
        """Whether what a machine holds fits its memory."""
        return self.left_bytes(machine) >= 0

    def left_bytes(self, machine: int) -> float:
        """The memory that nothing takes yet; negative where too much stands there."""
        return self.atoms.problem.machines[machine].memory_bytes * _FITS - self._bytes[machine]

    def valid(self) -> bool:
        """Whether memory, allowed machines and contiguity all hold."""
        allowed = self.atoms.allowed
        machines = range(self.atoms.machines)
        return (
            all(m in allowed[a] for a, m in enumerate(self.places))
            and all(self.fits(m) for m in machines)
            and all(self.convex(m) for m in machines)
        )

    def convex(self, machine: int) -> bool:
        """Whether a machine's atoms are contiguous, where that is asked for."""
        shape = self.atoms.shape
        if shape is None:
            return True
        whole = Reach()
        for atom in self._on[machine]:
            whole |= shape[atom]
        return whole.convex

    def _begin(self, i: int) -> None:
        """Counts who reads a value, and what moving it costs."""
        readers, value, places = self._readers[i], self.atoms.values[i], self.places
        for t in value.targets:
            readers[places[t]] = readers.get(places[t], 0) + 1
        source = places[value.source]
        for m in readers:
            if m != source:
                self._receive(i, m, value.cost)
        self._send(i, source, value.cost * self._times_sent(i, source))

    def _times_sent(self, i: int, source: int) -> int:
        """How often a value leaves a machine that makes it."""
        readers = self._readers[i]
        others = len(readers) - (source in readers)
        return others if self.objective.per_destination else min(others, 1)

    def _receive(self, i: int, m: int, cost: float) -> None:
        self._sums.receive(i, m, cost)
        self.moved += cost

    def _send(self, i: int, m: int, cost: float) -> None:
        self._sums.send(i, m, cost)
        self.moved += cost

    def _move_reader(self, i: int, old: int, new: int) -> None:
        """One of those who read a value moves."""
        readers, value = self._readers[i], self.atoms.values[i]
        source, cost = self.places[value.source], value.cost
        before = self._times_sent(i, source)
        readers[old] -= 1
        if not readers[old]:
            del readers[old]
            if old != source:
                self._receive(i, old, -cost)
        readers[new] = readers.get(new, 0) + 1
        if readers[new] == 1 and new != source:
            self._receive(i, new, cost)
        self._send(i, source, cost * (self._times_sent(i, source) - before))

    def _move_source(self, i: int, old: int, new: int) -> None:
        """Who makes a value moves."""
        readers, cost = self._readers[i], self.atoms.values[i].cost
        if old in readers:
            self._receive(i, old, cost)
        if new in readers:
            self._receive(i, new, -cost)
        self._send(i, old, -cost * self._times_sent(i, old))
        self._send(i, new, cost * self._times_sent(i, new))


__all__ = ["Assignment"]
