"""Machines that nothing tells apart: their names may be swapped."""

from __future__ import annotations

from math import inf

from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.atoms import Atoms


class Ranks:
    """Machines that are alike may swap names; so the k-th atom takes one of the first k+1."""

    def __init__(self, atoms: Atoms) -> None:
        self.classes = alike(atoms)
        kind = atoms.problem.machines[0].kind
        weight = [w if w < inf else 0.0 for w in atoms.work[kind]]
        self.order = sorted(range(atoms.count), key=lambda a: (-weight[a], a))
        self._rank = {a: k for k, a in enumerate(self.order)}

    def barred(self, atom: int) -> set[int]:
        """The machines that a rank keeps an atom from."""
        rank = self._rank[atom]
        return {m for machines in self.classes for m in machines[rank + 1 :]}


def alike(atoms: Atoms) -> list[list[int]]:
    """The machines in groups of one kind and memory that the same nodes may stand on."""
    sets = dict.fromkeys(tuple(sorted(set(s))) for s in atoms.problem.allowed.values())
    groups: dict[tuple[int, float, tuple[int, ...]], list[int]] = {}
    for m, spec in enumerate(atoms.problem.machines):
        named = tuple(i for i, machines in enumerate(sets) if m in machines)
        groups.setdefault((spec.kind, spec.memory_bytes, named), []).append(m)
    return list(groups.values())


def canonical(start: Assignment) -> list[int]:
    """The same cut with machines that are alike in the order in which the ranks meet them."""
    ranks = Ranks(start.atoms)
    renamed: dict[int, int] = {}
    free = [iter(machines) for machines in ranks.classes]
    group = {m: g for g, machines in enumerate(ranks.classes) for m in machines}
    for atom in ranks.order:
        m = start.places[atom]
        if m not in renamed:
            renamed[m] = next(free[group[m]])
    return [renamed[m] for m in start.places]


__all__ = ["Ranks", "alike", "canonical"]
