"""Any network, cut in any way, computes what it computes uncut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from strategies_networks import feeds, networks
from uncut import initial_parameters, quick_segments, results

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.backends.local import LocalBackend
from dbgraph.compile import Options, forecast, make_plans
from dbgraph.errors import NoCutError
from dbgraph.job import Job, Step
from dbgraph.plan.text import parse_plan, print_plan
from dbgraph.plan.verify import verify_plan

TOLERANCE = {"float64": 1e-9, "float32": 2e-5}
_EVERYTHING = frozenset({"loss", "output", "gradient"})
# No shrinking: every attempt compiles for seconds.
_SETTINGS = settings(
    deadline=None,
    max_examples=3,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


def one_step(plan: dbg.Plan, inputs: dict[str, np.ndarray]):
    backend = LocalBackend()
    with quick_segments():
        backend.start(Job({"plan": plan}))
        backend.load(None)
        return backend.step(Step("plan", number=3, feeds=inputs, want=_EVERYTHING))


def close(actual: np.ndarray, expected: np.ndarray, name: str) -> None:
    """Relative to the largest element."""
    assert actual.shape == expected.shape, name
    if not np.issubdtype(expected.dtype, np.floating):
        np.testing.assert_array_equal(actual, expected, err_msg=name)
        return
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    worst = float(np.abs(np.asarray(actual) - expected).max(initial=0))
    assert worst <= TOLERANCE[expected.dtype.name] * scale, f"{name}: {worst} of {scale}"


def check(network: dbg.Network, plan: dbg.Plan, seed: int) -> None:
    verify_plan(plan)
    assert not forecast(plan).blocked
    assert parse_plan(print_plan(plan)) == plan
    inputs = feeds(network, np.random.default_rng(seed))
    losses, outputs, gradients = results(network, initial_parameters(network), inputs, step=3)
    got = one_step(plan, inputs)
    assert set(got.outputs) == set(outputs)
    dtype = network.graph[network.graph.results[0].value].type.dtype
    for name, value in losses.items():
        close(np.asarray(got.losses[name], dtype), np.asarray(value, dtype), name)
    for name, value in outputs.items():
        close(got.outputs[name], value, name)
    for name, value in gradients.items():
        if name not in got.gradients:
            assert not value.any(), f"{name} has no gradient in the plan"
        else:
            close(got.gradients[name], value, name)


def planned(network: dbg.Network, options: Options) -> dbg.Plan:
    """Searched for a second only: how fast it is does not matter."""
    try:
        return make_plans(network, replace(options, budget_s=1.0))["training"]
    except NoCutError:
        assume(False)


@given(
    network=networks(loss=True),
    partitions=st.integers(1, 8),
    strategy=st.sampled_from(["tiles", "stages", None]),
    seed=st.integers(0, 99),
)
@_SETTINGS
def test_random_networks_and_cuts(network, partitions, strategy, seed):
    check(network, planned(network, Options(partitions, strategy=strategy)), seed)


@pytest.mark.slow
@given(
    network=networks(loss=True, partitions=4),
    partitions=st.integers(4, 32),
    strategy=st.sampled_from(["tiles", "stages", None]),
    microbatches=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(_SETTINGS, max_examples=9)
def test_many_random_networks_and_cuts(network, partitions, strategy, microbatches, seed):
    check(network, planned(network, Options(partitions, microbatches, strategy)), seed)


@pytest.mark.slow
def test_a_shared_parameter_crosses_once_for_all_microbatches():
    """One table of weights in two layers that are cut otherwise: parts of it cross, and so does a
    penalty and its gradient, which no example changes."""
    with dbg.Network("shared", batch=8, dtype="float64") as net:
        first = L.Dense(6, cut={"units": 2}, l2=0.1, name="first")
        h = first(dbg.input("x", (6,)))
        h = L.Dense(6, weights=first.weights, cut={"units": 3}, name="second")(h)
        image = L.Conv2D(maps=2, patch=(3, 1), cut={"rows": 3}, name="image")
        y = image(L.Reshape((6, 1, 1))(h))
        dbg.loss(L.MeanSquaredError()(y, dbg.input("t", (4, 1, 2))))
        dbg.output("y", y)
    plan = dbg.make_plan(net, 3, microbatches=4, strategy="tiles")
    once = [t for t in plan.transfers if t.invariant]
    assert {plan.graph[t.value].op for t in once} >= {"parameter", "sum", "vjp"}
    check(net, plan, seed=1)
