"""Giving idle machines something to do."""

from __future__ import annotations

from collections.abc import Collection

from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.objective import Key
from dbgraph.passes.search.refine import try_change, undo

_MOST_CANDIDATES = 200  # for one machine


def employ(cut: Assignment, machines: Collection[int]) -> None:
    """Each of these machines that has no work gets the atom that costs least there, if one can be
    spared."""
    idle = [m for m in sorted(machines) if not _working(cut, m)]
    light = _light(cut) if idle else []
    for m in idle:
        lone = {other for other in range(cut.atoms.machines) if len(_working(cut, other)) == 1}
        spare = [a for a in light if cut.places[a] not in lone][:_MOST_CANDIDATES]
        keys = {a: key for a in spare if (key := _key_with(cut, a, m))}
        if keys:
            cut.move(min(keys, key=lambda a: (keys[a], a)), m)


def _light(cut: Assignment) -> list[int]:
    """The atoms that are work, those that exchange least first."""
    atoms = cut.atoms
    exchanged = [
        sum(atoms.values[i].cost for i in (*made, *read))
        for made, read in zip(atoms.made, atoms.read, strict=True)
    ]
    working = (a for a in range(atoms.count) if atoms.least_work[a] > 0)
    return sorted(working, key=lambda a: (exchanged[a] + atoms.least_work[a], a))


def _working(cut: Assignment, machine: int) -> list[int]:
    """The atoms on a machine that are work."""
    return [a for a in cut.members(machine) if cut.atoms.least_work[a] > 0]


def _key_with(cut: Assignment, atom: int, machine: int) -> Key | None:
    """How the cut compares with an atom moved; None where that breaks a rule."""
    home = cut.places[atom]
    if not try_change(cut, ((atom, machine),)):
        return None
    key = cut.key()
    undo(cut, ((atom, home),))
    return key


__all__ = ["employ"]
