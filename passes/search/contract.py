"""Merging what no better cut parts: the problem that is left is smaller, and loses nothing.

In any cut whose busiest machine stays under a limit, all machines together have so much room
beyond the work that must be done, and what is moved must fit into that room. So a pair of atoms
that would cost more than that to part share a machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from dbgraph.errors import NoCutError
from dbgraph.passes.search.atoms import Atoms, condense
from dbgraph.passes.search.objective import Objective

_SAFE = 1 + 1e-9  # rounding must not merge what may be parted


def contract(atoms: Atoms, objective: Objective, limit: float) -> Atoms | None:
    """The atoms with all merged that every cut under the limit keeps together.

    Args:
        limit: the busiest machine's load that is to be undercut, or kept.

    Returns: None where no cut can keep the limit.
    """
    weights = _weights(atoms, objective)
    while True:
        room = _room(atoms, objective, weights, limit)
        if room < -1e-9 * limit:
            return None
        most = min(room, _room_of_one(objective, weights, limit)) * _SAFE
        pairs = _inseparable(atoms, most / _least_price(atoms, objective, weights))
        if not pairs:
            return atoms
        groups = tuple((*atoms.members[a], *atoms.members[b]) for a, b in pairs)
        problem = replace(atoms.problem, together=atoms.problem.together + groups)
        try:
            atoms = condense(problem)
        except NoCutError:
            return None


def simple_bound(atoms: Atoms, objective: Objective) -> float:
    """A load that the busiest machine reaches in any cut: even shares, and the largest atom."""
    machines = atoms.problem.machines
    weights = _weights(atoms, objective)
    even = -_room(atoms, objective, weights, 0.0) / sum(weights[m.kind] for m in machines)
    alone = (
        min(objective.load(k, atoms.work[k][a], 0, 0) for k in {machines[m].kind for m in allowed})
        for a, allowed in enumerate(atoms.allowed)
    )
    return max(even, *alone, 0.0)


def _weights(atoms: Atoms, objective: Objective) -> list[float]:
    """For each kind how much its load counts: by how much less it does with it.

    Any weights of at least 0 are right; these let little room.
    """
    machines = atoms.problem.machines
    first = machines[0].kind
    weights = [1.0] * len(atoms.work)
    for kind, work in enumerate(atoms.work):
        a, b = objective.rows[kind][0][0], objective.rows[first][0][0]
        ratios = [
            b * x / (a * y)
            for x, y in zip(atoms.work[first], work, strict=True)
            if 0 < a * y < inf and b * x < inf
        ]
        weights[kind] = min(ratios, default=1.0)
    return weights


def _room(atoms: Atoms, objective: Objective, weights: Sequence[float], limit: float) -> float:
    """What all machines together have left for moving values, weighted."""
    machines = atoms.problem.machines
    room = sum(weights[m.kind] for m in machines) * limit
    for atom, allowed in enumerate(atoms.allowed):
        kinds = {machines[m].kind for m in allowed}
        room -= min(weights[k] * objective.rows[k][0][0] * atoms.work[k][atom] for k in kinds)
    return room


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
