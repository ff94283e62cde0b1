"""Atoms: what can't be parted, as one; and the sets of them that are convex."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from dbgraph.errors import NoCutError
from dbgraph.passes.search.problem import Place, Problem, Value, topological_order

_FITS = 1 + 1e-12  # sums of sizes may round up


@dataclass(frozen=True)
class Atoms:
    """A problem whose groups are merged.

    Where contiguity is asked for, a group takes in what lies on a path between two of its nodes.

    Attributes:
        of: the atom of each node.
        members: the nodes of each atom.
        work: for each kind what each atom costs there; inf where that kind can't run it.
        size_bytes: each atom's memory.
        values: between atoms; values with the same source and the same targets are one.
        allowed: the machines that can hold each atom.
    """

    problem: Problem
    of: tuple[int, ...]
    members: tuple[tuple[int, ...], ...]
    work: tuple[tuple[float, ...], ...]
    size_bytes: tuple[float, ...]
    values: tuple[Value, ...]
    allowed: tuple[tuple[int, ...], ...]

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
    def shape(self) -> tuple[Reach, ...] | None:
        """Each atom's reach; None where contiguity is not asked for."""
        if not self.problem.contiguous:
            return None
        before, behind = reach(self.problem)
        return tuple(
            Reach(_union(1 << u for u in m), _of(before, m), _of(behind, m)) for m in self.members
        )

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
    of = _merged(problem)
    count = max(of, default=-1) + 1
    members: list[list[int]] = [[] for _ in range(count)]
    for u, a in enumerate(of):
        members[a].append(u)
    sizes = problem.size_bytes or (0.0,) * problem.nodes
    work = tuple(tuple(sum(w[u] for u in m) for m in members) for w in problem.work)
    size_bytes = tuple(sum(sizes[u] for u in m) for m in members)
    allowed = tuple(
        _allowed(problem, m, [w[a] for w in work], size_bytes[a]) for a, m in enumerate(members)
    )
    return Atoms(
        problem, of, tuple(map(tuple, members)), work, size_bytes, _values(problem, of), allowed
    )


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


def _merged(problem: Problem) -> tuple[int, ...]:
    """The atom of each node, numbered by their first nodes."""
    first = list(range(problem.nodes))

    def root(u: int) -> int:
        while first[u] != u:
            first[u] = u = first[first[u]]
        return u

    def join(nodes: Iterable[int]) -> None:
        roots = {root(u) for u in nodes}
        for r in roots:
            first[r] = min(roots)

    for group in problem.together:
        if group:
            join(group)
    if problem.contiguous and problem.together:
        before, behind = reach(problem)
        changed = True
        while changed:
            changed = False
            groups: dict[int, list[int]] = {}
            for u in range(problem.nodes):
                groups.setdefault(root(u), []).append(u)
            for nodes in groups.values():
                between = _of(before, nodes) & _of(behind, nodes)
                outside = between & ~_union(1 << u for u in nodes)
                if outside:
                    join([nodes[0], *_bits(outside)])
                    changed = True
    number: dict[int, int] = {}
    return tuple(number.setdefault(root(u), len(number)) for u in range(problem.nodes))


def _values(problem: Problem, of: Sequence[int]) -> tuple[Value, ...]:
    costs: dict[tuple[int, tuple[int, ...]], float] = {}
    for v in problem.values:
        source = of[v.source]
        targets = tuple(sorted({of[t] for t in v.targets} - {source}))
        if targets:
            costs[source, targets] = costs.get((source, targets), 0.0) + v.cost
    return tuple(Value(source, targets, cost) for (source, targets), cost in costs.items())


def _allowed(
    problem: Problem, members: Sequence[int], work: Sequence[float], size_bytes: float
) -> tuple[int, ...]:
    pins = {problem.pins[u] for u in members if u in problem.pins}
    if len(pins) > 1:
        raise NoCutError(
            f"nodes {_some(members)} must share a machine, but are pinned to {sorted(pins)}",
            hint="pin them to one machine, or don't ask for contiguity",
        )
    fitting = [
        m
        for m, machine in enumerate(problem.machines)
        if work[machine.kind] != float("inf")
        and size_bytes <= machine.memory_bytes * _FITS
        and (not pins or m in pins)
    ]
    if not fitting:
        raise NoCutError(
            f"no machine can hold nodes {_some(members)}, which must stand together: "
            f"{size_bytes:.6g} bytes, and the largest memory is "
            f"{max(m.memory_bytes for m in problem.machines):.6g}",
            hint="cut the layer more finely, or use machines with more memory",
        )
    return tuple(fitting)


def _some(nodes: Sequence[int]) -> str:
    return ", ".join(map(str, nodes[:5])) + (f" and {len(nodes) - 5} more" if nodes[5:] else "")


def _by_atom(count: int, pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    found: list[list[int]] = [[] for _ in range(count)]
    for atom, value in pairs:
        found[atom].append(value)
    return tuple(map(tuple, found))


def _union(sets: Iterable[int]) -> int:
    whole = 0
    for s in sets:
        whole |= s
    return whole


def _of(sets: Sequence[int], nodes: Iterable[int]) -> int:
    return _union(sets[u] for u in nodes)


def _bits(whole: int) -> list[int]:
    """The numbers of the bits that are set.

    >>> _bits(5)
    [0, 2]
    """
    return [i for i, bit in enumerate(reversed(f"{whole:b}")) if bit == "1"]


__all__ = ["Atoms", "Reach", "condense", "reach"]
