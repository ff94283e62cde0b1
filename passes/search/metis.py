"""Seeds by METIS: partitions of the undirected graph with little between the parts.

Karypis, Kumar, "A Fast and High Quality Multilevel Scheme for Partitioning Irregular Graphs"
(SIAM J. Sci. Comput. 1998). What it makes small, all that is cut, is not what a cut costs; as a
beginning it serves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from math import inf
from random import Random

from dbgraph.passes.search.atoms import Atoms
from dbgraph.passes.search.coarsen import between
from dbgraph.passes.search.objective import Objective

_TOTAL = 10**8  # of all weights: METIS counts in integers of 32 bits
_UNEVEN = (30, 100, 300)  # thousandths by which a part may exceed its share
_LEAST_ATOMS = 4  # for a share: METIS complains of parts that get nothing
_FULL = 0.7  # of all memory: where more than that is needed, parts are even in bytes, in turn


def seeds(atoms: Atoms, objective: Objective, rng: Random) -> Iterator[list[int]]:
    """Cuts without end, none of which is sure to fit the memories."""
    speeds = _speeds(atoms, objective)
    least = _LEAST_ATOMS / atoms.count * sum(speeds)
    machines = [m for m, s in enumerate(speeds) if s >= least > 0]
    if len(machines) < 2:
        return
    graph = _Graph(atoms, objective)
    memory_bytes = [atoms.problem.machines[m].memory_bytes for m in machines]
    evens: list[tuple[Sequence[float], list[float]]] = [
        (atoms.least_work, [speeds[m] for m in machines])
    ]
    most_bytes = sum(memory_bytes)
    even_bytes = atoms.count * min(memory_bytes) >= _LEAST_ATOMS * most_bytes
    if sum(atoms.size_bytes) > _FULL * most_bytes and even_bytes:
        evens.append((atoms.size_bytes, memory_bytes))
    for uneven in cycle(_UNEVEN):
        for weights, shares in evens:
            parts = graph.parts(weights, shares, uneven, rng.randrange(2**31))
            yield _places(atoms, parts, machines)


class _Graph:
    """The atoms as METIS takes them."""

    def __init__(self, atoms: Atoms, objective: Objective) -> None:
        costs = between(atoms, whole=objective.per_destination)
        unit = sum(costs.values()) / _TOTAL or 1.0
        near: list[list[tuple[int, int]]] = [[] for _ in range(atoms.count)]
        for (a, b), cost in costs.items():
            weight = 1 + round(cost / unit)
            near[a].append((b, weight))
            near[b].append((a, weight))
        self.begins = [0]
        for edges in near:
            self.begins.append(self.begins[-1] + len(edges))
        self.neighbours = [b for edges in near for b, _ in edges]
        self.weights = [weight for edges in near for _, weight in edges]

    def parts(
        self, weights: Sequence[float], shares: Sequence[float], uneven: int, seed: int
    ) -> list[int]:
        """The part of each atom.

        Args:
            weights: of the atoms, which are to be shared out.
            shares: what each part is to have of them, in any unit.
            uneven: thousandths by which a part may exceed its share.
        """
        import pymetis

        whole = sum(shares)
        heaviest = sum(weights) * min(shares) / whole  # or a part of others would get nothing
        unit = sum(weights) / _TOTAL or 1.0
        found = pymetis.part_graph(
            len(shares),
            pymetis.CSRAdjacency(self.begins, self.neighbours),
            vweights=[1 + round(min(w, heaviest) / unit) for w in weights],
            eweights=self.weights,
            tpwgts=[share / whole for share in shares],
            options=pymetis.Options(seed=seed, ufactor=uneven),
        )
        return list(found.vertex_part)


def _speeds(atoms: Atoms, objective: Objective) -> list[float]:
    """How fast each machine is, next to one that has the fastest of all kinds for every atom."""
    speeds = []
    for kind, work in enumerate(atoms.work):
        pairs = [(w, x) for w, x in zip(work, atoms.least_work, strict=True) if w < inf]
        own = objective.rows[kind][0][0] * sum(w for w, _ in pairs)
        speeds.append(sum(x for _, x in pairs) / own if own > 0 else 0.0)
    return [speeds[m.kind] for m in atoms.problem.machines]


def _places(atoms: Atoms, parts: Sequence[int], machines: Sequence[int]) -> list[int]:
    """The machine of each atom, by its part's, or one that may hold it."""
    of_part = _named(atoms, parts, machines)
    work = [0.0] * atoms.machines
    places = []
    for atom, part in enumerate(parts):
        allowed, m = atoms.allowed[atom], of_part[part]
        if m not in allowed:
            m = min(allowed, key=lambda m: (work[m], m))
        work[m] += atoms.least_work[atom]
        places.append(m)
    return places


def _named(atoms: Atoms, parts: Sequence[int], machines: Sequence[int]) -> dict[int, int]:
    """The machine of each part: of those that are alike the one that most of it is pinned to."""
    votes: dict[tuple[int, int], int] = {}
    specs = atoms.problem.machines
    for atom, part in enumerate(parts):
        if len(atoms.allowed[atom]) < atoms.machines:
            for m in atoms.allowed[atom]:
                votes[part, m] = votes.get((part, m), 0) + 1
    named: dict[int, int] = {}
    for part, m in sorted(votes, key=lambda vote: (-votes[vote], vote)):
        if part not in named and m not in named.values() and specs[m] == specs[machines[part]]:
            named[part] = m
    for part, m in enumerate(machines):
        if part not in named:
            free = [x for x in machines if x not in named.values() and specs[x] == specs[m]]
            named[part] = free[0]
    return named


__all__ = ["seeds"]
