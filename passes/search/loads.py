"""What machines have to do, epoch by epoch and all together, while atoms are put and taken away."""

from __future__ import annotations

from dbgraph.passes.search.atoms import Atoms
from dbgraph.passes.search.objective import Objective

Blocks = tuple[int, ...]
Saved = tuple[list[float], list[float], list[float], list[float], list[float], float]


class Loads:
    """Work, received and sent of each machine in each block: the epochs one by one, and last all
    of them together. One block where the objective does not ask for epochs.

    After changes, `settle` brings these up to date:

    Attributes:
        peaks: the load of the busiest machine of each block.
        value: what is to be made small.
        squares: the sum of all loads squared.

    And these never change:

    Attributes:
        weights: how much the busiest machine of each block counts.
        works: for each atom the blocks that it has work in, and that for each kind of machine.
        moves: for each value the blocks in which it is sent.
    """

    def __init__(self, atoms: Atoms, objective: Objective) -> None:
        self.objective = objective
        self.machines = atoms.machines
        self.kinds = [m.kind for m in atoms.problem.machines]
        epochs = atoms.problem.epochs if objective.serial > 0 else 1
        self.weights = [objective.serial] * epochs + [1 - objective.serial] if epochs > 1 else [1.0]
        self.works = atoms.timed if epochs > 1 else atoms.untimed
        self.moves: list[Blocks] = [
            (value.epoch, epochs) if epochs > 1 else (0,) for value in atoms.values
        ]
        slots = len(self.weights) * self.machines
        self._work, self._received, self._sent = [0.0] * slots, [0.0] * slots, [0.0] * slots
        self._loads = [0.0] * slots
        self._changed: set[int] = set()
        self.peaks = [0.0] * len(self.weights)
        self.value = self.squares = 0.0

    def put(self, atom: int, m: int, sign: int = 1) -> None:
        """Adds (+1) or takes away (-1) an atom's work."""
        kind = self.kinds[m]
        for block, work in self.works[atom]:
            slot = block * self.machines + m
            self._work[slot] += sign * work[kind]
            self._changed.add(slot)

    def receive(self, value: int, m: int, cost: float) -> None:
        for block in self.moves[value]:
            slot = block * self.machines + m
            self._received[slot] += cost
            self._changed.add(slot)

    def send(self, value: int, m: int, cost: float) -> None:
        for block in self.moves[value]:
            slot = block * self.machines + m
            self._sent[slot] += cost
            self._changed.add(slot)

    def settle(self) -> None:
        """Works out what the changes come to."""
        machines = self.machines
        for slot in self._changed:
            old, new = self._loads[slot], self._load(slot)
            self.squares += new * new - old * old
            self._loads[slot] = new
        for block in {slot // machines for slot in self._changed}:
            peak = max(self._loads[block * machines : (block + 1) * machines])
            self.value += self.weights[block] * (peak - self.peaks[block])
            self.peaks[block] = peak
        self._changed.clear()

    def row(self, block: int) -> list[float]:
        """Each machine's load in a block."""
        return self._loads[block * self.machines : (block + 1) * self.machines]

    def with_more(self, atom: int, block: int, m: int, received: float) -> float:
        """The load of a machine if an atom stands there too, and it receives so much more."""
        slot = block * self.machines + m
        received += self._received[slot]
        work = self._work[slot] + self._work_of(atom, block, m)
        return self.objective.load(self.kinds[m], work, received, self._sent[slot])

    def least_with(self, atom: int, block: int, m: int) -> float:
        """What a machine has to do at the least if an atom stands there too: the work alone."""
        work = self._work[block * self.machines + m] + self._work_of(atom, block, m)
        return self.objective.load(self.kinds[m], work, 0, 0)

    def saved(self) -> Saved:
        """A settled state, for `restore`."""
        return (
            self._work[:],
            self._received[:],
            self._sent[:],
            self._loads[:],
            self.peaks[:],
            self.value,
        )

    def restore(self, saved: Saved) -> None:
        self._work, self._received, self._sent, self._loads, self.peaks, self.value = saved

    def _load(self, slot: int) -> float:
        kind = self.kinds[slot % self.machines]
        return self.objective.load(kind, self._work[slot], self._received[slot], self._sent[slot])

    def _work_of(self, atom: int, block: int, m: int) -> float:
        kind = self.kinds[m]
        return sum([work[kind] for b, work in self.works[atom] if b == block])


__all__ = ["Blocks", "Loads"]
