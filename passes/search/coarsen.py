"""Fewer, larger atoms: pairs that exchange much and weigh little are merged, again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from random import Random

from dbgraph.errors import NoCutError
from dbgraph.passes.search.atoms import Atoms, condense

_MOST_SHARE = 0.35  # of an even share of the work: larger atoms would leave nothing to choose
_NOISE = 1.5


def coarsen(atoms: Atoms, count: int, rng: Random, places: Sequence[int] | None = None) -> Atoms:
    """About `count` atoms of the same problem.

    Args:
        places: a cut that must remain possible: only atoms on the same machine are merged.
    """
    while atoms.count > count:
        pairs = _pairs(atoms, rng, places)
        groups = tuple(
            (*atoms.members[a], *atoms.members[b]) for a, b in pairs[: atoms.count - count]
        )
        if not groups:
            return atoms
        problem = replace(atoms.problem, together=atoms.problem.together + groups)
        try:
            coarse = condense(problem)
        except NoCutError:  # the merged atoms together with what lies between fit nowhere
            return atoms
        if places is not None:
            places = coarse.gather(atoms.spread(places))
        atoms = coarse
    return atoms


def _pairs(atoms: Atoms, rng: Random, places: Sequence[int] | None) -> list[tuple[int, int]]:
    """Pairs to merge, no atom twice, best first: much between them, little in them."""
    weight = [_least(atoms, a) for a in range(atoms.count)]
    most = _MOST_SHARE * sum(weight) / atoms.machines
    tiny = sum(weight) / (100 * atoms.count) or 1.0
    rated = []
    for (a, b), cost in _between(atoms).items():
        if places is not None and places[a] != places[b]:
            continue
        if weight[a] + weight[b] > most and min(weight[a], weight[b]) > tiny:
            continue
        if not set(atoms.allowed[a]) & set(atoms.allowed[b]):
            continue
        rating = (cost + 1e-3 * tiny) / ((weight[a] + tiny) * (weight[b] + tiny))
        rated.append((rating * rng.uniform(1, _NOISE) ** 4, a, b))
    rated.sort(reverse=True)
    taken: set[int] = set()
    pairs = []
    for _, a, b in rated:
        if a not in taken and b not in taken:
            taken |= {a, b}
            pairs.append((a, b))
    return pairs


def _between(atoms: Atoms) -> dict[tuple[int, int], float]:
    between: dict[tuple[int, int], float] = {}
    for value in atoms.values:
        for t in value.targets:
            pair = (min(value.source, t), max(value.source, t))
            between[pair] = between.get(pair, 0.0) + value.cost / len(value.targets)
    return between


def _least(atoms: Atoms, atom: int) -> float:
    return min((w[atom] for w in atoms.work if w[atom] < inf), default=0.0)


__all__ = ["coarsen"]
