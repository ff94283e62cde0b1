"""What is to be cut: nodes with work and memory, the values between them, the machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf, isfinite

from dbgraph.errors import NetworkError

Place = tuple[int, ...]
"""The machine of each node."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine: its kind (an index into `Problem.work`) and what fits into its memory."""

    kind: int = 0
    memory_bytes: float = inf


@dataclass(frozen=True, slots=True)
class Value:
    """What `source` makes and `targets` read; it moves to a machine whole, and once.

    Attributes:
        cost: what moving it costs the machine that sends it and the one that receives it, in the
            unit of `Problem.work`.
        epoch: in which it moves.
    """

    source: int
    targets: tuple[int, ...]
    cost: float
    epoch: int = 0


@dataclass(frozen=True)
class Problem:
    """A weighted directed acyclic graph and the machines to share it.

    Attributes:
        work: for each kind of machine what each node costs there, in one unit throughout
            (seconds, say); `inf` where that kind can't run the node.
        values: what moves between nodes; also the graph's edges.
        machines: the machines, in order.
        size_bytes: each node's memory; () for none.
        together: groups of nodes that share a machine.
        allowed: nodes that may stand on these machines only, such as one that is pinned.
        contiguous: whether each machine's nodes of one phase must form a convex set: no path
            within the phase leaves it and comes back.
        phase: each node's phase; () for one phase. A training step has two, forward and backward.
        epoch: each node's epoch, from 0; () for one epoch. See `Objective.serial`.
    """

    work: tuple[tuple[float, ...], ...]
    values: tuple[Value, ...]
    machines: tuple[Machine, ...]
    size_bytes: tuple[float, ...] = ()
    together: tuple[tuple[int, ...], ...] = ()
    allowed: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    contiguous: bool = False
    phase: tuple[int, ...] = ()
    epoch: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check(self)
        topological_order(self.nodes, self.edges())

    @property
    def nodes(self) -> int:
        return len(self.work[0])

    @cached_property
    def epochs(self) -> int:
        return max(self.epoch, default=0) + 1

    @cached_property
    def specs(self) -> frozenset[Machine]:
        """The machines that differ."""
        return frozenset(self.machines)

    def edges(self) -> list[tuple[int, int]]:
        """Pairs (from, to), each once, in the order of the values."""
        found = ((v.source, t) for v in self.values for t in v.targets)
        return list(dict.fromkeys(found))

    def phase_edges(self) -> list[tuple[int, int]]:
        """The edges between nodes of one phase: those that contiguity is about."""
        if not self.phase:
            return self.edges()
        return [(u, v) for u, v in self.edges() if self.phase[u] == self.phase[v]]


def topological_order(nodes: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The nodes, sources before targets, smallest first among equals. Raises NetworkError."""
    after: list[list[int]] = [[] for _ in range(nodes)]
    waits = [0] * nodes
    for u, v in edges:
        after[u].append(v)
        waits[v] += 1
    ready = [u for u in reversed(range(nodes)) if not waits[u]]
    order = []
    while ready:
        order.append(u := ready.pop())
        for v in after[u]:
            waits[v] -= 1
            if not waits[v]:
                ready.append(v)
    if len(order) < nodes:
        stuck = next(u for u in range(nodes) if waits[u])
        raise NetworkError(f"the graph to cut has a cycle; node {stuck} lies on one or behind it")
    return order


def _check(problem: Problem) -> None:
    """Raises NetworkError where indices, lengths or figures are out of their range."""
    if not problem.machines:
        raise NetworkError("there must be at least one machine")
    if not problem.work:
        raise NetworkError("there must be at least one kind of machine")
    n, kinds = problem.nodes, len(problem.work)
    rows = {f"work[{kind}]": len(work) for kind, work in enumerate(problem.work)}
    rows |= {"size_bytes": len(problem.size_bytes or problem.work[0])}
    rows |= {"phase": len(problem.phase or problem.work[0])}
    rows |= {"epoch": len(problem.epoch or problem.work[0])}
    for name, length in rows.items():
        if length != n:
            raise NetworkError(f"{name} has {length} entries for {n} nodes")
    for spec in problem.machines:
        if not 0 <= spec.kind < kinds:
            raise NetworkError(f"a machine is of kind {spec.kind}, but there are {kinds}")
    named = [u for group in problem.together for u in group] + list(problem.allowed)
    named += [u for v in problem.values for u in (v.source, *v.targets)]
    for u in named:
        if not 0 <= u < n:
            raise NetworkError(f"node {u} is named, but there are {n}")
    for u, machines in problem.allowed.items():
        for machine in machines:
            if not 0 <= machine < len(problem.machines):
                raise NetworkError(f"node {u} may stand on machine {machine}, which does not exist")
    epochs = problem.epochs
    if min(problem.epoch, default=0) < 0 or any(not 0 <= v.epoch < epochs for v in problem.values):
        raise NetworkError(f"an epoch is out of the range from 0 to {epochs - 1}")
    figures = [v.cost for v in problem.values] + list(problem.size_bytes)
    if any(not isfinite(x) or x < 0 for x in figures):
        raise NetworkError("costs and sizes must be finite and at least 0")
    if any(not x >= 0 for work in problem.work for x in work):
        raise NetworkError("work must be at least 0 (inf where a kind can't run a node)")


__all__ = ["Machine", "Place", "Problem", "Value", "topological_order"]
