"""The search against brute force in simulated time, on networks that a generator makes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import inf, prod
from random import Random

import pytest

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cluster import Cluster, Link, MachineSpec
from dbgraph.compile import Options, compiled
from dbgraph.dsl.symbol import Symbol
from dbgraph.ir.graph import Cut, Graph, Node
from dbgraph.ops import op
from dbgraph.passes.partition.choice import Choice, Choices, computes, layer_of
from dbgraph.passes.partition.grids import batched_values
from dbgraph.passes.partition.reduce import apply_choices
from dbgraph.passes.partition.team import Team
from dbgraph.passes.schedule import Schedule
from dbgraph.pipeline import back_passes, front_passes, run
from dbgraph.simulate import simulate

WIDTHS = (32, 128, 512, 1024)
MOST_PLANS = 130
"""A network with more is left out: it would take too long."""


def network(rng: Random) -> dbg.Network:
    """One to four dense layers, or an image's filters and pools and one or two dense layers;
    branches and skips among them."""
    with dbg.Network("generated", batch=rng.choice((16, 64, 256))) as net:
        last = image(rng) if rng.random() < 0.3 else vectors(rng)
        dbg.loss(L.MeanSquaredError()(last, dbg.input("y", last.shape)))
    return net


def vectors(rng: Random) -> Symbol:
    values = [dbg.input("x", (rng.choice(WIDTHS),))]
    for _ in range(rng.randint(1, 4)):
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


def steps(graph: Graph, space: list[list[Choices]], cluster: Cluster) -> Iterator[float]:
    """The simulated step of every plan."""
    schedule = Schedule(len(cluster.machines), 1, True, "1f1b")
    for some in product(*space):
        choices = {name: choice for layer in some for name, choice in layer.items()}
        made = run(back_passes("training"), apply_choices(graph, choices))
        yield simulate(made, *schedule(made), cluster).step_s


def compared(seed: int) -> tuple[float, float] | None:
    """(the search's step, the fastest of all); None where there are too many."""
    rng = Random(seed)
    net, machines = network(rng), cluster(rng)
    graph = run(front_passes(net, 1), net.graph)
    space = spaces(graph, Team.of(machines))
    if prod(map(len, space)) > MOST_PLANS:
        return None
    options = Options(
        *(len(machines.machines), 1),
        cluster=machines,
        may_idle=True,
        order="1f1b",
        budget_s=inf,
        budget_steps=200,
    )
    outcome = compiled(net, options).outcome
    assert outcome is not None
    return outcome.best.forecast.step_s, min(steps(graph, space, machines), default=inf)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [range(k, k + 50) for k in range(0, 200, 50)], ids=str)
def test_hardly_any_plan_of_a_small_network_is_faster(seeds: range) -> None:
    """All plans in which each layer, of two to six, stands whole on one of two or three machines,
    or is cut over all of them along one axis, are simulated, with one microbatch. The search,
    which also cuts in grids, over some of the machines, and along reduced axes, is at least as
    fast on nearly all networks, and nowhere slower by more than 7 %: it changes one node at a
    time, and a few optima are several changes away."""
    found = {seed: pair for seed in seeds if (pair := compared(seed)) is not None}
    assert len(found) > len(seeds) / 3
    worse = {seed: ours / best for seed, (ours, best) in found.items() if ours > best * (1 + 1e-9)}
    assert len(worse) <= len(found) / 10, worse
    assert max(worse.values(), default=1.0) < 1.07, worse
