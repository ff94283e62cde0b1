"""Moves and swaps that relieve the busiest machine."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.budget import Clock
from dbgraph.passes.search.objective import better

_TOLERANCE = 1e-12
_MOST_SWAPS = 20_000

Change = tuple[tuple[int, int], ...]
"""Atoms and the machines that they go to."""


def refine(cut: Assignment, clock: Clock, rng: Random) -> None:
    """Takes the first change that makes the cut's key less, until none does.

    Changes are: an atom leaves the busiest machine; one that exchanges values with it joins it;
    an atom of it and one of another machine change places.
    """
    improved = True
    while improved and not clock.over:
        improved = any(_accept(cut, change, clock) for change in _changes(cut, clock, rng))


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


def _changes(cut: Assignment, clock: Clock, rng: Random) -> Iterator[Change]:
    """Changes to try, as long as none is accepted; cheap ones first."""
    busiest = cut.busiest()
    mine = cut.members(busiest)
    rng.shuffle(mine)
    machines = [m for m in range(cut.atoms.machines) if m != busiest]
    rng.shuffle(machines)
    machines.sort(key=lambda m: cut.loads[m])
    for atom in mine:
        for m in machines:
            yield ((atom, m),)
    around = sorted({b for a in mine for b in cut.atoms.near[a] if cut.places[b] != busiest})
    rng.shuffle(around)
    for atom in around:
        yield ((atom, busiest),)
    others = [a for m in machines for a in cut.members(m)]
    for tried in range(min(_MOST_SWAPS, len(mine) * len(others))):
        if clock.over:
            return
        a, b = mine[tried % len(mine)], rng.choice(others)
        yield ((a, cut.places[b]), (b, busiest))


__all__ = ["Change", "perturb", "refine", "try_change", "undo"]
