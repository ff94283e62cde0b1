"""Merging what no better cut parts: the problem that is left is smaller, and loses nothing.

In any cut whose busiest machine stays under a limit, all machines together have so much room
beyond the work that must be done, and what is moved must fit into that room. So a pair of atoms
that would cost more than that to part share a machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

from dbgraph.errors import NoCutError
from dbgraph.passes.search.atoms import Atoms, merge
from dbgraph.passes.search.loads import Loads
from dbgraph.passes.search.objective import Objective

_SAFE = 1 + 1e-9  # rounding must not merge what may be parted


def contract(atoms: Atoms, objective: Objective, limit: float) -> Atoms | None:
    """The atoms with all merged that every cut under the limit keeps together.

    Args:
        limit: the value that is to be undercut, or kept. No machine's load is above a cut's value.

    Returns: None where no cut can keep the limit.
    """
    while True:
        parts = _Parts(atoms, atoms.work, atoms.allowed)
        weights = parts.weights(objective)
        room = parts.room(objective, weights, limit)
        if room < -1e-9 * limit:
            return None
        most = min(room, _room_of_one(objective, weights, limit)) * _SAFE
        pairs = _inseparable(atoms, most / _least_price(atoms, objective, weights))
        if not pairs:
            return atoms
        try:
            atoms = merge(atoms, pairs)
        except NoCutError:
            return None


def simple_bound(atoms: Atoms, objective: Objective) -> float:
    """A value that no cut is below: of each epoch, and of all, even shares and the largest atom."""
    sums = Loads(atoms, objective)
    rows: list[list[tuple[tuple[float, ...], tuple[int, ...]]]] = [[] for _ in sums.weights]
    for atom, works in enumerate(sums.works):
        for block, work in works:
            rows[block].append((work, atoms.allowed[atom]))
    bounds = [_Parts.of(atoms, row).bound(objective) if row else 0.0 for row in rows]
    return sum(weight * bound for weight, bound in zip(sums.weights, bounds, strict=True))


@dataclass(frozen=True)
class _Parts:
    """What must be done: for each kind of machine the work of each part, and who can do it."""

    atoms: Atoms
    work: Sequence[Sequence[float]]
    allowed: Sequence[tuple[int, ...]]

    @staticmethod
    def of(atoms: Atoms, rows: Sequence[tuple[tuple[float, ...], tuple[int, ...]]]) -> _Parts:
        works, allowed = zip(*rows, strict=True)
        return _Parts(atoms, tuple(zip(*works, strict=True)), allowed)

    def bound(self, objective: Objective) -> float:
        """A load that the busiest machine reaches in any cut."""
        machines = self.atoms.problem.machines
        weights = self.weights(objective)
        even = -self.room(objective, weights, 0.0) / sum(weights[m.kind] for m in machines)
        alone = (
            min(objective.load(k, self.work[k][a], 0, 0) for k in kinds)
            for a, kinds in enumerate(self.kinds)
        )
        return max(even, *alone, 0.0)

    def weights(self, objective: Objective) -> list[float]:
        """For each kind how much its load counts: by how much less it does with it.

        Any weights of at least 0 are right; these let little room.
        """
        first = self.atoms.problem.machines[0].kind
        weights = [1.0] * len(self.work)
        for kind, work in enumerate(self.work):
            a, b = objective.rows[kind][0][0], objective.rows[first][0][0]
            ratios = [
                b * x / (a * y)
                for x, y in zip(self.work[first], work, strict=True)
                if 0 < a * y < inf and b * x < inf
            ]
            weights[kind] = min(ratios, default=1.0)
        return weights

    def room(self, objective: Objective, weights: Sequence[float], limit: float) -> float:
        """What all machines together have left for moving values, weighted."""
        machines = self.atoms.problem.machines
        room = sum(weights[m.kind] for m in machines) * limit
        for part, kinds in enumerate(self.kinds):
            room -= min(weights[k] * objective.rows[k][0][0] * self.work[k][part] for k in kinds)
        return room

    @cached_property
    def kinds(self) -> list[list[int]]:
        """Of the machines that can do each part."""
        machines = self.atoms.problem.machines
        found = {a: sorted({machines[m].kind for m in a}) for a in set(self.allowed)}
        return [found[a] for a in self.allowed]


def _room_of_one(objective: Objective, weights: Sequence[float], limit: float) -> float:
    """Two machines take part in a transfer: none of them moves more than the limit."""
    return 2 * max(weights) * limit


def _least_price(atoms: Atoms, objective: Objective, weights: Sequence[float]) -> float:
    """What moving one unit costs at least, weighted: the cheapest sender and receiver."""
    kinds = [m.kind for m in atoms.problem.machines]
    prices = [
        weights[s] * objective.rows[s][0][2] + weights[r] * objective.rows[r][0][1]
        for i, s in enumerate(kinds)
        for j, r in enumerate(kinds)
        if i != j
    ]
    return max(min(prices, default=inf), 1e-300)


def _inseparable(atoms: Atoms, most: float) -> list[tuple[int, int]]:
    """Pairs of atoms between which more moves than there is room for."""
    between: dict[tuple[int, int], float] = {}
    for value in atoms.values:
        for t in value.targets:
            pair = (min(value.source, t), max(value.source, t))
            between[pair] = between.get(pair, 0.0) + value.cost
    return [pair for pair, cost in between.items() if cost > most]


__all__ = ["contract", "simple_bound"]
