"""Tiles placed by the search core: against brute force, against the plans that they become."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise, product
from math import inf
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from strategies_networks import networks
from test_cut_equals_uncut import check

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cluster import Cluster, Link, MachineSpec
from dbgraph.compile import Options, forecast, make_plans
from dbgraph.errors import NoCutError
from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.types import Attrs, TensorType
from dbgraph.passes.partition.choice import Choices, computes, layer_of, used_partitions
from dbgraph.passes.partition.given import Given
from dbgraph.passes.partition.relocate import (
    layer_tiles,
    place_layers,
    relocate,
    step_objective,
)
from dbgraph.passes.partition.team import Team
from dbgraph.passes.partition.tilegraph import TileGraph, tile_graph
from dbgraph.passes.partition.tiles import Tiles
from dbgraph.passes.search import Budget, Objective, Place, Problem, search
from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.atoms import condense
from dbgraph.pipeline import front_passes, run

_SETTINGS = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


def front(network: dbg.Network, microbatches: int = 1) -> Graph:
    """As it enters the partition pass."""
    return run(front_passes(network, microbatches), network.graph)


def steps(count: float) -> Budget:
    return Budget(seconds=inf, steps=count)


def tiled(graph: Graph, cluster: Cluster) -> Choices:
    return Tiles(cluster).greedy(graph, Team.of(cluster))


def planned(network: dbg.Network, choices: Choices, cluster: Cluster, mode: str = "training"):
    options = Options(
        len(cluster.machines), 1, None, (mode,), given=Given(choices), cluster=cluster
    )
    return make_plans(network, options)[mode]


def estimate(tiles: TileGraph, objective: Objective, place: Place) -> Assignment:
    atoms = condense(replace(tiles.problem, together=()))
    return Assignment(atoms, objective, atoms.gather(place))


# ---- brute force, which shares nothing with the search core


class BruteForce:
    """All cuts of a small problem at once, in numpy: one row for each."""

    def __init__(self, problem: Problem, objective: Objective) -> None:
        self.problem, self.objective = problem, objective
        group = list(range(problem.nodes))
        for nodes in problem.together:
            for u in nodes:
                old, new = group[u], group[nodes[0]]
                group = [new if g == old else g for g in group]
        names = sorted(set(group))
        machines = range(len(problem.machines))
        rows = np.array(list(product(machines, repeat=len(names))), np.int8)
        self.on = rows[:, [names.index(g) for g in group]]
        self.on = self.on[self._valid()]

    def least(self) -> float:
        """inf where no cut is valid."""
        if not len(self.on):
            return inf
        epochs = [self._busiest(e) for e in range(max(self.problem.epoch, default=0) + 1)]
        serial = self.objective.serial
        if len(epochs) == 1 or not serial:
            return float(self._busiest(None).min())
        return float((serial * sum(epochs) + (1 - serial) * self._busiest(None)).min())

    def _valid(self):
        p, keep = self.problem, np.ones(len(self.on), bool)
        for u, machines in p.allowed.items():
            keep &= np.isin(self.on[:, u], machines)
        for m, machine in enumerate(p.machines):
            held = (self.on == m) @ np.array(p.size_bytes or [0.0] * p.nodes)
            keep &= held <= machine.memory_bytes * (1 + 1e-9)
            if p.contiguous:
                keep &= ~self._returns(m)
        return keep

    def _returns(self, m: int):
        """Whether a path leaves a machine and comes back; the nodes are in topological order."""
        p, count = self.problem, len(self.on)
        edges = sorted((v.source, t) for v in p.values for t in v.targets)
        here, left, back = self.on == m, np.zeros((p.nodes, count), bool), np.zeros(count, bool)
        behind = np.zeros((p.nodes, count), bool)
        for u in order_of(p):
            for s in (s for s, t in edges if t == u):
                behind[u] |= here[:, s] | behind[s]
                left[u] |= left[s] | (~here[:, s] & behind[s])
            back |= here[:, u] & left[u]
        return back

    def _busiest(self, epoch: int | None):
        p, count = self.problem, len(self.on)
        machines = range(len(p.machines))
        work, received, sent = np.zeros((3, len(machines), count))
        epochs = p.epoch or (0,) * p.nodes
        chosen = [u for u in range(p.nodes) if epoch in (None, epochs[u])]
        for m in machines:
            work[m] = (self.on[:, chosen] == m) @ np.array(p.work[p.machines[m].kind])[chosen]
        for value in (v for v in p.values if epoch in (None, v.epoch)):
            source = self.on[:, value.source]
            readers = self.on[:, list(value.targets)]
            needs = np.array([(readers == m).any(axis=1) & (source != m) for m in machines])
            out = needs.sum(axis=0) if self.objective.per_destination else needs.any(axis=0)
            received += value.cost * needs
            for m in machines:
                sent[m] += value.cost * out * (source == m)
        loads = [
            np.max([a * work[m] + b * received[m] + c * sent[m] for a, b, c in rows], axis=0)
            for m in machines
            for rows in (self.objective.rows[p.machines[m].kind],)
        ]
        return np.max(loads, axis=0)


def order_of(problem: Problem) -> list[int]:
    """A topological order."""
    edges = {(v.source, t) for v in problem.values for t in v.targets}
    done: dict[int, None] = {}
    while len(done) < problem.nodes:
        blocked = {t for s, t in edges if s not in done}
        done.update(dict.fromkeys(u for u in range(problem.nodes) if u not in blocked))
    return list(done)


def small_network(rng: Random) -> dbg.Network:
    """Up to 8 layers, the loss among them, with branches, skips and pins; large enough to be
    worth more than one machine."""
    with dbg.Network("small", batch=rng.choice([64, 256])) as net:
        x = dbg.input("x", (rng.choice([64, 512]),))
        values = [x]
        for k in range(rng.randint(2, 7)):
            pin = rng.sample(range(3), rng.choice([1, 2])) if rng.random() < 0.15 else None
            with dbg.partition(*pin) if pin else nullcontext():
                values.append(small_layer(rng, values, k))
        with dbg.partition(rng.randrange(3)) if rng.random() < 0.1 else nullcontext():
            loss = L.MeanSquaredError()(values[-1], dbg.input("t", values[-1].shape))
        dbg.loss(loss)
    return net


def small_layer(rng: Random, values: list, k: int):
    last, any_ = values[-1], rng.choice(values)
    same = [v for v in values if v is not last and v.shape == last.shape]
    kind = rng.choice(["dense", "dense", "dense", "tanh", "add"])
    if kind == "add" and same:
        return L.Add(name=f"add{k}")(last, rng.choice(same))
    if kind == "tanh":
        return L.Activation("tanh", name=f"tanh{k}")(last)
    units = rng.choice([64, 512, 1024, last.shape[0]])
    return L.Dense(units, name=f"dense{k}")(last if rng.random() < 0.6 else any_)


def small_cluster(rng: Random, memory_bytes: float) -> Cluster:
    """Three machines, mostly unequal; where memories are limited, by what the network needs."""
    tight = rng.random() < 0.5
    specs = tuple(
        MachineSpec(
            flop_s=rng.choice([25e9, 50e9, 50e9, 200e9]),
            memory_bytes=memory_bytes * rng.uniform(0.3, 1.2) if tight else 1e12,
        )
        for _ in range(3)
    )
    return Cluster(specs, Link(rng.choice([1e8, 1e9, 1e10]), 1e-4, 2e-5))


@pytest.mark.parametrize("contiguous", [False, True])
@pytest.mark.parametrize(
    "seeds", [range(50), pytest.param(range(50, 200), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_the_search_equals_brute_force(contiguous: bool, seeds: range) -> None:
    impossible = 0
    for seed in seeds:
        rng = Random(seed)
        graph = front(small_network(rng))
        roomy = layer_tiles(graph, Cluster.equal(3), contiguous)
        cluster = small_cluster(rng, sum(roomy.problem.size_bytes))
        tiles = layer_tiles(graph, cluster, contiguous)
        objective = step_objective(tiles.problem, 0.0 if contiguous else rng.choice([0.5, 1.0]))
        least = BruteForce(tiles.problem, objective).least()
        if least == inf:
            impossible += 1
            with pytest.raises(NoCutError):
                search(tiles.problem, objective, steps(1000), use_exact=False)
            continue
        found = search(tiles.problem, objective, steps(1000), use_exact=False)
        assert found.value == pytest.approx(least, rel=1e-9), seed
        assert found.proved
    assert impossible < len(seeds) / 2


# ---- what is reckoned, held against plans


@given(
    network=networks(dropout=False),
    count=st.integers(2, 4),
    whole=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(_SETTINGS, max_examples=40)
def test_what_crosses_is_what_the_plan_sends(
    network: dbg.Network, count: int, whole: bool, seed: int
) -> None:
    """Over links on which a byte takes a second and a message nothing."""
    rng = Random(seed)
    cluster = replace(Cluster.equal(count), link=Link(1.0, 0.0, 0.0))
    graph = front(network)
    tiles = layer_tiles(graph, cluster, False)
    if not whole:
        tiles = tile_graph(graph, tiled(graph, Cluster.equal(count)), cluster)
    choices = tiles.choices([rng.randrange(count) for _ in tiles.start])
    assume(used_partitions(choices) == set(range(count)))
    plan = planned(network, choices, Cluster.equal(count), "evaluation")
    sent = sum(t.type.size_bytes for t in plan.transfers)
    tiles = tile_graph(graph, choices, cluster)
    cut = estimate(tiles, step_objective(tiles.problem, 1.0), tiles.start)
    reckoned = cut.moved / 2 / 2  # by two machines, and there and back
    # What overlapping regions share crosses once, but is reckoned for each of them.
    assert sent * (1 - 1e-9) <= reckoned <= sent * 1.25


def dense_network(width: int = 512, depth: int = 4, batch: int = 256) -> dbg.Network:
    with dbg.Network("dense", batch=batch) as net:
        h = dbg.input("x", (width,))
        for _ in range(depth):
            h = L.Dense(width, "relu")(h)
        dbg.loss(L.MeanSquaredError()(h, dbg.input("y", (width,))))
    return net


def towers(count: int, depth: int = 3, batch: int = 64) -> dbg.Network:
    with dbg.Network("towers", batch=batch) as net:
        x = dbg.input("x", (256,))
        tops = []
        for k in range(count):
            h = x
            for d in range(depth):
                h = L.Dense(1024, "relu", name=f"tower{k}.{d}")(h)
            tops.append(L.Dense(16, name=f"top{k}")(h))
        dbg.loss(L.MeanSquaredError()(L.Add()(tops), dbg.input("t", (16,))))
    return net


def test_the_estimate_orders_plans_as_their_simulated_steps() -> None:
    cluster, network, rng = Cluster.equal(4), dense_network(), Random(0)
    graph = front(network)
    tiles = tile_graph(graph, tiled(graph, cluster), cluster)
    reckoned, simulated = [], []
    for share in (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9):
        place = [rng.randrange(4) if rng.random() < share else m for m in tiles.start]
        cut = estimate(tiles, step_objective(tiles.problem, 1.0), place)
        reckoned.append(cut.value)
        plan = planned(network, tiles.choices(place), cluster)
        simulated.append(forecast(plan, cluster).step_s)
    ranks = [np.argsort(np.argsort(x)) for x in (reckoned, simulated)]
    assert np.corrcoef(*ranks)[0, 1] > 0.8


# ---- relocate


def test_it_repairs_what_was_misplaced() -> None:
    cluster, graph = Cluster.equal(4), front(dense_network())
    tiles = tile_graph(graph, tiled(graph, cluster), cluster)
    objective = step_objective(tiles.problem, 1.0)
    good_s = estimate(tiles, objective, tiles.start).value
    rng = Random(1)
    place = [rng.randrange(4) if rng.random() < 0.2 else m for m in tiles.start]
    bad_s = estimate(tiles, objective, place).value
    found = relocate(graph, tiles.choices(place), cluster, steps(30_000), use_exact=False)
    assert bad_s > 1.2 * good_s
    assert found.value_s < good_s + 0.1 * (bad_s - good_s)


@pytest.mark.slow
@given(
    network=networks(partitions=3),
    seed=st.integers(0, 99),
    microbatches=st.sampled_from([1, 8]),
    tight=st.booleans(),
)
@settings(_SETTINGS, max_examples=25)
def test_it_is_never_worse_and_keeps_pins_and_memory(
    network: dbg.Network, seed: int, microbatches: int, tight: bool
) -> None:
    rng = Random(seed)
    graph = front(network)
    specs = [MachineSpec(flop_s=rng.choice([5e6, 2e7]), memory_bytes_s=1e6) for _ in range(3)]
    cluster = Cluster(tuple(specs), Link(1e6, 1e-5, 1e-5))
    choices = tiled(graph, cluster)
    tiles = tile_graph(graph, choices, cluster)
    if tight:  # just what the tiles take where they are
        held = [0.0] * 3
        for size, m in zip(tiles.problem.size_bytes, tiles.start, strict=True):
            held[m] += size
        machines = [replace(s, memory_bytes=h) for s, h in zip(specs, held, strict=True)]
        cluster = replace(cluster, machines=tuple(machines))
    found = relocate(
        graph, choices, cluster, steps(2000), microbatches=microbatches, use_exact=False, seed=seed
    )
    tiles, after = tile_graph(graph, choices, cluster), tile_graph(graph, found.choices, cluster)
    objective = step_objective(tiles.problem, 0.5 + 0.5 / microbatches)
    before_s = estimate(tiles, objective, tiles.start).value
    moved = estimate(after, objective, after.start)
    assert found.value_s <= before_s * (1 + 1e-9)
    # Epochs go by the places, and where parameters stand is the plan's choice.
    assert found.bound_s <= found.value_s
    assert all(moved.fits(m) for m in range(3))
    assert used_partitions(found.choices) >= used_partitions(choices)
    for node in graph:
        if computes(node):
            old, new = choices[node.name], found.choices[node.name]
            assert new.cut.splits == old.cut.splits
            assert not node.pin.partitions or new.partitions <= set(node.pin.partitions)


@pytest.mark.slow
@given(network=networks(loss=True, partitions=2), seed=st.integers(0, 99))
@settings(_SETTINGS, max_examples=4)
def test_its_plans_train_like_the_uncut_network(network: dbg.Network, seed: int) -> None:
    rng, cluster = Random(seed), replace(Cluster.equal(3), link=Link(1e12, 0.0, 0.0))
    graph = front(network)
    tiles = tile_graph(graph, tiled(graph, cluster), cluster)
    free = [
        m if t in tiles.problem.allowed else rng.randrange(3) for t, m in enumerate(tiles.start)
    ]
    found = relocate(graph, tiles.choices(free), cluster, steps(3000), use_exact=False)
    assume(used_partitions(found.choices) == {0, 1, 2})
    check(network, planned(network, found.choices, cluster), seed)


@pytest.mark.slow
@given(
    network=networks(loss=True, partitions=2),
    contiguous=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(_SETTINGS, max_examples=4)
def test_layers_placed_train_like_the_uncut_network(
    network: dbg.Network, contiguous: bool, seed: int
) -> None:
    cluster, graph = Cluster.equal(2), front(network)
    choices = place_layers(graph, cluster, 2, steps(2000), contiguous=contiguous, use_exact=False)
    assume(choices is not None and used_partitions(choices) == {0, 1})
    check(network, planned(network, choices, cluster), seed)


@pytest.mark.parametrize("step_s", [pytest.param(None, marks=pytest.mark.slow), 0.05])
def test_same_seed_and_steps_same_places(step_s: float | None) -> None:
    cluster, graph = Cluster.equal(4), front(towers(6))
    choices = tiled(graph, cluster)

    def places() -> Choices:
        found = relocate(
            graph, choices, cluster, steps(5000), seed=7, step_s=step_s, use_exact=False
        )
        return found.choices

    def layers() -> Choices | None:
        return place_layers(
            graph, cluster, 4, steps(3000), contiguous=False, seed=7, use_exact=False
        )

    assert places() == places()
    assert layers() == layers()


def test_progress_is_told() -> None:
    told: list[float] = []
    cluster, graph = Cluster.equal(4), front(towers(6))
    found = relocate(
        graph,
        tiled(graph, cluster),
        cluster,
        steps(5000),
        use_exact=False,
        progress=lambda _, value: told.append(value),
    )
    assert told == sorted(told, reverse=True)
    assert told[-1] == pytest.approx(found.value_s)


# ---- whole layers


def homes(choices: Choices, graph: Graph) -> dict[str, set[int]]:
    """The machines of each layer."""
    found: dict[str, set[int]] = {}
    for node in graph:
        if computes(node):
            found.setdefault(layer_of(node), set()).update(choices[node.name].partitions)
    return found


def test_towers_stand_side_by_side() -> None:
    graph = front(towers(4))
    choices = place_layers(
        graph, Cluster.equal(4), 4, steps(20_000), contiguous=False, use_exact=False
    )
    assert choices is not None
    at = homes(choices, graph)
    assert all(len(machines) == 1 for machines in at.values())
    columns = [set().union(*(at[f"tower{k}.{d}"] for d in range(3))) for k in range(4)]
    assert sorted(columns) == [{0}, {1}, {2}, {3}]


def test_stages_are_balanced_by_the_speed_of_their_machines() -> None:
    graph = front(dense_network(depth=10))
    fast = MachineSpec(flop_s=200e9, memory_bytes_s=40e9)
    cluster = Cluster((fast, MachineSpec(), MachineSpec()))
    choices = place_layers(graph, cluster, 3, steps(20_000), contiguous=True, use_exact=False)
    assert choices is not None
    dense = [m for name, (m,) in homes(choices, graph).items() if name.startswith("dense")]
    assert len(set(dense)) == 1 + sum(a != b for a, b in pairwise(dense))
    assert 6 <= dense.count(0) <= 8


def test_every_machine_gets_something_to_do() -> None:
    graph = front(dense_network(width=16, depth=6, batch=2))
    for contiguous in (False, True):
        choices = place_layers(
            graph, Cluster.equal(5), 5, steps(3000), contiguous=contiguous, use_exact=False
        )
        assert choices is not None
        assert used_partitions(choices) == set(range(5))


def test_only_the_first_machines_are_used_and_cuts_stay() -> None:
    with dbg.Network("cut", batch=8) as net:
        h = L.Dense(8, cut={"units": 4}, name="low")(dbg.input("x", (8,)))
        with dbg.partition(1):
            h = L.Dense(8, name="high")(h)
        dbg.loss(L.MeanSquaredError()(h, dbg.input("t", (8,))))
    graph = front(net)
    choices = place_layers(
        graph, Cluster.equal(6), 2, steps(2000), contiguous=False, use_exact=False
    )
    assert choices is not None
    assert used_partitions(choices) == {0, 1}
    assert choices["low/contract"].cut.pieces == (1, 4)
    assert homes(choices, graph)["high"] == {1}


def test_where_nothing_fits_there_are_no_places() -> None:
    cluster = Cluster((MachineSpec(memory_bytes=1000.0),) * 3)
    graph = front(dense_network(depth=2))
    for contiguous in (False, True):
        assert (
            place_layers(graph, cluster, 3, steps(500), contiguous=contiguous, use_exact=False)
            is None
        )
    choices = tiled(graph, cluster)
    found = relocate(graph, choices, cluster, steps(500), use_exact=False)
    assert found.choices == choices
    assert not found.proved


def layered(count: int, width: int, seed: int = 0) -> Graph:
    """So many matrix products and sums in layers that read one to three values of the last two."""
    rng = Random(seed)
    value, weights = TensorType((64, 512)), TensorType((512, 512))
    nodes = [Node("x", "input", (), value, Attrs(of="x"))]
    last, older = ["x"], ["x"]
    for begin in range(0, count // 2, width):
        row = []
        for k in range(begin, begin + width):
            reads = [rng.choice(last if rng.random() < 0.9 else older) for _ in range(3)]
            read = tuple(dict.fromkeys(reads[: rng.randint(1, 3)]))
            sums, own, name = f"s{k}", f"w{k}", f"n{k}"
            nodes += [
                Node(sums, "add_n", read, value, layer=name),
                Node(own, "parameter", (), weights, Attrs(of=own), layer=name),
                Node(name, "contract", (sums, own), value, Attrs(contracted=1), layer=name),
            ]
            row.append(name)
        last, older = row, last
    return Graph(tuple(nodes))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contiguous", "count", "budget_s"), [(False, 30_000, 2.4), (True, 40_000, 8.0)]
)
def test_a_large_graph_is_placed(contiguous: bool, count: int, budget_s: float) -> None:
    graph = layered(count, 250)
    cluster = Cluster((MachineSpec(memory_bytes=1e12),) * 32)
    budget = Budget(budget_s)
    choices = place_layers(graph, cluster, 32, budget, contiguous=contiguous, use_exact=False)
    assert choices is not None
    tiles = tile_graph(graph, choices, cluster)
    loads = estimate(tiles, step_objective(tiles.problem, 0.0), tiles.start).loads
    work = sum(tiles.problem.work[0])
    assert max(loads) < 2 * work / 32
