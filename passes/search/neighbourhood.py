"""Neighbourhood search: frees a part of a cut and solves it exactly, again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.budget import Clock
from dbgraph.passes.search.coarsen import coarsen
from dbgraph.passes.search.exact import Solved, solve
from dbgraph.passes.search.objective import better
from dbgraph.passes.search.refine import STRENGTH, perturb, refine

_TOLERANCE = 1e-9
_EFFORT_S = 2.0
_OVERHEAD_STEPS = 100
_RESOLUTION = 10**7
_SHAKES, _SHAKE_STEPS, _SHAKE_SWAPS = 200, 50_000, 300
_MOST_MACHINES = 8  # that atoms of a region, or all atoms, may move to

Free = dict[int, tuple[int, ...]]
"""The atoms that may move and where to."""


@dataclass
class _Size:
    """How much one kind of neighbourhood frees: more when it is easy, less when it is not."""

    now: int
    least: int
    step: int

    def learn(self, finished: bool) -> None:
        self.now = self.now + self.step if finished else max(self.least, self.now - self.step)


def improve(
    cut: Assignment, clock: Clock, rng: Random, progress: Callable[[Assignment], object]
) -> Assignment:
    """A cut that is no worse. Kinds of parts take turns: all atoms of two or three machines; a
    region of the graph; everything, but with atoms of one machine merged. Between them it is
    shaken and refined.

    Args:
        progress: is told each better cut.
    """
    region, coarse = _Size(40, 12, 3), _Size(50, 12, 3)
    turn = 0
    while not clock.over:
        kind = turn % (4 if cut.atoms.machines <= _MOST_MACHINES else 3)
        turn += 1
        if kind == 2:
            new = _shaken(cut, clock, rng)
        elif kind == 0:
            new, _ = _freed(cut, _machines(cut, rng), clock, rng)
        elif kind == 1:
            new, finished = _freed(cut, _region(cut, rng, region.now), clock, rng)
            region.learn(finished)
        else:
            new, finished = _merged(cut, coarse.now, clock, rng)
            coarse.learn(finished)
        if better(new.key(), cut.key(), _TOLERANCE):
            progress(new)
        cut = new
    return cut


def _shaken(cut: Assignment, clock: Clock, rng: Random) -> Assignment:
    """The best of a cut and of what becomes of copies in which a few atoms moved at random."""
    part = clock.part(1.0)
    for _ in range(_SHAKES):
        if part.over or part.spent > _SHAKE_STEPS:
            break
        part.spend(_OVERHEAD_STEPS)
        new = perturb(cut, rng, rng.randint(1, STRENGTH))
        refine(new, part, rng, _SHAKE_SWAPS)
        if new.valid() and better(new.key(), cut.key(), _TOLERANCE):
            cut = new
    clock.spend(part.spent)
    return cut


def _freed(cut: Assignment, free: Free, clock: Clock, rng: Random) -> tuple[Assignment, bool]:
    solved = _solve(cut, free, clock, rng)
    return _taken(cut, solved.places), solved.finished


def _merged(cut: Assignment, count: int, clock: Clock, rng: Random) -> tuple[Assignment, bool]:
    atoms = coarsen(cut.atoms, count, rng, cut.places)
    small = Assignment(atoms, cut.objective, atoms.gather(cut.atoms.spread(cut.places)))
    solved = _solve(small, None, clock, rng)
    if solved.places is None:
        return cut, solved.finished
    places = tuple(cut.atoms.gather(atoms.spread(solved.places)))
    return _taken(cut, places), solved.finished


def _solve(cut: Assignment, free: Free | None, clock: Clock, rng: Random) -> Solved:
    solved = solve(
        cut,
        free=free,
        seconds=clock.seconds_left,
        effort_s=min(_EFFORT_S, clock.effort_left_s),
        seed=rng.randrange(2**31),
        resolution=_RESOLUTION,
    )
    clock.spend(_OVERHEAD_STEPS)
    clock.spend_effort(solved.effort_s)
    return solved


def _taken(cut: Assignment, places: tuple[int, ...] | None) -> Assignment:
    """The new cut unless it is worse. One that is equal is taken too: it may open a way."""
    if places is None:
        return cut
    new = Assignment(cut.atoms, cut.objective, places)
    return cut if not new.valid() or better(cut.key(), new.key(), _TOLERANCE) else new


def _block(cut: Assignment, rng: Random) -> int:
    """One of those that are least even."""
    hot = cut.hot()
    return hot[int(len(hot) * rng.random() ** 2)]


def _machines(cut: Assignment, rng: Random) -> Free:
    """All atoms of the busiest machine and of one or two others."""
    busiest = cut.busiest(_block(cut, rng))
    others = [m for m in range(cut.atoms.machines) if m != busiest]
    count = min(rng.choice((1, 2)), len(others))
    chosen = (busiest, *rng.sample(others, count))
    return {a: chosen for a, m in enumerate(cut.places) if m in chosen}


def _region(cut: Assignment, rng: Random, size: int) -> Free:
    """Atoms around one of the busiest machine, in the order in which a random walk meets them."""
    block = _block(cut, rng)
    seed = rng.choice(cut.active(cut.busiest(block), block) or range(cut.atoms.count))
    found, edge = {seed: None}, [seed]
    while edge and len(found) < size:
        atom = edge.pop(rng.randrange(len(edge)))
        for other in cut.atoms.near[atom]:
            if other not in found:
                found[other] = None
                edge.append(other)
    held = {cut.places[atom] for atom in (*found, *edge)}
    row = cut.row(block)
    machines = sorted(range(cut.atoms.machines), key=lambda m: (m not in held, row[m]))
    return dict.fromkeys(found, tuple(sorted(machines[:_MOST_MACHINES])))


__all__ = ["improve"]
