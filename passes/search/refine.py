"""Moves and swaps that relieve the busiest machine."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.budget import Clock
from dbgraph.passes.search.objective import better

_TOLERANCE = 1e-12
STRENGTH = 4
"""Atoms at most to perturb: more undo what is good, fewer lead back."""

Change = tuple[tuple[int, int], ...]
"""Atoms and the machines that they go to."""


def refine(cut: Assignment, clock: Clock, rng: Random, most_swaps: int = 20_000) -> None:
    """Takes each change that makes the cut's key less, until there is none.

    Changes are, for each epoch or for all together: an atom leaves the busiest machine; one that
    exchanges values with it joins it; an atom of it and one of another machine change places.

    Args:
        most_swaps: that are tried where nothing else helps.
    """
    improved = True
    while improved and not clock.over:
        improved = False
        for block in cut.hot():
            improved |= _sweep(cut, block, clock, rng, most_swaps)


def perturb(cut: Assignment, rng: Random, strength: int) -> Assignment:
    """A copy in which a few atoms, and some that exchange values with them, stand elsewhere."""
    new = Assignment(cut.atoms, cut.objective, cut.places)
    machines = range(cut.atoms.machines)
    for _ in range(strength):
        atom, machine = rng.randrange(cut.atoms.count), rng.choice(machines)
        if try_change(new, ((atom, machine),)):
            for other in cut.atoms.near[atom]:
                if rng.random() < 0.5:
                    try_change(new, ((other, machine),))
    return new


def make_fit(cut: Assignment) -> None:
    """Moves the largest atoms off machines that are too full, to where most memory is left."""
    machines = range(cut.atoms.machines)
    sizes = cut.atoms.size_bytes
    for full in (m for m in machines if not cut.fits(m)):
        for atom in sorted(cut.members(full), key=lambda a: (-sizes[a], a)):
            if cut.fits(full):
                break
            to = max(cut.atoms.allowed[atom], key=lambda m: (cut.left_bytes(m), -m))
            if sizes[atom] <= cut.left_bytes(to):
                cut.move(atom, to)


def try_change(cut: Assignment, change: Change) -> bool:
    """Makes a change if all that must hold still does; else leaves the cut as it was."""
    before = tuple((atom, cut.places[atom]) for atom, _ in change)
    for atom, machine in change:
        if machine not in cut.atoms.allowed[atom]:
            return False
    for atom, machine in change:
        cut.move(atom, machine)
    touched = {m for _, m in (*before, *change)}
    if all(cut.fits(m) and cut.convex(m) for m in touched):
        return True
    undo(cut, before)
    return False


def undo(cut: Assignment, before: Change) -> None:
    """Puts the atoms of a change back to where they were."""
    for atom, machine in before:
        cut.move(atom, machine)


def _sweep(cut: Assignment, block: int, clock: Clock, rng: Random, most_swaps: int) -> bool:
    """Tries the changes around the busiest machine of a block, as long as it is that; whether any
    was made."""
    improved, busiest = False, cut.busiest(block)
    for change in _changes(cut, busiest, block, rng, most_swaps):
        if clock.over:
            break
        if _accept(cut, change, clock):
            improved = True
            if cut.busiest(block) != busiest:
                break
    return improved


def _accept(cut: Assignment, change: Change, clock: Clock) -> bool:
    clock.spend(1)
    key = cut.key()
    before = tuple((atom, cut.places[atom]) for atom, _ in change)
    if not try_change(cut, change):
        return False
    if better(cut.key(), key, _TOLERANCE):
        return True
    undo(cut, before)
    return False


def _changes(
    cut: Assignment, busiest: int, block: int, rng: Random, most_swaps: int
) -> Iterator[Change]:
    """Changes to try, cheap ones first. Those that were made meanwhile are taken into account."""
    yield from _leaving(cut, busiest, block, rng)
    yield from _joining(cut, busiest, block, rng)
    mine = cut.active(busiest, block)
    rng.shuffle(mine)
    others = [a for a, m in enumerate(cut.places) if m != busiest]
    for tried in range(min(most_swaps, len(mine) * len(others))):
        a, b = mine[tried % len(mine)], rng.choice(others)
        if cut.places[a] == busiest != cut.places[b]:
            yield ((a, cut.places[b]), (b, busiest))


def _leaving(cut: Assignment, busiest: int, block: int, rng: Random) -> Iterator[Change]:
    """An atom goes where it has neighbours, or anywhere else."""
    mine = cut.active(busiest, block)
    rng.shuffle(mine)
    machines = [m for m in range(cut.atoms.machines) if m != busiest]
    rng.shuffle(machines)
    machines.sort(key=cut.row(block).__getitem__)
    for atom in mine:
        near = {cut.places[b] for b in cut.atoms.near[atom]}
        for m in sorted(machines, key=lambda m: m not in near):
            # Work alone may rule a machine out, which is seen faster than what is moved.
            if cut.places[atom] == busiest and cut.may_relieve(atom, m, block):
                yield ((atom, m),)


def _joining(cut: Assignment, busiest: int, block: int, rng: Random) -> Iterator[Change]:
    """A neighbour comes to the atoms that read it, or that it reads."""
    mine, near = cut.active(busiest, block), cut.atoms.near
    around = sorted({b for a in mine for b in near[a] if cut.places[b] != busiest})
    rng.shuffle(around)
    for atom in around:
        if cut.places[atom] != busiest:
            yield ((atom, busiest),)


__all__ = ["STRENGTH", "Change", "make_fit", "perturb", "refine", "try_change", "undo"]
