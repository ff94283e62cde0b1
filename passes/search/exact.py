"""Exact search by OR-Tools CP-SAT: atoms × machines, with a proved bound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from importlib import import_module
from math import ceil, floor, inf, lcm
from types import ModuleType
from typing import Any

from dbgraph.errors import UsageError
from dbgraph.passes.search.alike import Ranks, canonical
from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.atoms import Atoms
from dbgraph.passes.search.loads import Loads
from dbgraph.passes.search.objective import Objective

# CP-SAT counts in integers: the load to beat becomes this many. Every figure is rounded
# down, so that a bound in integers is a bound in truth.
RESOLUTION = 10**6
_MEMORY_RESOLUTION = 10**9
_MOST_WEIGHT = 1000  # denominator of what an epoch counts


@dataclass(frozen=True, slots=True)
class Solved:
    """What CP-SAT found.

    Attributes:
        places: the machine of each atom; None where nothing better than the start was found.
        bound: no cut of the problem as it was put has a busiest machine below this.
        finished: whether nothing is left to search.
        effort_s: CP-SAT's deterministic time, which depends on neither machine nor load.
    """

    places: tuple[int, ...] | None
    bound: float
    finished: bool
    effort_s: float


def available() -> bool:
    """Whether OR-Tools is installed."""
    try:
        _cp_model()
    except UsageError:
        return False
    return True


def literals(atoms: Atoms, objective: Objective) -> int:
    """About how many the model of a whole problem has."""
    sent = atoms.machines if objective.per_destination else 2
    return atoms.machines * (atoms.count + sent * len(atoms.values))


def _cp_model() -> ModuleType:
    try:
        return import_module("ortools.sat.python.cp_model")
    except ImportError as error:
        raise UsageError(
            "the exact search needs OR-Tools, which is not installed",
            hint="pip install 'dbgraph[exact]'",
        ) from error


def solve(
    start: Assignment,
    *,
    free: Mapping[int, Sequence[int]] | None = None,
    seconds: float = inf,
    effort_s: float = inf,
    seed: int = 0,
    resolution: int = RESOLUTION,
    parameters: Mapping[str, Any] | None = None,
) -> Solved:
    """The least load of the busiest machine.

    Args:
        start: a valid cut; the search begins at it and looks for nothing worse.
        free: the atoms that may move and the machines that each may move to; None for all.
        seconds: wall-clock limit; what is found then depends on the machine.
        effort_s: limit in CP-SAT's deterministic time: the same result everywhere.
        resolution: the load to beat as an integer: more is finer, and slower to prove.
        parameters: further parameters of CP-SAT.

    Raises:
        UsageError: OR-Tools is not installed.
    """
    cp = _cp_model()
    model = _Model(cp, start, free, resolution)
    solver = cp.CpSolver()
    p = solver.parameters
    p.num_workers, p.random_seed, p.max_time_in_seconds = 1, seed % 2**31, min(seconds, 1e9)
    p.max_deterministic_time = min(effort_s, 1e9)
    for name, value in (parameters or {}).items():
        setattr(p, name, value)
    status = solver.solve(model.model)
    found = status in (cp.OPTIMAL, cp.FEASIBLE)
    finished = status in (cp.OPTIMAL, cp.INFEASIBLE)
    bound = solver.best_objective_bound / model.unit if found or not finished else model.limit
    return Solved(
        model.places(solver) if found else None,
        max(0.0, bound / model.scale),
        finished,
        solver.response_proto.deterministic_time,
    )


@dataclass(frozen=True)
class _Terms:
    """What a machine does in a block: costs, each with the literal on which it depends."""

    work: list[tuple[float, Any]] = field(default_factory=list)
    received: list[tuple[float, Any]] = field(default_factory=list)
    sent: list[tuple[float, Any]] = field(default_factory=list)

    @property
    def kinds(self) -> tuple[list[tuple[float, Any]], ...]:
        return self.work, self.received, self.sent


class _Model:
    """The integer program. A literal is True or False where nothing is left to decide."""

    def __init__(
        self,
        cp: ModuleType,
        start: Assignment,
        free: Mapping[int, Sequence[int]] | None,
        resolution: int,
    ) -> None:
        self.atoms, self.objective = start.atoms, start.objective
        self.cp, self.model = cp, cp.CpModel()
        self.sums = Loads(self.atoms, self.objective)
        self.scale = resolution / start.value if start.value > 0 else 1.0
        self.limit = ceil(start.value * self.scale)
        self.start = start.places if free is not None else canonical(start)
        self.choices = self._choices(free)
        self.on = [self._literals(atom) for atom in range(self.atoms.count)]
        self.terms: dict[tuple[int, int], _Terms] = defaultdict(_Terms)
        self._work()
        self._transfers()
        self._minimise()
        for m in range(self.atoms.machines):
            self._memory(m)
        if self.atoms.shape is not None:
            self._contiguity()

    def places(self, solver: Any) -> tuple[int, ...]:
        """The machine of each atom in the solver's solution."""
        return tuple(
            next(m for m, x in on.items() if x is True or (x is not False and solver.value(x)))
            for on in self.on
        )

    def _choices(self, free: Mapping[int, Sequence[int]] | None) -> list[tuple[int, ...]]:
        if free is not None:
            return [
                tuple(m for m in self.atoms.allowed[a] if m in free[a]) if a in free else (place,)
                for a, place in enumerate(self.start)
            ]
        choices = []
        ranks = Ranks(self.atoms)
        for a, allowed in enumerate(self.atoms.allowed):
            light = [m for m in allowed if self._alone(a, m) <= self.limit or m == self.start[a]]
            choices.append(tuple(m for m in light if m not in ranks.barred(a)))
        return choices

    def _alone(self, atom: int, machine: int) -> float:
        kind = self.atoms.problem.machines[machine].kind
        return self.objective.load(kind, self.atoms.work[kind][atom], 0, 0) * self.scale

    def _literals(self, atom: int) -> dict[int, Any]:
        machines = self.choices[atom]
        if len(machines) == 1:
            return {machines[0]: True}
        on = {m: self.model.new_bool_var(f"{atom} on {m}") for m in machines}
        self.model.add_exactly_one(on.values())
        for m, x in on.items():
            self.model.add_hint(x, self.start[atom] == m)
        return on

    def _is(self, atom: int, machine: int) -> Any:
        return self.on[atom].get(machine, False)

    def _either(self, literals: Iterable[Any]) -> None:
        """At least one of them holds."""
        kept = [x for x in literals if x is not False]
        if not any(x is True for x in kept):
            self.model.add_bool_or(kept)

    def _cause(self, both: Sequence[Any], name: str) -> Any:
        """A literal that holds when all of `both` do."""
        if any(x is False for x in both):
            return False
        rest = [x for x in both if x is not True]
        if not rest:
            return True
        result = self.model.new_bool_var(name)
        self._either([*map(self._not, rest), result])
        return result

    def _not(self, x: Any) -> Any:
        return (not x) if isinstance(x, bool) else x.negated()

    def _transfers(self) -> None:
        for i, value in enumerate(self.atoms.values):
            if not value.cost:
                continue
            source = self.on[value.source]
            machines = {m for t in value.targets for m in self.on[t]}
            needs = {
                m: self._needed(value.source, value.targets, m, f"{i} to {m}")
                for m in sorted(machines)
            }
            blocks = self.sums.moves[i]
            for m, x in needs.items():
                for block in blocks:
                    self.terms[block, m].received.append((value.cost, x))
            for m, x in source.items():
                others = [need for other, need in needs.items() if other != m]
                if self.objective.per_destination:
                    out = [self._cause((x, need), f"{i} from {m}") for need in others]
                else:
                    out = [self._leaves(x, value.targets, m, f"{i} from {m}")]
                for block in blocks:
                    self.terms[block, m].sent.extend((value.cost, y) for y in out)

    def _needed(self, source: int, targets: Sequence[int], m: int, name: str) -> Any:
        """Whether m reads a value that it doesn't make."""
        made = self._is(source, m)
        return self._any_pair([self._is(t, m) for t in targets], self._not(made), name)

    def _leaves(self, x: Any, targets: Sequence[int], m: int, name: str) -> Any:
        """Whether m makes a value (x) that another machine reads."""
        return self._any_pair([self._not(self._is(t, m)) for t in targets], x, name)

    def _any_pair(self, any_of: Sequence[Any], and_this: Any, name: str) -> Any:
        if and_this is False or all(x is False for x in any_of):
            return False
        if and_this is True and any(x is True for x in any_of):
            return True
        result = self.model.new_bool_var(name)
        for x in any_of:
            if x is not False:
                self._either([self._not(x), self._not(and_this), result])
        if and_this is not True:
            self.model.add_implication(result, and_this)
        return result

    def _work(self) -> None:
        for a, on in enumerate(self.on):
            for m, x in on.items():
                for block, work in self.sums.works[a]:
                    cost = work[self.sums.kinds[m]]
                    self.terms[block, m].work.append((cost, x))

    def _minimise(self) -> None:
        """The weighted sum of the busiest machine's load in each block."""
        weights = [Fraction(w).limit_denominator(_MOST_WEIGHT) for w in self.sums.weights]
        self.unit = lcm(*(w.denominator for w in weights))
        peaks = []
        for block, weight in enumerate(weights):
            if weight > 0:
                peak = self.model.new_int_var(0, ceil(self.limit / weight), f"peak {block}")
                peaks.append(int(weight * self.unit) * peak)
                for m in range(self.atoms.machines):
                    self._below(m, self.terms[block, m], peak)
        self.model.add(sum(peaks) <= self.limit * self.unit)
        self.model.minimize(sum(peaks))

    def _below(self, m: int, terms: _Terms, peak: Any) -> None:
        """A machine's load is at most the busiest one's."""
        for weights in self.objective.rows[self.sums.kinds[m]]:
            row = [
                (floor(weight * cost * self.scale), x)
                for weight, kind in zip(weights, terms.kinds, strict=True)
                for cost, x in kind
                if x is not False
            ]
            self.model.add(_sum(row) <= peak)

    def _memory(self, m: int) -> None:
        spec = self.atoms.problem.machines[m]
        held = [(a, x) for a, on in enumerate(self.on) if (x := on.get(m, False)) is not False]
        total = sum(self.atoms.size_bytes)
        if spec.memory_bytes < total:
            unit = spec.memory_bytes / _MEMORY_RESOLUTION or 1.0
            row = [(floor(self.atoms.size_bytes[a] / unit), x) for a, x in held]
            self.model.add(_sum(row) <= _MEMORY_RESOLUTION)

    def _contiguity(self) -> None:
        """Along every path, once a machine's nodes end they don't begin again."""
        of, edges = self.atoms.of, self.atoms.problem.phase_edges()
        for m in range(self.atoms.machines):
            mine = [self._is(a, m) for a in of]
            ended: dict[int, Any] = {}
            for u in {u for edge in edges for u in edge}:
                ended[u] = self.model.new_bool_var(f"{m} ended at {u}")
                self._either([self._not(ended[u]), self._not(mine[u])])
            for u, v in edges:
                self.model.add_implication(ended[u], ended[v])
                if of[u] != of[v]:
                    self._either([self._not(mine[u]), mine[v], ended[v]])


def _sum(row: Iterable[tuple[int, Any]]) -> Any:
    return sum(cost * (1 if x is True else x) for cost, x in row if cost)


__all__ = ["Solved", "available", "literals", "solve"]
