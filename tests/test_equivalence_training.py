"""A cut network trains like the uncut one: against `jax.value_and_grad` and optax on one machine,
which know nothing of plans, and against other cuts and backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies_networks import feeds, networks
from uncut import QUICKLY, evaluate, initial_parameters, quick_segments

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.data import Batches
from dbgraph.dsl.symbol import Symbol
from dbgraph.errors import NoCutError
from dbgraph.optim.rules import Rule

STEPS = 50
# Tolerance after so many steps. Rounding grows by the step: single precision is compared closely
# after the first; double precision need not be.
MARKS = {"float64": {STEPS: 1e-9}, "float32": {1: 1e-5, STEPS: 1e-4}}
BATCH = 6
Gradient = Callable[..., dict[str, jax.Array]]
RULES = {
    "sgd": "sgd:learning_rate=0.05",
    "momentum": "momentum:learning_rate=0.02@warmup_cosine:warmup=5,steps=60",
    "nesterov": "nesterov:learning_rate=0.02",
    "adam": "adam:learning_rate=0.003",
    "adagrad": "adagrad:learning_rate=0.02",
    "rmsprop": "rmsprop:learning_rate=0.001",
}


@contextmanager
def declaring(name: str, dtype: str) -> Iterator[dbg.Network]:
    with dbg.Network(name, batch=BATCH, seed=3, dtype=dtype) as net:
        yield net


def classify(scores: Symbol) -> None:
    label = dbg.input("label", (), dtype="int32")
    dbg.loss(L.SoftmaxCrossEntropy()(scores, label))
    dbg.output("class", L.ArgMax()(scores))


def image(dtype: str) -> dbg.Network:
    """The stages of DistBelief's image networks."""
    with declaring("image", dtype) as net:
        h = dbg.input("image", (7, 6, 2))
        h = L.LocallyConnected2D(4, (3, 3), activation="tanh")(h)
        h = L.Pool2D("l2", size=(2, 2), strides=(1, 1))(h)
        h = L.LocalContrastNorm(size=(3, 3), floor=0.5)(h)
        classify(L.Dense(5)(h))
    return net


def convolution(dtype: str) -> dbg.Network:
    """Shared filters, a skip, dropout, pools."""
    with declaring("convolution", dtype) as net:
        x = dbg.input("image", (7, 7, 3))
        h = L.Conv2D(4, (3, 3), padding="same", activation="softplus")(x)
        h = L.Add()(h, L.Conv2D(4, (1, 1))(x))
        h = L.Pool2D("max", size=(2, 2))(h)
        h = L.Conv2D(8, (2, 2), strides=(2, 2), activation="silu")(h)
        h = L.Dropout(0.3)(L.Flatten()(h))
        classify(L.Dense(6, use_bias=False)(h))
    return net


def text(dtype: str) -> dbg.Network:
    """Ids, normed layers, weights that are read twice."""
    with declaring("text", dtype) as net:
        ids = dbg.input("ids", (4,), dtype="int32")
        h = L.Embedding(9, 8)(ids)
        tied = L.Dense(8, "gelu", over="last")
        h = L.LayerNorm()(tied(tied(h)))
        h = L.Reshape((8, 4))(h)
        h = L.Concat()([L.Flatten()(h), L.Flatten()(h[:, 1:3])])
        classify(L.Dense(7)(h))
    return net


def several(dtype: str) -> dbg.Network:
    """Several inputs and losses, penalties, arithmetic."""
    with declaring("several", dtype) as net:
        x, y = dbg.input("x", (6,)), dbg.input("y", (9,))
        target = dbg.input("target", (4,))
        label = dbg.input("label", (), dtype="int32")
        h = L.Dense(8, "sigmoid", l2=0.01)(x) * dbg.parameter("gain", (8,), ("uniform", 0.5, 1.0))
        h = h + 0.5 * L.Dense(8, "elu", l1=0.001)(y)
        dbg.loss(L.MeanSquaredError()(L.Dense(4)(h), target), weight=0.5, name="squares")
        dbg.loss(L.LogisticLoss()(L.Dense(8)(h), label))
    return net


NETWORKS: dict[str, Callable[[str], dbg.Network]] = {
    f.__name__: f for f in (image, convolution, text, several)
}


def examples(network: dbg.Network, count: int = 5) -> dict[str, np.ndarray]:
    """Arrays for a few batches."""
    rng = np.random.default_rng(7)
    parts = [feeds(network, rng) for _ in range(count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def gradient_of(network: dbg.Network) -> Gradient:
    """Of its loss, by its parameters."""
    graph = network.graph
    total = next(r.value for r in graph.results if r.kind == "loss")

    def loss(parameters, batch, number):
        return evaluate(graph, parameters, batch, number)[total]

    return jax.jit(jax.grad(loss), compiler_options=QUICKLY)


@cache
def shared_gradient(name: str, dtype: str) -> Gradient:
    """Compiled once for all rules."""
    return gradient_of(NETWORKS[name](dtype))


def on_one_machine(
    network: dbg.Network,
    gradient: Gradient,
    rule: Rule,
    arrays: dict[str, np.ndarray],
    *marks: int,
) -> Iterator[dict[str, np.ndarray]]:
    """The parameters after so many steps, trained without any plan, cut or program."""
    batches = Batches(len(next(iter(arrays.values()))), network.batch, network.seed)
    with jax.enable_x64(True):
        transformation = rule.transformation()
        held = {name: jnp.asarray(value) for name, value in initial_parameters(network).items()}
        state = transformation.init(held)

        @partial(jax.jit, compiler_options=QUICKLY)
        def update(held, state, gradients):
            updates, state = transformation.update(gradients, state, held)
            return optax.apply_updates(held, updates), state

        for number in range(max(marks)):
            chosen = batches.examples(number)
            batch = {name: array[chosen] for name, array in arrays.items()}
            held, state = update(held, state, gradient(held, batch, jnp.int32(number)))
            if number + 1 in marks:
                yield {name: np.asarray(value) for name, value in held.items()}


def through_dbgraph(
    network: dbg.Network, rule: Rule, arrays: dict[str, np.ndarray], steps: int, **options
) -> dict[str, np.ndarray]:
    trainer = dbg.Trainer(network, arrays, optimizer=rule, steps=steps, progress="none", **options)
    state = trainer.train().state()
    return {name: state.whole(name) for name in network.parameters}


def agree(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], limit: float) -> None:
    """Relative to each parameter's largest element."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype
        scale = float(np.abs(value).max())
        worst = float(np.abs(actual[name] - value).max())
        assert worst <= limit * scale, f"{name}: {worst / scale:.2g} relative, limit {limit}"


@cache
def expected(name: str, rule: str, dtype: str) -> dict[int, dict[str, np.ndarray]]:
    """The parameters at each mark. Compiled once for all cuts."""
    network = NETWORKS[name](dtype)
    marks = MARKS[dtype]
    gradient = shared_gradient(name, dtype)
    found = on_one_machine(network, gradient, Rule.parse(RULES[rule]), examples(network), *marks)
    return dict(zip(marks, found, strict=True))


def check(name: str, rule: str, dtype: str, **options) -> None:
    network = NETWORKS[name](dtype)
    arrays, parsed = examples(network), Rule.parse(RULES[rule])
    for steps, limit in MARKS[dtype].items():
        actual = through_dbgraph(network, parsed, arrays, steps, **options)
        agree(actual, expected(name, rule, dtype)[steps], limit)


FEW = [
    ("text", "sgd", "float32", 3, "stages", 2),
    ("several", "momentum", "float32", 2, "tiles", 2),
]


@pytest.mark.parametrize(("name", "rule", "dtype", "partitions", "strategy", "microbatches"), FEW)
def test_fifty_steps(name, rule, dtype, partitions, strategy, microbatches):
    check(name, rule, dtype, partitions=partitions, strategy=strategy, microbatches=microbatches)


@pytest.mark.slow
@pytest.mark.parametrize("partitions", range(1, 9))
@pytest.mark.parametrize("strategy", ["tiles", "stages"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_cut(name, strategy, partitions):
    layers = {node.layer for node in NETWORKS[name]("float64").graph if node.inputs}
    if strategy == "stages" and partitions > len(layers):
        with pytest.raises(NoCutError, match=f"the network has {len(layers)}"):
            dbg.make_plan(NETWORKS[name]("float64"), partitions, strategy=strategy)
        return
    with quick_segments():
        check(name, "momentum", "float64", partitions=partitions, strategy=strategy)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["image", "several"])
def test_every_rule(name, rule, dtype):
    with quick_segments():
        check(name, rule, dtype, partitions=4, strategy="tiles", microbatches=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "partitions", "strategy"),
    [("image", 4, "tiles"), ("convolution", 3, "stages"), ("text", 2, "tiles")],
)
def test_zmq_equals_local_bit_for_bit(name, partitions, strategy):
    network = NETWORKS[name]("float32")
    arrays, rule = examples(network), Rule.parse(RULES["momentum"])
    options = {"partitions": partitions, "strategy": strategy}
    here = through_dbgraph(network, rule, arrays, STEPS, **options)
    there = through_dbgraph(network, rule, arrays, STEPS, backend="zmq", **options)
    for parameter, value in here.items():
        np.testing.assert_array_equal(there[parameter], value, err_msg=parameter)


def random_training(
    network: dbg.Network, partitions: int, strategy: str, microbatches: int
) -> None:
    assume(network.batch % microbatches == 0)
    assume(network.parameters)
    rule, arrays = Rule.parse("momentum:learning_rate=0.001"), examples(network, 3)
    cut = {"partitions": partitions, "strategy": strategy, "microbatches": microbatches}
    try:
        with quick_segments():
            actual = through_dbgraph(network, rule, arrays, 10, **cut)
    except NoCutError:
        assume(False)
    (alone,) = on_one_machine(network, gradient_of(network), rule, arrays, 10)
    agree(actual, alone, 1e-9)


RANDOM = {
    "network": networks(loss=True, dtype="float64"),
    "partitions": st.integers(2, 8),
    "strategy": st.sampled_from(["tiles", "stages", None]),
    "microbatches": st.integers(1, 3),
}
LENIENT = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@pytest.mark.slow
@given(**RANDOM)
@settings(LENIENT, max_examples=2, derandomize=True)
def test_random_networks(network, partitions, strategy, microbatches):
    random_training(network, partitions, strategy, microbatches)


@pytest.mark.slow
@given(**RANDOM)
@settings(LENIENT, max_examples=6)
def test_many_random_networks(network, partitions, strategy, microbatches):
    random_training(network, partitions, strategy, microbatches)
