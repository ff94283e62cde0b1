"""The search: never worse than the plain strategies, within memory and pins, and its plans
compute what the network computes uncut."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from strategies_networks import networks
from test_cut_equals_uncut import check

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cluster import Cluster, Link, MachineSpec
from dbgraph.compile import Options, compiled, forecast, make_plans
from dbgraph.errors import NoCutError, UsageError
from dbgraph.ir.graph import Cut
from dbgraph.passes.partition.borders import bordered
from dbgraph.passes.partition.choice import Choice, computes, layer_of, used_partitions
from dbgraph.passes.partition.given import Given
from dbgraph.passes.partition.layerwise import layerwise
from dbgraph.passes.partition.seeds import Seeds
from dbgraph.passes.partition.spans import pipelines
from dbgraph.passes.partition.team import Team, shares
from dbgraph.passes.partition.tiles import Tiles
from dbgraph.passes.partition.trial import Trial
from dbgraph.pipeline import front_passes, run
from dbgraph.placing import _Bench

_SETTINGS = settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
FAST = MachineSpec(flop_s=200e9, memory_bytes_s=40e9)


def dense_network(width: int = 1024, depth: int = 3, batch: int = 64) -> dbg.Network:
    with dbg.Network("dense", batch=batch) as net:
        h = dbg.input("x", (width,))
        for _ in range(depth):
            h = L.Dense(width, activation="relu")(h)
        dbg.loss(L.MeanSquaredError()(h, dbg.input("y", (width,))))
    return net


def image_network(size: int = 32, maps: int = 4, batch: int = 16) -> dbg.Network:
    with dbg.Network("image", batch=batch) as net:
        h = dbg.input("image", (size, size, maps))
        for k in (1, 2, 3):
            h = L.LocallyConnected2D(maps, patch=(5, 5), padding="same", name=f"filters{k}")(h)
        label = dbg.input("label", (), dtype="int32")
        dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(8, name="scores")(h), label))
    return net


# Shares of a length


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=8), st.integers(0, 100))
def test_shares_are_in_proportion(weights: list[float], more: int) -> None:
    length = len(weights) + more
    bounds = shares(length, weights)
    assert (bounds[0], bounds[-1]) == (0, length)
    sizes = np.diff(bounds)
    assert (sizes >= 1).all()
    if more > 20 * len(weights):
        wanted = length * np.asarray(weights) / sum(weights)
        assert np.abs(sizes - wanted).max() <= max(1.0, len(weights))


def test_a_team_of_unequal_machines() -> None:
    team = Team((0, 1, 2, 3), (4.0, 1.0, 1.0, 1.0))
    assert team.cut((7, 5), {0: 4}) == Cut(((0, 4, 5, 6, 7), (0, 5)), (0, 1, 2, 3))
    assert team.spread(7) == (0, 0, 0, 0, 1, 2, 3)
    assert team.some(1).places == (0,)


# Never worse


@given(network=networks(loss=True, partitions=3), partitions=st.integers(1, 3), seed=st.integers(0))
@settings(_SETTINGS, max_examples=6)
@pytest.mark.slow
def test_any_network(network: dbg.Network, partitions: int, seed: int) -> None:
    """The plan verifies, keeps the pins, is never slower than tiles and stages, and computes what
    the network computes."""
    options = Options(partitions, modes=("training",), budget_s=60, budget_steps=40, seed=seed % 7)
    try:
        found = compiled(network, options)
    except NoCutError:
        assume(False)
    plan, outcome = found.plans["training"], found.outcome
    assert outcome is not None
    step_s = forecast(plan).step_s
    assert step_s == outcome.best.forecast.step_s
    for name in ("tiles", "stages"):
        try:
            plain = make_plans(network, replace(options, strategy=name))["training"]
        except NoCutError:
            continue
        assert step_s <= forecast(plain).step_s
    for node in network.graph:
        if node.pin.partitions and node.name in plan.cuts:
            assert plan.cuts[node.name].partitions <= set(node.pin.partitions)
    check(network, plan, seed % 1000)


@pytest.mark.parametrize(
    "make", [dense_network, pytest.param(image_network, marks=pytest.mark.slow)]
)
def test_same_seed_and_steps_same_plan(make) -> None:
    options = Options(3, budget_s=600, budget_steps=25, seed=3)
    first, second = (make_plans(make(), options)["training"] for _ in range(2))
    assert first == second


def test_no_placement_of_whole_layers_is_faster() -> None:
    """Every way to put the layers of small networks on two or three machines, simulated."""
    for width, depth, machines in ((512, 2, 3), (64, 3, 2), (256, 4, 2)):
        network = dense_network(width, depth)
        options = Options(machines, 1, budget_s=600, may_idle=True, budget_steps=60)
        best = compiled(network, options).outcome
        graph = run(front_passes(network, 1), network.graph)
        nodes = [n for n in graph if computes(n)]
        layers = list(dict.fromkeys(layer_of(n) for n in nodes))
        for places in product(range(machines), repeat=len(layers)):
            if places[0]:  # the machines are alike: the first layer may stand on the first
                continue
            where = dict(zip(layers, places, strict=True))
            choices = {n.name: Choice(Cut.whole(n.type.shape, where[layer_of(n)])) for n in nodes}
            given_ = Given(choices, network.batch)
            plan = make_plans(network, replace(options, given=given_))["training"]
            assert best is not None
            assert best.best.forecast.step_s <= forecast(plan).step_s * (1 + 1e-9)


# Unequal machines, memory, pins


def test_unequal_machines_share_by_speed() -> None:
    """One machine four times as fast as three others: at least 1.6 times better than equally."""
    network = dense_network(4096, 3, batch=64)
    cluster = Cluster((FAST, MachineSpec(), MachineSpec(), MachineSpec()))
    plan = make_plans(network, Options(4, cluster=cluster, budget_s=5))["training"]
    graph = run(front_passes(network, 1), network.graph)
    choices = Tiles(Cluster.equal(4)).choose(graph, 4)  # as if they were alike
    even = make_plans(network, Options(4, cluster=cluster, given=Given(choices, network.batch)))[
        "training"
    ]
    assert forecast(even, cluster).step_s >= 1.6 * forecast(plan, cluster).step_s


def test_a_small_memory_gets_less() -> None:
    network = dense_network(1024, 3)
    roomy = forecast(make_plans(network, Options(2, strategy="tiles"))["training"])
    need = max(m.peak_bytes for m in roomy.machines)
    small = replace(MachineSpec(), memory_bytes=0.6 * need)
    cluster = Cluster((MachineSpec(), small))
    plan = make_plans(network, Options(2, cluster=cluster))["training"]
    held = forecast(plan, cluster).machines
    assert held[1].peak_bytes <= small.memory_bytes
    assert held[0].peak_bytes > held[1].peak_bytes


def test_nothing_fits() -> None:
    network = dense_network(1024, 3)
    spec = MachineSpec(memory_bytes=8e6)

    def compile_for(count: int) -> None:
        make_plans(network, Options(count, 1, cluster=Cluster((spec,) * count), budget_steps=8))

    with pytest.raises(NoCutError, match=r"nothing fits the memory.* has 7.63 MiB") as caught:
        compile_for(1)
    count = int((caught.value.hint or "").split()[0])
    assert count > 1
    compile_for(count)
    with pytest.raises(NoCutError, match="nothing fits the memory"):
        compile_for(count - 1)


def test_a_cluster_with_too_few_machines() -> None:
    with pytest.raises(UsageError, match="the cluster has 2"):
        make_plans(dense_network(), Options(3, cluster=Cluster.equal(2)))


def test_idle_machines_only_if_allowed() -> None:
    """A network so small that one machine is fastest."""
    network = dense_network(8, 2, batch=4)
    busy = make_plans(network, Options(4))["training"]
    assert used_partitions(busy.cuts) == {0, 1, 2, 3}
    idle = make_plans(network, Options(4, may_idle=True))["training"]
    assert len(used_partitions(idle.cuts)) == 1
    check(network, idle, 1)


# Spans, orders of microbatches, borders


def test_spans_on_groups_of_machines() -> None:
    network = dense_network(2048, 6, batch=256)
    found = pipelines(
        lambda m: run(front_passes(network, m), network.graph),
        Cluster.equal(4),
        Team.of(Cluster.equal(4)),
        [1, 2, 4],
    )
    assert found == sorted(found, key=lambda p: p.step_s)
    assert all(sum(p.sizes) <= 4 and len(p.sizes) > 1 for p in found)
    for pipeline in found:
        groups = {team.places for team in pipeline.teams.values()}
        assert len({place for group in groups for place in group}) == sum(pipeline.sizes)
    one, two = (next(p for p in found if p.microbatches == m and len(p.sizes) == 2) for m in (1, 4))
    assert two.step_s < one.step_s


@given(
    network=networks(loss=True),
    partitions=st.integers(2, 3),
    order=st.sampled_from(("1f1b", "gpipe")),
    strategy=st.sampled_from(("tiles", "stages")),
    seed=st.integers(0, 999),
)
@settings(_SETTINGS, max_examples=4)
@pytest.mark.slow
def test_any_order_of_microbatches(
    network: dbg.Network, partitions: int, order: str, strategy: str, seed: int
) -> None:
    options = Options(partitions, network.batch, strategy, order=order)
    try:
        plan = make_plans(network, options)["training"]
    except NoCutError:
        assume(False)
    check(network, plan, seed)


def test_values_of_a_microbatch_travel_while_another_is_computed() -> None:
    """Tilings too come with microbatches."""
    cluster = Cluster((FAST,) * 4, Link(bytes_s=125e6, latency_s=1e-4))
    steps_s = {}
    for microbatches in (1, None):
        options = Options(4, microbatches, cluster=cluster, budget_s=600, budget_steps=5)
        outcome = compiled(dense_network(2048, 3, batch=128), options).outcome
        assert outcome is not None
        steps_s[microbatches] = outcome.best.forecast.step_s
    assert outcome.best.candidate.microbatches > 1
    assert steps_s[None] < 0.9 * steps_s[1]


def test_a_layer_changes_as_a_whole() -> None:
    """Every plan once, in all layers that are not pinned, and in no other."""
    with dbg.Network("pinned", batch=16) as network:
        h = L.Dense(8, activation="relu", name="first")(dbg.input("x", (8,)))
        h = L.Dense(8, name="second", cut={"units": 2})(h)
        dbg.loss(L.MeanSquaredError()(h, dbg.input("y", (8,))))
    bench = _Bench(network, Options(2, 1))
    candidate = next(Seeds(bench, 1, None, 0).plain())
    trial = Trial(candidate, *bench.simulate(candidate), 0.0)
    found = list(layerwise(bench, trial))
    assert len({one.mark for one in found}) == len(found) > 10
    for one in found:
        bench.simulate(one)
        changed = {n for n, choice in one.choices.items() if choice != candidate.choices[n]}
        assert changed
        assert not any(name.startswith("second") for name in changed)


def test_gpipe_holds_more_at_once() -> None:
    network = dense_network(256, 4)
    early, late = (
        forecast(make_plans(network, Options(2, 16, "stages", order=order))["training"])
        for order in ("1f1b", "gpipe")
    )
    assert early.machines[0].peak_bytes < late.machines[0].peak_bytes
    assert not late.blocked


@pytest.mark.slow
def test_borders_hide_the_halo_on_a_slow_line() -> None:
    network = image_network(64, maps=8, batch=32)
    cluster = Cluster((MachineSpec(),) * 2, Link(bytes_s=4e6, latency_s=1e-3))
    graph = run(front_passes(network, 1), network.graph)
    plain = Tiles(cluster).choose(graph, 2)
    apart = plain
    for name in ("filters1/add", "filters2/add"):
        apart = bordered(graph, apart, graph[name]) or apart
    assert apart["filters1/local2d"].cut.count > plain["filters1/local2d"].cut.count
    plans = [
        make_plans(network, Options(2, cluster=cluster, given=Given(c, network.batch)))["training"]
        for c in (plain, apart)
    ]
    steps = [forecast(plan, cluster).step_s for plan in plans]
    assert steps[1] < steps[0]
    check(network, plans[1], 0)
