"""Stretches of one topological order as nodes: for contiguous cuts of very large graphs.

Who lies between whom takes bits with the square of the nodes. A set of stretches that no path of
stretches leaves and comes back to is convex in the graph itself too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dbgraph.passes.search.atoms import Atoms
from dbgraph.passes.search.linear import Order
from dbgraph.passes.search.problem import Place, Problem, Value

_MOST_SHARE = 0.35  # of the largest memory


@dataclass(frozen=True)
class Folded:
    """A problem whose nodes are stretches of another's, one for each phase and epoch in a
    stretch.

    Attributes:
        of: the new node of each node.
    """

    problem: Problem
    of: tuple[int, ...]

    def spread(self, place: Sequence[int]) -> Place:
        """Each node's machine, from each stretch's."""
        return tuple(place[s] for s in self.of)

    def gather(self, place: Sequence[int]) -> Place:
        """Each stretch's machine, from each node's."""
        machine = dict(zip(reversed(self.of), reversed(place), strict=True))
        return tuple(machine[s] for s in range(self.problem.nodes))


def fold(atoms: Atoms, count: int, start: Place | None = None) -> Folded:
    """About `count` stretches of even work, each on one machine of `start`.

    Args:
        atoms: of the problem as if contiguity were not asked for.
    """
    problem = atoms.problem
    phase = problem.phase or (0,) * problem.nodes
    epoch = problem.epoch or (0,) * problem.nodes
    number: dict[tuple[int, int, int], int] = {}
    of, groups = [0] * problem.nodes, []
    allowed: dict[int, tuple[int, ...]] = {}
    for k, (stretch, machines) in enumerate(_stretches(atoms, count, start)):
        nodes = [u for atom in stretch for u in atoms.members[atom]]
        for u in nodes:
            of[u] = number.setdefault((k, phase[u], epoch[u]), len(number))
        groups.append(tuple(dict.fromkeys(of[u] for u in nodes)))
        allowed |= dict.fromkeys(groups[-1], machines)
    return Folded(
        Problem(
            work=tuple(_sums(work, of, len(number)) for work in problem.work),
            values=tuple(_values(problem, of)),
            machines=problem.machines,
            size_bytes=_sums(problem.size_bytes or (0.0,) * problem.nodes, of, len(number)),
            together=tuple(group for group in groups if len(group) > 1),
            allowed=allowed,
            contiguous=True,
            phase=tuple(p for _, p, _ in number),
            epoch=tuple(e for _, _, e in number),
        ),
        tuple(of),
    )


def _stretches(
    atoms: Atoms, count: int, start: Place | None
) -> Iterator[tuple[list[int], tuple[int, ...]]]:
    """Atoms next to each other in one order, with the machines that can hold them all."""
    order = Order.of(atoms)
    most = sum(atoms.least_work) / count
    most_bytes = _MOST_SHARE * max(m.memory_bytes for m in atoms.problem.machines)
    homes = [0] * atoms.count if start is None else atoms.gather(start)
    held: list[int] = []
    common: tuple[int, ...] = ()
    work = size_bytes = 0.0
    for block in (order.blocks[b] for b in order.take(None, "deep")):
        allowed = set(atoms.allowed[block[0]]).intersection(*(atoms.allowed[a] for a in block[1:]))
        both = tuple(m for m in common if m in allowed)
        block_work = sum(atoms.least_work[a] for a in block)
        block_bytes = sum(atoms.size_bytes[a] for a in block)
        full = work + block_work > most or size_bytes + block_bytes > most_bytes
        if held and (full or not both or homes[held[0]] != homes[block[0]]):
            yield held, common
            held, work, size_bytes = [], 0.0, 0.0
        common = both if held else tuple(sorted(allowed))
        held = [*held, *block]
        work, size_bytes = work + block_work, size_bytes + block_bytes
    if held:
        yield held, common


def _sums(figures: Sequence[float], of: Sequence[int], count: int) -> tuple[float, ...]:
    sums = [0.0] * count
    for u, figure in enumerate(figures):
        sums[of[u]] += figure
    return tuple(sums)


def _values(problem: Problem, of: Sequence[int]) -> Iterator[Value]:
    for v in problem.values:
        targets = tuple(sorted({of[t] for t in v.targets} - {of[v.source]}))
        if targets:
            yield Value(of[v.source], targets, v.cost, v.epoch)


__all__ = ["Folded", "fold"]
