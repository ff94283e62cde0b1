"""Plans against their uncut networks, and what counts as equal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies_networks import networks
from uncut import quick_segments

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.compile import Options, make_plan, make_plans
from dbgraph.errors import NoCutError
from dbgraph.numerics import _below_best, _distance, compare, tolerance_of
from dbgraph.uncut import integer_limit, random_inputs, random_parameters, rounded


def words(dtype: str = "float32") -> dbg.Network:
    """Ids, labels, dropout, a bias that a normalisation cancels."""
    with dbg.Network("words", batch=6, seed=1, dtype=dtype) as net:
        ids = dbg.input("ids", (3,), dtype="int32")
        label = dbg.input("label", (), dtype="int32")
        h = L.Embedding(11, 4)(ids)
        h = L.Dense(8, name="cancelled")(h)
        h = L.LayerNorm()(h)
        h = L.Dropout(0.5)(h)
        scores = L.Dense(5)(h)
        dbg.loss(L.SoftmaxCrossEntropy()(scores, label))
        dbg.output("class", L.ArgMax()(scores))
    return net


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_cut_network_equals_the_uncut_one(dtype: str) -> None:
    found = compare(make_plan(words(dtype), 3, microbatches=2, strategy="tiles"))
    assert all(one.close for one in found)
    kinds = [one.kind for one in found]
    assert (kinds.count("loss"), kinds.count("output")) == (1, 1)
    assert kinds.count("gradient") == len(words().parameters)


def test_a_gradient_that_is_zero_but_for_rounding_is_not_wrong() -> None:
    """Its relative difference is of the order of 1."""
    found = {one.name: one for one in compare(make_plan(words(), 4, strategy="tiles"))}
    assert found["loss"].relative < 1e-5
    assert found["cancelled/biases"].absolute < 1e-6
    assert found["cancelled/biases"].close


def test_integers_stay_in_their_tables() -> None:
    graph = words().graph
    assert integer_limit(graph, graph["ids"]) == 11
    assert integer_limit(graph, graph["label"]) == 5
    inputs = random_inputs(graph, 0)
    assert inputs["ids"].dtype == np.int32
    assert 0 <= inputs["ids"].min() <= inputs["ids"].max() < 11
    assert set(inputs["label"]) <= set(range(5))


def test_integers_that_nobody_looks_up_are_free() -> None:
    with dbg.Network("n", batch=64) as net:
        dbg.output("y", dbg.input("x", (3,), dtype="int32")[1:])
    assert integer_limit(net.graph, net.graph["x"]) is None
    assert random_inputs(net.graph, 0)["x"].max() > 50


def test_random_parameters_have_no_zeros_and_a_seed() -> None:
    plan = make_plan(words(), 1)
    one, same, other = (random_parameters(plan, seed) for seed in (1, 1, 2))
    for name, value in one.items():
        assert (value != 0).all()
        np.testing.assert_array_equal(value, same[name])
        assert (value != other[name]).any()


def test_tolerance_is_that_of_the_coarsest_dtype() -> None:
    assert tolerance_of(words("float64").graph) == 1e-9
    assert tolerance_of(words("float32").graph) == 1e-5


def test_rounding_moves_by_one_unit() -> None:
    x = np.array([1.0, -3.0, 0.0], np.float32)
    moved = rounded({"x": x, "n": np.arange(3)}, 0)
    assert (moved["x"][:2] != x[:2]).all()
    np.testing.assert_allclose(moved["x"], x, rtol=2e-7)
    np.testing.assert_array_equal(moved["n"], np.arange(3))


def test_distance() -> None:
    nan, inf = float("nan"), float("inf")
    assert _distance(np.array([1.0, 5.0]), np.array([1.0, 4.0])) == (1.0, 4.0)
    assert _distance(np.array([nan, inf, 2]), np.array([nan, inf, 2])) == (0.0, 2.0)
    assert _distance(np.array([nan, 2]), np.array([1, 2]))[0] == inf
    assert _distance(np.array([inf, 2]), np.array([-inf, 2]))[0] == inf
    assert _distance(np.zeros(2), np.zeros(3))[0] == inf


def test_an_argmax_is_judged_by_the_scores() -> None:
    scores = np.array([[1.0, 1.0 - 1e-7, 0.0], [0.0, 2.0, 5.0]])
    assert _below_best(np.array([1, 2]), scores, 1)[0] == pytest.approx(1e-7)
    assert _below_best(np.array([0, 1]), scores, 1) == (3.0, 5.0)
    assert _below_best(np.array([0, 3]), scores, 1)[0] == float("inf")


@pytest.mark.slow
@given(network=networks(partitions=2), partitions=st.integers(2, 4))
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_networks(network: dbg.Network, partitions: int) -> None:
    mode = "training" if any(r.kind == "loss" for r in network.graph.results) else "inference"
    try:
        plan = make_plans(network, Options(partitions, modes=(mode,), budget_s=1.0))[mode]
    except NoCutError:
        return
    with quick_segments():
        assert all(one.close for one in compare(plan))
