"""The search against brute force in simulated time, on networks that a generator makes."""

from __future__ import annotations

from math import inf, prod
from random import Random

import numpy as np
import pytest

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cluster import Cluster, Link, MachineSpec
from dbgraph.compile import Options, compiled
from dbgraph.dsl.symbol import Symbol
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ops import op
from dbgraph.passes.partition.bound import Bound
from dbgraph.passes.partition.choice import Choice, Choices, computes, layer_of
from dbgraph.passes.partition.grids import batched_values
from dbgraph.passes.partition.reduce import apply_choices
from dbgraph.passes.partition.team import Team
from dbgraph.passes.schedule import Schedule
from dbgraph.pipeline import back_passes, front_passes, run
from dbgraph.simulate import simulate

WIDTHS = (32, 128, 512, 1024)
MOST_LAYERS, MOST_PLANS = 8, 12
"""A network with more layers, or more plans whose bound is below the step of the one that is
bounded lowest, is left out: it would take too long."""


def network(rng: Random, fewest: int, most: int) -> dbg.Network:
    """So many dense layers, or an image's filters and pools and a dense layer; branches and skips
    among them. The loss is one layer more."""
    with dbg.Network("generated", batch=rng.choice((16, 64, 256))) as net:
        last = image(rng) if rng.random() < 0.3 and fewest == 1 else vectors(rng, fewest, most)
        dbg.loss(L.MeanSquaredError()(last, dbg.input("y", last.shape)))
    return net


def vectors(rng: Random, fewest: int, most: int) -> Symbol:
    values = [dbg.input("x", (rng.choice(WIDTHS),))]
    for _ in range(rng.randint(fewest, most)):
        kind = rng.choice(("dense", "dense", "branch", "skip"))
        x = rng.choice(values) if kind == "branch" else values[-1]
        if kind == "skip":
            values.append(L.Add()(x, L.Dense(x.shape[-1], activation="relu")(x)))
        else:
            units, activation = rng.choice(WIDTHS), rng.choice((None, "relu", "sigmoid"))
            values.append(L.Dense(units, activation=activation)(x))
    return values[-1]


def image(rng: Random) -> Symbol:
    side, maps = rng.choice((12, 24)), rng.choice((2, 8))
    h = dbg.input("image", (side, side, maps))
    h = rng.choice((L.Conv2D, L.LocallyConnected2D))(maps, patch=(5, 5), padding="same")(h)
    if rng.random() < 0.5:
        h = L.Pool2D("max", (2, 2))(h)
    return L.Dense(rng.choice(WIDTHS))(h)


def cluster(rng: Random) -> Cluster:
    """Two or three machines, mostly alike, on links from slow to fast."""
    fast = MachineSpec(flop_s=200e9, memory_bytes_s=40e9)
    alike = rng.random() < 0.6
    link = Link(rng.choice((1e8, 1e9, 1e10)), rng.choice((1e-6, 1e-4)), 1e-5)
    count = rng.choice((2, 2, 3))
    machines = (MachineSpec() if alike else rng.choice((MachineSpec(), fast)) for _ in range(count))
    return Cluster(tuple(machines), link)


def ways(graph: Graph, nodes: list[Node], team: Team, batched: set[str]) -> list[Choices]:
    """A layer whole on each machine; and over all of them along the batch, and along each other
    axis that its nodes have; what has not that axis stands whole on the first machine."""
    found: list[Choices] = [
        {n.name: Choice(Cut.whole(n.type.shape, place)) for n in nodes} for place in team.places
    ]
    for axis in range(max(n.type.rank for n in nodes)):
        choices: Choices = {}
        for n in nodes:
            axes = op(n.op).cut_axes(n.attrs, graph.input_types(n))
            along = axis in axes and n.type.shape[axis] >= len(team)
            along &= axis > 0 or n.name in batched
            cut = team.cut(n.type.shape, {axis: len(team)}) if along else Cut.whole(n.type.shape, 0)
            choices[n.name] = Choice(cut)
        if any(choice.cut.count > 1 for choice in choices.values()):
            found.append(choices)
    return found


def spaces(graph: Graph, team: Team) -> list[list[Choices]]:
    """By layer."""
    layers: dict[str, list[Node]] = {}
    for node in filter(computes, graph):
        layers.setdefault(layer_of(node), []).append(node)
    batched = batched_values(graph)
    return [ways(graph, nodes, team, batched) for nodes in layers.values()]


def step_s(graph: Graph, choices: Choices, cluster: Cluster) -> float:
    """The simulated step of a plan."""
    made = apply_choices(graph, choices)
    for step in back_passes("training"):
        made = step(made)
    schedule = Schedule(len(cluster.machines), 1, True, "1f1b")
    return simulate(made, *schedule(made), cluster).step_s


def plan(space: list[list[Choices]], number: int) -> Choices:
    """One of all plans, by its number in the order of `itertools.product`."""
    chosen = np.unravel_index(number, tuple(map(len, space)))
    layers = zip(space, chosen, strict=True)
    return {name: choice for ways, way in layers for name, choice in ways[way].items()}


def drawn(
    rng: Random, fewest: int = 1, most: int = 4
) -> tuple[dbg.Network, Cluster, list[list[Choices]]]:
    """A network of so many layers, machines, and the ways of each layer on them."""
    net, machines = network(rng, fewest, most), cluster(rng)
    return net, machines, spaces(one_microbatch(net), Team.of(machines))


def one_microbatch(net: dbg.Network) -> Graph:
    return run(front_passes(net, 1), net.graph)


def searched_s(net: dbg.Network, machines: Cluster) -> float:
    """The step that the search finds."""
    options = Options(
        *(len(machines.machines), 1),
        cluster=machines,
        may_idle=True,
        order="1f1b",
        budget_s=inf,
    )
    outcome = compiled(net, options).outcome
    assert outcome is not None
    return outcome.best.forecast.step_s


def faster(seed: int, fewest: int = 1, most: int = 4) -> float | None:
    """How many times as fast as what the search finds the fastest of all plans is; None for a
    network that is left out. Plans whose bound is above what was found are not simulated."""
    net, machines, space = drawn(Random(seed), fewest, most)
    if len(space) > MOST_LAYERS:
        return None
    graph = one_microbatch(net)
    bounds_s = Bound(graph, space, machines).all_s()
    likely_s = step_s(graph, plan(space, int(bounds_s.argmin())), machines)
    if np.count_nonzero(bounds_s < likely_s) > MOST_PLANS:
        return None
    found_s = searched_s(net, machines)
    below = np.flatnonzero(bounds_s < found_s * (1 - 1e-9))
    return max((found_s / step_s(graph, plan(space, k), machines) for k in below), default=1.0)


def none_is_faster(seeds: range, fewest: int = 1, most: int = 4) -> int:
    """How many networks were compared."""
    ratios = {seed: ratio for seed in seeds if (ratio := faster(seed, fewest, most)) is not None}
    assert {seed: ratio for seed, ratio in ratios.items() if ratio > 1 + 1e-9} == {}
    return len(ratios)


@pytest.mark.parametrize("seed", range(6))
def test_no_plan_is_below_its_bound(seed: int) -> None:
    """All plans of short networks, and some of longer ones."""
    rng = Random(seed)
    net, machines, space = drawn(rng, 1, 7 if seed % 2 else 2)
    graph = one_microbatch(net)
    bounds_s = Bound(graph, space, machines).all_s()
    assert len(bounds_s) == prod(map(len, space))
    for number in rng.sample(range(len(bounds_s)), min(len(bounds_s), 40)):
        assert bounds_s[number] <= step_s(graph, plan(space, number), machines) * (1 + 1e-9)


def test_no_plan_of_a_few_small_networks_is_faster() -> None:
    assert none_is_faster(range(12), most=1) > 6


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [range(k, k + 40) for k in range(0, 280, 40)], ids=str)
def test_no_plan_of_a_small_network_is_faster(seeds: range) -> None:
    """Plans in which each layer, of two to eight, stands whole on one of two or three machines,
    or is cut over all of them along one axis, with one microbatch. The search, which also cuts in
    grids, over some of the machines, and along reduced axes, is at least as fast on every
    network."""
    assert none_is_faster(seeds) > len(seeds) / 3


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [range(k, k + 20) for k in range(0, 80, 20)], ids=str)
def test_no_plan_of_up_to_eight_layers_is_faster(seeds: range) -> None:
    assert none_is_faster(seeds, 4, 7) > len(seeds) / 20
