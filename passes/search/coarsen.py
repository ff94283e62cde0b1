"""Fewer, larger atoms: pairs that exchange much and weigh little are merged, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

from dbgraph.errors import NoCutError
from dbgraph.passes.search.atoms import Atoms, merge

# Of an even share of the work, and of a memory: larger atoms would leave nothing to choose.
_MOST_SHARE = 0.35
_NOISE = 1.5
_STALLED = 0.05  # where a round merges less than this, what exchanges nothing is merged too

Pairs = list[tuple[int, int]]


def coarsen(atoms: Atoms, count: int, rng: Random, places: Sequence[int] | None = None) -> Atoms:
    """About `count` atoms of the same problem.

    Args:
        places: a cut that must remain possible: only atoms on the same machine are merged.
    """
    while atoms.count > count:
        pairs = _Pairing(atoms, rng, places).pairs()[: atoms.count - count]
        if not pairs:
            return atoms
        try:
            coarse = merge(atoms, pairs)
        except NoCutError:  # the merged atoms together with what lies between fit nowhere
            return atoms
        if places is not None:
            places = [places[atoms.of[m[0]]] for m in coarse.members]
        atoms = coarse
    return atoms


def between(atoms: Atoms, whole: bool = False) -> dict[tuple[int, int], float]:
    """What each pair of atoms exchanges.

    Args:
        whole: whether a value counts whole for each who reads it, instead of being shared out.
    """
    found: dict[tuple[int, int], float] = {}
    for value in atoms.values:
        cost = value.cost if whole else value.cost / len(value.targets)
        for t in value.targets:
            pair = (value.source, t) if value.source < t else (t, value.source)
            found[pair] = found.get(pair, 0.0) + cost
    return found


class _Pairing:
    """One round of merging, no atom twice."""

    def __init__(self, atoms: Atoms, rng: Random, places: Sequence[int] | None) -> None:
        self.atoms, self.rng, self.places = atoms, rng, places
        self.weight = atoms.least_work
        self.most = _MOST_SHARE * sum(self.weight) / atoms.machines
        self.tiny = sum(self.weight) / (100 * atoms.count) or 1.0
        self.most_bytes = _MOST_SHARE * max(m.memory_bytes for m in atoms.problem.machines)
        self.taken: set[int] = set()
        # By epoch, where there are several: what is merged within one can't be done in parallel.
        self.timed: list[dict[int, float]] = []
        self.most_at: dict[int, float] = {}
        if atoms.problem.epochs > 1:
            self.timed = [{e: min(work) for e, work in parts[:-1]} for parts in atoms.timed]
            for parts in self.timed:
                for e, work in parts.items():
                    self.most_at[e] = self.most_at.get(e, 0.0) + work / atoms.machines

    def pairs(self) -> Pairs:
        """Best first: much between them, little in them."""
        found = self._take(self._rated())
        if len(found) < _STALLED * self.atoms.count and self.atoms.shape is None:
            found += self._take(self._unrelated())
        return found

    def _take(self, pairs: Pairs) -> Pairs:
        found = []
        for a, b in pairs:
            if a not in self.taken and b not in self.taken:
                self.taken |= {a, b}
                found.append((a, b))
        return found

    def _rated(self) -> Pairs:
        weight, tiny, rng = self.weight, self.tiny, self.rng
        rated = []
        for (a, b), cost in between(self.atoms).items():
            if self._may(a, b):
                rating = (cost + 1e-3 * tiny) / ((weight[a] + tiny) * (weight[b] + tiny))
                rated.append((rating * rng.uniform(1, _NOISE) ** 4, a, b))
        rated.sort(reverse=True)
        return [(a, b) for _, a, b in rated]

    def _unrelated(self) -> Pairs:
        """Those that exchange nothing, next to each other in the graph's order."""
        left = [a for a in range(self.atoms.count) if a not in self.taken]
        if self.places is not None:
            left.sort(key=self.places.__getitem__)
        return [(a, b) for a, b in pairwise(left) if self._may(a, b)]

    def _may(self, a: int, b: int) -> bool:
        """Whether two atoms may become one."""
        if self.places is not None:
            if self.places[a] != self.places[b]:
                return False
        elif self.atoms.size_bytes[a] + self.atoms.size_bytes[b] > self.most_bytes:
            return False
        x, y = self.weight[a], self.weight[b]
        if x + y > self.most and min(x, y) > self.tiny:
            return False
        if self.timed and not self._fits_epochs(self.timed[a], self.timed[b]):
            return False
        first, second = self.atoms.allowed[a], self.atoms.allowed[b]
        return first is second or not set(first).isdisjoint(second)

    def _fits_epochs(self, a: dict[int, float], b: dict[int, float]) -> bool:
        """Whether in no epoch more is merged than an even share."""
        return all(e not in b or work + b[e] <= self.most_at[e] for e, work in a.items())


__all__ = ["between", "coarsen"]
