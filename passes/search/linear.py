"""A dynamic program over linear orders: each machine gets one stretch of the order.

After Tarnawski et al., "Efficient Algorithms for Device Placement of DNN Graph Operators"
(NeurIPS 2020): their dynamic program runs over the ideals of the graph. Ideals can be too many, so
this one runs over the prefixes of one topological order, n + 1 ideals out of them, and takes many
orders in turn. Every stretch of a topological order is convex.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf
from random import Random

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from dbgraph.passes.search.alike import alike
from dbgraph.passes.search.atoms import Atoms
from dbgraph.passes.search.objective import Objective

Matrix = NDArray[np.float64]
_MOST_STATES = 3000
# A pass over the matrix for each state; a matrix for each class of machines.
_MOST_OPERATIONS, _MOST_NUMBERS = 1.5e8, 2.5e7


@dataclass(frozen=True)
class Split:
    """The best stretches of one order.

    Attributes:
        places: the machine of each atom.
        value: the busiest machine's load, values sent per destination counted once only.
    """

    places: tuple[int, ...]
    value: float


@dataclass(frozen=True)
class Order:
    """What no linear order can part, and the edges between.

    A convex set stays one when all edges turn round. So each phase after the first is taken the
    way that leaves most blocks: a backward pass runs against the forward pass.

    Attributes:
        blocks: the atoms of each.
        edges: pairs (from, to) of blocks.
    """

    blocks: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[int, int], ...]

    @staticmethod
    def of(atoms: Atoms) -> Order:
        phases = atoms.problem.phase or (0,) * atoms.problem.nodes
        pairs: dict[int, list[tuple[int, int]]] = {}
        for u, v in atoms.problem.phase_edges():
            if atoms.of[u] != atoms.of[v]:
                pairs.setdefault(phases[u], []).append((atoms.of[u], atoms.of[v]))
        graph = nx.DiGraph()
        graph.add_nodes_from(range(atoms.count))
        for _, edges in sorted(pairs.items()):
            choices = []
            turned = [(v, u) for u, v in edges]
            for way in (edges, turned) if graph.number_of_edges() else (edges,):
                candidate = graph.copy()
                candidate.add_edges_from(way)
                choices.append((-nx.number_strongly_connected_components(candidate), candidate))
            graph = min(choices, key=lambda c: c[0])[1]
        folded = nx.condensation(graph, [sorted(s) for s in _strong(graph)])
        blocks = tuple(tuple(sorted(folded.nodes[b]["members"])) for b in folded)
        return Order(blocks, tuple(folded.edges))

    def take(self, rng: Random | None, style: str) -> list[int]:
        """The blocks in topological order.

        Args:
            rng: breaks ties; None takes the first.
            style: "deep" goes on where it came from, "wide" takes the oldest.
        """
        after: list[list[int]] = [[] for _ in self.blocks]
        waits = [0] * len(self.blocks)
        for u, v in self.edges:
            after[u].append(v)
            waits[v] += 1
        ready = deque(u for u, n in enumerate(waits) if not n)
        if rng:
            rng.shuffle(ready)
        done = []
        while ready:
            done.append(u := ready.pop() if style == "deep" else ready.popleft())
            new = []
            for v in after[u]:
                waits[v] -= 1
                if not waits[v]:
                    new.append(v)
            if rng:
                rng.shuffle(new)
            ready += new
        return done


class Linear:
    """Cuts the linear orders of a problem's atoms."""

    def __init__(self, atoms: Atoms, objective: Objective) -> None:
        self.atoms, self.objective = atoms, objective
        self._order = Order.of(atoms)
        self._classes = alike(atoms)

    def order(self, rng: Random | None, style: str) -> list[int]:
        """See `Order.take`."""
        return self._order.take(rng, style)

    def split(self, order: Sequence[int]) -> Split | None:
        """The best stretches of an order of blocks, one for each machine, some of them empty;
        None where no stretches fit."""
        loads = [self._loads(order, machines[0]) for machines in self._classes]
        counts = [len(machines) for machines in self._classes]
        states = _states(counts)
        n = len(order)
        best: dict[tuple[int, ...], NDArray[np.float64]] = {}
        came: dict[tuple[int, ...], tuple[NDArray[np.intp], NDArray[np.intp]]] = {}
        for state in states:
            value = np.full(n + 1, inf)
            begin, kind = np.zeros(n + 1, np.intp), np.full(n + 1, -1, np.intp)
            if not any(state):
                value[0] = 0.0
            for c, used in enumerate(state):
                before = (*state[:c], used - 1, *state[c + 1 :])
                if before not in best:
                    continue
                reach = np.maximum(best[before][:, None], loads[c])
                i = reach.argmin(axis=0)
                found = reach[i, np.arange(n + 1)]
                less = found < value
                value[less], begin[less], kind[less] = found[less], i[less], c
            best[state], came[state] = value, (begin, kind)
        last = states[-1]
        if best[last][n] == inf:
            return None
        return Split(self._places(order, came, last), float(best[last][n]))

    def _places(
        self,
        order: Sequence[int],
        came: dict[tuple[int, ...], tuple[NDArray[np.intp], NDArray[np.intp]]],
        state: tuple[int, ...],
    ) -> tuple[int, ...]:
        places = [0] * self.atoms.count
        end = len(order)
        while any(state):
            begin, kind = int(came[state][0][end]), int(came[state][1][end])
            state = (*state[:kind], state[kind] - 1, *state[kind + 1 :])
            machine = self._classes[kind][state[kind]]
            for block in order[begin:end]:
                for atom in self._order.blocks[block]:
                    places[atom] = machine
            end = begin
        return tuple(places)

    def _loads(self, order: Sequence[int], machine: int) -> Matrix:
        """[i, j] is what the stretch order[i:j] costs a machine; inf where it can't hold it."""
        n = len(order)
        at = [0] * self.atoms.count
        for i, block in enumerate(order):
            for atom in self._order.blocks[block]:
                at[atom] = i
        spec = self.atoms.problem.machines[machine]
        own = np.zeros((3, n))
        for atom, i in enumerate(at):
            work = self.atoms.work[spec.kind][atom]
            barred = work == inf or machine not in self.atoms.allowed[atom]
            own[:, i] += (0.0 if barred else work, self.atoms.size_bytes[atom], barred)
        work_to, size_to, barred_to = np.cumsum(np.pad(own, ((0, 0), (1, 0))), axis=1)
        received, sent = self._moved(at, n)
        work = work_to[None, :] - work_to[:, None]
        load = np.zeros((n + 1, n + 1))
        for a, b, c in self.objective.rows[spec.kind]:
            np.maximum(load, a * work + b * received + c * sent, out=load)
        load[barred_to[None, :] - barred_to[:, None] > 0.5] = inf
        load[size_to[None, :] - size_to[:, None] > spec.memory_bytes * (1 + 1e-12)] = inf
        load[np.tri(n + 1, k=-1, dtype=bool)] = inf  # a stretch ends where it begins, or later
        np.fill_diagonal(load, 0.0)
        return load

    def _moved(self, at: Sequence[int], n: int) -> tuple[Matrix, Matrix]:
        """What each stretch [i, j] receives and sends: sums of rectangles, added as corners."""
        corners = np.zeros((2, n + 2, n + 2))

        def add(which: int, i: tuple[int, int], j: tuple[int, int], cost: float) -> None:
            """Adds cost for begins in range i and ends in range j."""
            if i[0] < i[1] and j[0] < j[1]:
                corners[which, i[0], j[0]] += cost
                corners[which, i[1], j[1]] += cost
                corners[which, i[0], j[1]] -= cost
                corners[which, i[1], j[0]] -= cost

        for value in self.atoms.values:
            p, cost = at[value.source], value.cost
            readers = sorted({at[t] for t in value.targets} - {p})
            if not readers or not cost:
                continue
            low, high = min(readers[0], p), max(readers[-1], p)
            # It is sent by the stretches that hold p, less those that hold all of it.
            add(1, (0, p + 1), (p + 1, n + 1), cost)
            add(1, (0, low + 1), (high + 1, n + 1), -cost)
            last = p
            for c in (c for c in readers if c > p):
                add(0, (last + 1, c + 1), (c + 1, n + 1), cost)  # c is the first that they read
                last = c
            last = p
            for c in reversed([c for c in readers if c < p]):
                add(0, (0, c + 1), (c + 1, last + 1), cost)  # c is the last that they read
                last = c
        received, sent = corners.cumsum(axis=1).cumsum(axis=2)[:, : n + 1, : n + 1]
        return received, sent


def most_atoms(atoms: Atoms) -> int:
    """How many atoms can be cut in linear orders in about a second each; for more, coarser ones
    must do."""
    counts = [len(machines) for machines in alike(atoms)]
    return int(min(_MOST_OPERATIONS / len(_states(counts)), _MOST_NUMBERS / len(counts)) ** 0.5)


def _states(counts: Sequence[int]) -> list[tuple[int, ...]]:
    """How many machines of each class are used up, in an order in which they can follow.

    All combinations, or where those are too many, one class after the other.
    """
    total = 1
    for count in counts:
        total *= count + 1
    if total <= _MOST_STATES:
        return list(product(*(range(count + 1) for count in counts)))
    states, used = [(0,) * len(counts)], [0] * len(counts)
    for c, count in enumerate(counts):
        for _ in range(count):
            used[c] += 1
            states.append(tuple(used))
    return states


def _strong(graph: nx.DiGraph) -> Iterator[set[int]]:
    yield from sorted(nx.strongly_connected_components(graph), key=min)


__all__ = ["Linear", "Order", "Split", "most_atoms"]
