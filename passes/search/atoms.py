"""Atoms: what can't be parted, as one; and the sets of them that are convex."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf

from dbgraph.errors import NoCutError
from dbgraph.passes.search.problem import Place, Problem, Value, topological_order

_FITS = 1 + 1e-12  # sums of sizes may round up

Timed = tuple[tuple[int, tuple[float, ...]], ...]
"""Epochs, and the work in each for each kind of machine."""


@dataclass(frozen=True)
class Atoms:
    """A problem some of whose nodes are merged.

    Where contiguity is asked for, a group takes in what lies on a path between two of its nodes.

    Attributes:
        of: the atom of each node.
        members: the nodes of each atom.
        work: for each kind what each atom costs there; inf where that kind can't run it.
        size_bytes: each atom's memory.
        values: between atoms; values with the same source, targets and epoch are one.
        allowed: the machines that can hold each atom.
        shape: each atom's reach; None where contiguity is not asked for.
    """

    problem: Problem
    of: tuple[int, ...]
    members: tuple[tuple[int, ...], ...]
    work: tuple[tuple[float, ...], ...]
    size_bytes: tuple[float, ...]
    values: tuple[Value, ...]
    allowed: tuple[tuple[int, ...], ...]
    shape: tuple[Reach, ...] | None = field(repr=False)

    @property
    def count(self) -> int:
        return len(self.members)

    @property
    def machines(self) -> int:
        return len(self.problem.machines)

    @cached_property
    def made(self) -> tuple[tuple[int, ...], ...]:
        """The values that each atom makes, as indices."""
        return _by_atom(self.count, ((v.source, i) for i, v in enumerate(self.values)))

    @cached_property
    def read(self) -> tuple[tuple[int, ...], ...]:
        """The values that each atom reads, as indices."""
        pairs = ((t, i) for i, v in enumerate(self.values) for t in v.targets)
        return _by_atom(self.count, pairs)

    @cached_property
    def near(self) -> tuple[tuple[int, ...], ...]:
        """The atoms that exchange a value with each atom."""
        found: list[dict[int, None]] = [{} for _ in range(self.count)]
        for v in self.values:
            for t in v.targets:
                found[v.source][t] = found[t][v.source] = None
        return tuple(tuple(f) for f in found)

    @cached_property
    def untimed(self) -> tuple[Timed, ...]:
        """Each atom's work, as if there were one epoch."""
        return tuple(((0, work),) for work in zip(*self.work, strict=True))

    @cached_property
    def timed(self) -> tuple[Timed, ...]:
        """Each atom's work by epoch; and behind the last epoch, all of it."""
        problem, whole = self.problem, zip(*self.work, strict=True)
        epoch, epochs = problem.epoch or (0,) * problem.nodes, problem.epochs
        found = []
        for members, total in zip(self.members, whole, strict=True):
            by_epoch: dict[int, list[int]] = {}
            for u in members:
                by_epoch.setdefault(epoch[u], []).append(u)
            parts = [
                (e, tuple(sum(w[u] for u in nodes) for w in problem.work))
                for e, nodes in by_epoch.items()
            ]
            found.append((*parts, (epochs, total)))
        return tuple(found)

    @cached_property
    def least_work(self) -> tuple[float, ...]:
        """What each atom costs where it costs least."""
        rows = zip(*self.work, strict=True)
        return tuple(min((w for w in row if w < inf), default=0.0) for row in rows)

    def spread(self, places: Sequence[int]) -> Place:
        """Each node's machine, from each atom's."""
        return tuple(places[a] for a in self.of)

    def gather(self, place: Sequence[int]) -> list[int]:
        """Each atom's machine, from each node's."""
        return [place[m[0]] for m in self.members]


@dataclass(frozen=True, slots=True)
class Reach:
    """A set of nodes as bits, with all nodes before and behind any of them in their phases."""

    nodes: int = 0
    before: int = 0
    behind: int = 0

    def __or__(self, other: Reach) -> Reach:
        return Reach(
            self.nodes | other.nodes, self.before | other.before, self.behind | other.behind
        )

    @property
    def between(self) -> int:
        """The nodes outside the set that lie on a path between two of its nodes."""
        return self.before & self.behind & ~self.nodes

    @property
    def convex(self) -> bool:
        """Whether no path leaves the set and comes back."""
        return not self.between


def condense(problem: Problem) -> Atoms:
    """The atoms of a problem. Raises NoCutError where one fits no machine."""
    return merge(_single(problem), problem.together)


def merge(atoms: Atoms, groups: Iterable[Sequence[int]]) -> Atoms:
    """Atoms of which each group becomes one. Raises NoCutError where one fits no machine."""
    into = _merged(atoms, groups)
    count = max(into, default=-1) + 1
    if count == atoms.count:
        return atoms
    parts: list[list[int]] = [[] for _ in range(count)]
    for a, new in enumerate(into):
        parts[new].append(a)
    sizes = atoms.size_bytes
    members = tuple(tuple(sorted(u for a in p for u in atoms.members[a])) for p in parts)
    work = tuple(tuple(sum(w[a] for a in p) for p in parts) for w in atoms.work)
    size_bytes = tuple(sum(sizes[a] for a in p) for p in parts)
    allowed = tuple(
        atoms.allowed[p[0]]
        if len(p) == 1
        else _common(atoms, p, members[i], [w[i] for w in work], size_bytes[i])
        for i, p in enumerate(parts)
    )
    of = tuple(into[a] for a in atoms.of)
    shape = None if atoms.shape is None else tuple(_join(atoms.shape[a] for a in p) for p in parts)
    values = _values(atoms.values, into)
    return Atoms(atoms.problem, of, members, work, size_bytes, values, allowed, shape)


def reach(problem: Problem) -> tuple[list[int], list[int]]:
    """For each node, as bits, the nodes before it and the nodes behind it in its phase."""
    edges = problem.phase_edges()
    order = topological_order(problem.nodes, edges)
    sources: list[list[int]] = [[] for _ in order]
    targets: list[list[int]] = [[] for _ in order]
    for u, v in edges:
        sources[v].append(u)
        targets[u].append(v)
    before, behind = [0] * len(order), [0] * len(order)
    for u in order:
        before[u] = _union(before[s] | 1 << s for s in sources[u])
    for u in reversed(order):
        behind[u] = _union(behind[t] | 1 << t for t in targets[u])
    return before, behind


def _single(problem: Problem) -> Atoms:
    """Every node as an atom."""
    nodes = range(problem.nodes)
    shape = None
    if problem.contiguous:
        before, behind = reach(problem)
        shape = tuple(Reach(1 << u, before[u], behind[u]) for u in nodes)
    sizes = problem.size_bytes or (0.0,) * problem.nodes
    everywhere = tuple(range(len(problem.machines)))
    allowed = tuple(
        _fitting(problem, (u,), problem.allowed.get(u, everywhere), work, sizes[u])
        for u, work in enumerate(zip(*problem.work, strict=True))
    )
    return Atoms(
        problem,
        tuple(nodes),
        tuple((u,) for u in nodes),
        problem.work,
        sizes,
        _values(problem.values, nodes),
        allowed,
        shape,
    )


def _merged(atoms: Atoms, groups: Iterable[Sequence[int]]) -> list[int]:
    """The new atom of each atom, numbered by their first ones."""
    first = list(range(atoms.count))

    def root(a: int) -> int:
        while first[a] != a:
            first[a] = a = first[first[a]]
        return a

    def join(group: Iterable[int]) -> None:
        roots = {root(a) for a in group}
        for r in roots:
            first[r] = min(roots)

    given = [group for group in groups if group]
    for group in given:
        join(group)
    changed = atoms.shape is not None and bool(given)
    while changed:
        changed = False
        for whole, outside in _outside(atoms, [root(a) for a in range(atoms.count)]):
            join([whole, *outside])
            changed = True
    number: dict[int, int] = {}
    return [number.setdefault(root(a), len(number)) for a in range(atoms.count)]


def _outside(atoms: Atoms, roots: Sequence[int]) -> list[tuple[int, list[int]]]:
    """For each set of atoms that is not convex the atoms that lie between."""
    shapes: dict[int, Reach] = {}
    for a, r in enumerate(roots):
        shapes[r] = shapes.get(r, Reach()) | (atoms.shape or ())[a]
    return [
        (r, [atoms.of[u] for u in _bits(shape.between)])
        for r, shape in shapes.items()
        if not shape.convex
    ]


def _values(values: Sequence[Value], into: Sequence[int]) -> tuple[Value, ...]:
    costs: dict[tuple[int, tuple[int, ...], int], float] = {}
    for v in values:
        source = into[v.source]
        targets = tuple(sorted({into[t] for t in v.targets} - {source}))
        if targets:
            key = source, targets, v.epoch
            costs[key] = costs.get(key, 0.0) + v.cost
    return tuple(Value(source, targets, cost, e) for (source, targets, e), cost in costs.items())


def _common(
    atoms: Atoms,
    parts: Sequence[int],
    members: Sequence[int],
    work: Sequence[float],
    size_bytes: float,
) -> tuple[int, ...]:
    """The machines that can hold atoms together."""
    sets = {atoms.allowed[a] for a in parts}
    common = tuple(sorted(set.intersection(*map(set, sets)))) if len(sets) > 1 else sets.pop()
    return _fitting(atoms.problem, members, common, work, size_bytes)


def _fitting(
    problem: Problem,
    members: Sequence[int],
    machines: tuple[int, ...],
    work: Sequence[float],
    size_bytes: float,
) -> tuple[int, ...]:
    """Those of some machines that can run and hold the nodes together."""
    barred = {
        spec
        for spec in problem.specs
        if work[spec.kind] == inf or size_bytes > spec.memory_bytes * _FITS
    }
    if barred:
        machines = tuple(m for m in machines if problem.machines[m] not in barred)
    if machines:
        return machines
    pins = {m for u in members for m in problem.allowed.get(u, ())}
    pinned = f", pinned to {', '.join(map(str, sorted(pins)))}" if pins else ""
    raise NoCutError(
        f"no machine can hold nodes {_some(members)}, which must stand together{pinned}: "
        f"{size_bytes:.6g} bytes, and the largest memory is "
        f"{max(m.memory_bytes for m in problem.specs):.6g}",
        hint="cut the layer more finely, use machines with more memory, or pin less",
    )


def _some(nodes: Sequence[int]) -> str:
    return ", ".join(map(str, nodes[:5])) + (f" and {len(nodes) - 5} more" if nodes[5:] else "")


def _by_atom(count: int, pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    found: list[list[int]] = [[] for _ in range(count)]
    for atom, value in pairs:
        found[atom].append(value)
    return tuple(map(tuple, found))


def _join(shapes: Iterable[Reach]) -> Reach:
    whole = Reach()
    for shape in shapes:
        whole |= shape
    return whole


def _union(sets: Iterable[int]) -> int:
    whole = 0
    for s in sets:
        whole |= s
    return whole


def _bits(whole: int) -> list[int]:
    """The numbers of the bits that are set.

    >>> _bits(5)
    [0, 2]
    """
    return [i for i, bit in enumerate(reversed(f"{whole:b}")) if bit == "1"]


__all__ = ["Atoms", "Reach", "Timed", "condense", "merge", "reach"]
