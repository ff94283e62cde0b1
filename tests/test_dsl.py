"""What layers and symbols mean: values against NumPy written by hand, names, pins, results."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from strategies_networks import feeds, networks

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.dsl.symbol import Symbol
from dbgraph.initial import initial_values
from dbgraph.ir.graph import Graph, Pin
from dbgraph.ir.region import Region
from dbgraph.ir.types import TensorType
from dbgraph.ir.verify import verify
from dbgraph.kernels.reference import REFERENCES
from dbgraph.ops import dynamic_names
from dbgraph.ops.custom import FUNCTIONS

Arrays = Mapping[str, np.ndarray]


def values(network: dbg.Network, given: Arrays, step: int = 0) -> dict[str, np.ndarray]:
    """Every value of the graph, by the NumPy references."""
    found: dict[str, np.ndarray] = {}
    for node in network.graph:
        if node.op == "input":
            found[node.name] = given[node.attrs.str("of")]
        elif node.op == "clock":
            found[node.name] = np.array([step, 0], np.int32)
        elif node.op == "parameter":
            name, init = node.attrs.str("of"), node.attrs.tuple("init")
            shape = node.type.shape
            found[node.name] = given.get(
                name,
                initial_values(
                    name, init, network.seed, shape, Region.whole(shape), node.type.dtype
                ),
            )
        else:
            dynamic = [np.asarray(node.attrs[k], np.int32) for k in dynamic_names(node)]
            inputs = [found[name] for name in node.inputs]
            found[node.name] = REFERENCES[node.op](node.attrs, *inputs, *dynamic)
    return found


def results(network: dbg.Network, given: Arrays, step: int = 0) -> dict[str, np.ndarray]:
    """The named results."""
    found = values(network, given, step)
    return {result.name: found[result.value] for result in network.graph.results}


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def one(*shapes: tuple[int, ...], batch: int = 3, **more: Any) -> Any:
    """A decorator: the network of a function of inputs of these shapes; run as f(arrays)."""

    def make(build: Any) -> Any:
        with dbg.Network("one", batch=batch, dtype="float64", **more) as net:
            symbols = [dbg.input(f"x{i}", shape) for i, shape in enumerate(shapes)]
            dbg.output("y", build(*symbols))
        verify(net.graph, "network")

        def run(*arrays: np.ndarray, **given: np.ndarray) -> np.ndarray:
            inputs = {f"x{i}": a for i, a in enumerate(arrays)}
            renamed = {name.replace("__", "/"): array for name, array in given.items()}
            return results(net, {**inputs, **renamed})["y"]

        run.net = net  # type: ignore[attr-defined]
        return run

    return make


def normal(*shape: int) -> np.ndarray:
    return rng().standard_normal(shape)


# Layers


def test_dense_over_all_axes_and_over_the_last() -> None:
    x, w, b = normal(3, 2, 4), normal(2, 4, 5), normal(5)
    f = one((2, 4))(L.Dense(5, "tanh", name="d"))
    np.testing.assert_allclose(
        f(x, d__weights=w, d__biases=b), np.tanh(np.tensordot(x, w, 2) + b), rtol=1e-12
    )
    g = one((2, 4))(L.Dense(5, use_bias=False, over="last", name="d"))
    np.testing.assert_allclose(g(x, d__weights=w[0]), x @ w[0], rtol=1e-12)


def test_locally_connected_layer_has_filters_and_biases_of_each_position() -> None:
    x = normal(3, 5, 6, 2)
    layer = L.LocallyConnected2D(4, (3, 2), strides=(2, 1), padding=((0, 1), (0, 0)), name="l")
    with dbg.Network("n", batch=3, dtype="float64") as net:
        dbg.output("y", layer(dbg.input("x", (5, 6, 2))))
    assert net.parameters["l/weights"].type.shape == (2, 5, 3, 2, 2, 4)
    f = one((5, 6, 2))(L.LocallyConnected2D(4, (3, 2), strides=(2, 1), name="l"))
    weights, biases = normal(2, 5, 3, 2, 2, 4), normal(2, 5, 4)
    expected = np.zeros((3, 2, 5, 4))
    for i in range(2):
        for j in range(5):
            patch = x[:, 2 * i : 2 * i + 3, j : j + 2]
            expected[:, i, j] = np.tensordot(patch, weights[i, j], 3) + biases[i, j]
    np.testing.assert_allclose(f(x, l__weights=weights, l__biases=biases), expected, rtol=1e-12)


def test_convolution_shares_its_filters_and_same_padding_keeps_the_size() -> None:
    x, w, b = normal(3, 4, 5, 2), normal(2, 3, 2, 4), normal(4)
    f = one((4, 5, 2))(L.Conv2D(4, (2, 3), padding="same", activation="relu", name="c"))
    padded = np.pad(x, ((0, 0), (0, 1), (1, 1), (0, 0)))
    expected = np.zeros((3, 4, 5, 4))
    for i in range(4):
        for j in range(5):
            expected[:, i, j] = np.tensordot(padded[:, i : i + 2, j : j + 3], w, 3) + b
    np.testing.assert_allclose(
        f(x, c__weights=w, c__biases=b), np.maximum(expected, 0), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("length", range(1, 9))
@pytest.mark.parametrize("size", range(1, 5))
@pytest.mark.parametrize("stride", range(1, 4))
def test_same_padding_gives_as_many_positions_as_strides(
    length: int, size: int, stride: int
) -> None:
    f = one((length, length, 1))(L.Pool2D("max", size, stride, padding="same"))
    assert f.net.outputs["y"].shape == (3, -(-length // stride), -(-length // stride), 1)


def test_pooling_by_default_tiles_the_image() -> None:
    x = normal(3, 4, 5, 2)
    tiles = x[:, :, :4].reshape(3, 2, 2, 2, 2, 2)
    for kind, expected in (
        ("max", tiles.max((2, 4))),
        ("average", tiles.mean((2, 4))),
        ("l2", np.sqrt((tiles**2).sum((2, 4)))),
    ):
        np.testing.assert_allclose(one((4, 5, 2))(L.Pool2D(kind, 2))(x), expected, rtol=1e-12)


def test_local_contrast_normalisation_follows_its_formula() -> None:
    x = normal(2, 5, 4, 3)
    expected = np.zeros_like(x)

    def local_mean(v: np.ndarray) -> np.ndarray:
        out = np.zeros((*v.shape[:3], 1))
        for i in range(5):
            for j in range(4):
                window = v[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
                out[:, i, j, 0] = window.mean((1, 2, 3))
        return out

    centred = x - local_mean(x)
    expected = centred / np.maximum(0.8, np.sqrt(local_mean(centred**2)))
    f = one((5, 4, 3), batch=2)(L.LocalContrastNorm((3, 3), floor=0.8))
    np.testing.assert_allclose(f(x), expected, rtol=1e-12)


def test_layer_norm_and_softmax_and_argmax() -> None:
    x, gamma, beta = normal(3, 2, 6), normal(6), normal(6)
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    f = one((2, 6))(L.LayerNorm(floor=0.1, name="n"))
    np.testing.assert_allclose(
        f(x, n__gamma=gamma, n__beta=beta),
        (x - mean) / np.sqrt(var + 0.1) * gamma + beta,
        rtol=1e-12,
    )
    e = np.exp(x)
    np.testing.assert_allclose(one((2, 6))(L.Softmax())(x), e / e.sum(-1, keepdims=True))
    assert (one((2, 6))(L.ArgMax())(x) == x.argmax(-1)).all()


@pytest.mark.parametrize("name", L.ACTIVATIONS)
def test_every_activation_is_a_layer_and_an_argument(name: str) -> None:
    x = np.abs(normal(3, 4)) + 0.1
    same = one((4,))(L.Activation(name))(x)
    eye = one((4,))(L.Dense(4, name, use_bias=False, name="d"))(x, d__weights=np.eye(4))
    np.testing.assert_allclose(same, eye, rtol=1e-12)
    assert same.shape == (3, 4)


def test_embedding_looks_rows_up() -> None:
    with dbg.Network("n", batch=2) as net:
        dbg.output("y", L.Embedding(5, 3, name="e")(dbg.input("ids", (2,), dtype="int32")))
    table, ids = normal(5, 3).astype(np.float32), np.array([[0, 4], [2, 2]], np.int32)
    assert (results(net, {"ids": ids, "e/weights": table})["y"] == table[ids]).all()


def test_shapes_joins_and_skips() -> None:
    x, y = normal(3, 2, 6), normal(3, 2, 3)
    assert one((2, 6))(L.Flatten())(x).shape == (3, 12)
    assert one((2, 6))(L.Reshape((-1, 4)))(x).shape == (3, 3, 4)
    assert (one((2, 6), (2, 3))(L.Concat())(x, y) == np.concatenate([x, y], 2)).all()
    assert (one((2, 6))(lambda a: L.Concat(axis=0)([a, a]))(x) == np.concatenate([x, x], 1)).all()
    np.testing.assert_allclose(one((2, 6))(lambda a: L.Add()(a, a, a))(x), 3 * x)


def test_dropout_depends_on_seed_name_and_step_alone() -> None:
    def mask(step: int, **more: Any) -> np.ndarray:
        with dbg.Network("n", batch=64, dtype="float64", seed=more.pop("of", 0)) as net:
            x = dbg.input("x", (50,))
            dbg.output("y", L.Dropout(0.25, **more)(x))
        y = results(net, {"x": np.ones((64, 50))}, step)["y"]
        assert set(np.unique(y)) == {0, 1 / 0.75}
        return y > 0

    base = mask(0)
    assert abs(base.mean() - 0.75) < 0.03
    assert (base == mask(0)).all()
    for other in (mask(1), mask(0, name="other"), mask(0, seed=5), mask(0, of=1)):
        assert (base != other).mean() > 0.25


# Losses


def test_losses_follow_their_formulas() -> None:
    s, t, label = normal(3, 4), rng().random((3, 4)), np.array([1, 0, 3], np.int32)
    onehot = np.eye(4)[label]
    log_p = s - np.log(np.exp(s).sum(-1, keepdims=True))
    soft = np.log1p(np.exp(s))
    with dbg.Network("n", batch=3, dtype="float64") as net:
        scores, targets = dbg.input("s", (4,)), dbg.input("t", (4,))
        labels = dbg.input("label", (), dtype="int32")
        dbg.output("ce", L.SoftmaxCrossEntropy()(scores, labels))
        dbg.output("soft", L.SoftmaxCrossEntropy()(scores, targets))
        dbg.output("one", L.LogisticLoss()(scores, labels))
        dbg.output("all", L.LogisticLoss()(scores, targets))
        dbg.output("mse", L.MeanSquaredError()(scores, targets))
    found = results(net, {"s": s, "t": t, "label": label})
    np.testing.assert_allclose(found["ce"], -log_p[np.arange(3), label])
    np.testing.assert_allclose(found["soft"], -(t * log_p).sum(-1))
    np.testing.assert_allclose(found["one"], (soft - s * onehot).sum(-1))
    np.testing.assert_allclose(found["all"], (soft - s * t).sum(-1))
    np.testing.assert_allclose(found["mse"], ((s - t) ** 2).mean(-1))


def test_a_loss_per_position_is_averaged_over_the_positions() -> None:
    s, label = normal(2, 3, 4), np.array([[1, 0, 3], [2, 2, 0]], np.int32)
    with dbg.Network("n", batch=2, dtype="float64") as net:
        scores, labels = dbg.input("s", (3, 4)), dbg.input("label", (3,), dtype="int32")
        dbg.loss(L.SoftmaxCrossEntropy()(scores, labels))
    log_p = s - np.log(np.exp(s).sum(-1, keepdims=True))
    picked = np.take_along_axis(log_p, label[..., None], -1)
    np.testing.assert_allclose(results(net, {"s": s, "label": label})["loss"], -picked.mean())


def test_the_total_is_the_weighted_sum_of_means_and_penalties() -> None:
    x, t = normal(4, 3), normal(4, 2)
    with dbg.Network("n", batch=4, dtype="float64", seed=3) as net:
        a = L.Dense(5, "tanh", l2=0.5, name="a")(dbg.input("x", (3,)))
        y = L.Dense(2, l1=0.25, name="b")(a)
        dead = L.Dense(2, l1=100.0, name="dead")(a)
        assert isinstance(dead, Symbol)
        dbg.loss(L.MeanSquaredError(l1=0.125)(y, dbg.input("t", (2,))), weight=2.0, name="fit")
        dbg.loss((y * y).sum(), name="small")
    got = values(net, {"x": x, "t": t})
    wa, wb, out = got["a/weights"], got["b/weights"], got["b/add"]
    expected = {
        "fit": 2 * ((out - t) ** 2).mean(),
        "small": (out**2).sum(-1).mean(),
        "a/weights/l2": 0.5 * (wa**2).sum(),
        "a/weights/l1": 0.125 * np.abs(wa).sum(),
        "b/weights/l1": (0.25 + 0.125) * np.abs(wb).sum(),
    }
    found = {r.name: got[r.value] for r in net.graph.results}
    np.testing.assert_allclose(found.pop("loss"), sum(expected.values()))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, err_msg=name)
    assert "dead/weights" not in net.parameters


def test_one_unnamed_loss_is_the_total_itself() -> None:
    with dbg.Network("n", batch=4) as net:
        dbg.loss(dbg.input("x", (3,)).mean())
    assert [(r.kind, r.name) for r in net.graph.results] == [("loss", "loss")]


# Symbols


def test_arithmetic_means_what_numpy_means() -> None:
    x, y = normal(3, 2, 4), np.abs(normal(3, 2, 4)) + 0.5
    f = one((2, 4), (2, 4))
    w = normal(4, 2)
    np.testing.assert_allclose(
        f(lambda a, b: a @ dbg.parameter("w", (4, 2)) + b[:, :2])(x, y, w=w), x @ w + y[:, :, :2]
    )
    for make in (
        lambda a, b: a + b,
        lambda a, b: a - b * 2,
        lambda a, b: 1.5 - a / b + np.float64(0.5) * a,
        lambda a, b: -abs(a) + b**2 - b**0.5 + 3 / b,
        lambda a, b: a / 4 + 1 / b,
    ):
        np.testing.assert_allclose(f(make)(x, y), make(x, y), rtol=1e-12)
    np.testing.assert_allclose(
        f(lambda a, b: a.maximum(b).sum())(x, y), np.maximum(x, y).sum((1, 2))
    )
    np.testing.assert_allclose(f(lambda a, b: a.minimum(b).max(-1))(x, y), np.minimum(x, y).max(2))
    np.testing.assert_allclose(
        f(lambda a, b: a.mean((0, 1), keepdims=True) + b)(x, y), x.mean((1, 2), keepdims=True) + y
    )


def test_broadcasting_leaves_the_batch_axis_apart() -> None:
    # A batch of 4 and 4 features: NumPy alone would align the wrong axes.
    x, y = normal(4, 3, 4), normal(4, 4)
    f = one((3, 4), (4,), batch=4)(lambda a, b: a * b)
    np.testing.assert_allclose(f(x, y), x * y[:, None])
    g = one((3, 4), (), batch=4)(lambda a, b: b - a)
    np.testing.assert_allclose(g(x, y[:, 0]), y[:, 0, None, None] - x)

    def scaled(a: Symbol) -> Symbol:
        return a * dbg.parameter("p", (3, 1), "ones") + dbg.parameter("q", (4,), 2.0)

    np.testing.assert_allclose(one((3, 4), batch=4)(scaled)(x), x + 2)
    h = one((), batch=4)(lambda a: a + dbg.parameter("p", (4,), "ones"))
    np.testing.assert_allclose(h(y[:, 0]), y[:, :1] + np.ones(4))


def test_slicing_drops_and_keeps_axes() -> None:
    x = normal(3, 4, 5, 6)
    f = one((4, 5, 6))
    assert (f(lambda a: a[1])(x) == x[:, 1]).all()
    assert (f(lambda a: a[1:3, -1])(x) == x[:, 1:3, -1]).all()
    assert (f(lambda a: a[..., 2:])(x) == x[..., 2:]).all()
    assert (f(lambda a: a[-1, ..., 0])(x) == x[:, -1, ..., 0]).all()
    assert (f(lambda a: a[:, 1:-1][..., ::1] * 1.0)(x) == x[:, :, 1:-1]).all()
    with dbg.Network("n", batch=2):
        symbol = dbg.input("x", (4,))
        assert symbol[:] is symbol
        dbg.output("y", symbol[2])


def test_cast_takes_images_of_bytes() -> None:
    with dbg.Network("n", batch=2) as net:
        image = dbg.input("image", (3,), dtype=np.uint8)
        dbg.output("y", image.astype("float32") / 255)
    y = results(net, {"image": np.array([[0, 51, 255]] * 2, np.uint8)})["y"]
    np.testing.assert_allclose(y, [[0, 0.2, 1]] * 2)
    assert y.dtype == np.float32


# Sharing


def test_a_layer_called_twice_shares_its_parameters() -> None:
    with dbg.Network("n", batch=2) as net:
        layer = L.Dense(3, "relu")
        dbg.output("y", layer(layer(dbg.input("x", (3,)))))
    assert list(net.parameters) == ["dense1/weights", "dense1/biases"]
    assert [info.name for info in net.layers] == ["dense1", "dense1#2"]
    assert [n.name for n in net.graph.consumers["dense1/weights"]] == [
        "dense1/contract",
        "dense1#2/contract",
    ]


def test_weights_may_be_tied_to_a_parameter_a_layer_or_a_transpose() -> None:
    with dbg.Network("n", batch=2) as net:
        x = dbg.input("x", (3,))
        shared = dbg.parameter("shared", (3, 4), ("uniform", -1, 1))
        a = L.Dense(4, weights=shared, name="a", l2=0.5)
        b = L.Dense(4, weights=shared, name="b")
        h = a(x) + b(x)
        c = L.Dense(4, weights=a.weights, name="c")
        y = L.Dense(3, weights=shared.T, name="d", use_bias=False)(h + c(x))
        dbg.loss(L.MeanSquaredError(l1=0.25)(y, x))
    assert [p for p in net.parameters if "bias" not in p] == ["shared"]
    assert {r.name for r in net.graph.results if r.kind == "term"} == {
        "meansquarederror1",
        "shared/l1",
        "shared/l2",
    }


def test_two_equal_layers_are_two_layers() -> None:
    with dbg.Network("n", batch=2) as net:
        x = dbg.input("x", (3,))
        dbg.output("y", L.Dense(3)(L.Dense(3)(x)))
    assert len(net.parameters) == 4


# Pins


def pin(graph: Graph, name: str) -> Pin:
    return graph[name].pin


def test_cut_pins_the_axes_by_their_names() -> None:
    with dbg.Network("n", batch=4) as net:
        image = dbg.input("image", (8, 8, 3))
        cut = {"rows": 2, "cols": 3, "maps": 2, "channels": 3, "batch": 4}
        h = L.LocallyConnected2D(4, 3, activation="relu", cut=cut, name="l")(image)
        h = L.Dense(6, cut={"units": 2, "rows": 3}, name="d")(h)
        ids = dbg.input("ids", (), dtype="int32")
        e = L.Embedding(9, 6, cut={"vocabulary": 9, "units": 6}, name="e")(ids)
        dbg.loss(L.SoftmaxCrossEntropy(cut={"classes": 3, "batch": 2}, name="ce")(h + e, ids))
    g = net.graph
    axes = ((0, 4), (1, 2), (2, 3), (3, 2))
    assert pin(g, "l/local2d") == Pin((), axes, (("channels", 3),))
    assert pin(g, "l/add") == pin(g, "l/relu") == Pin((), axes)
    assert pin(g, "d/contract") == Pin((), ((1, 2),), (("rows", 3),))
    assert pin(g, "e/embedding") == Pin((), ((1, 6),), (("vocabulary", 9),))
    assert pin(g, "ce/pick") == Pin((), ((0, 2),), (("classes", 3),))
    assert pin(g, "ce/logsumexp") == Pin((), ((0, 2),), (("axis1", 3),))
    assert pin(g, "l/weights") == Pin()


def test_an_axis_that_a_node_has_only_once_stays_whole_there() -> None:
    with dbg.Network("n", batch=4) as net:
        image = dbg.input("image", (8, 8, 3))
        dbg.output("y", L.LocalContrastNorm(3, cut={"maps": 3, "rows": 2}, name="l")(image))
    assert pin(net.graph, "l/divide") == Pin((), ((1, 2), (3, 3)))
    assert pin(net.graph, "l/pool2d") == Pin((), ((1, 2),))


def test_partition_places_what_is_declared_inside() -> None:
    with dbg.Network("n", batch=4) as net:
        x = dbg.input("x", (3,))
        with dbg.partition(3):
            a = L.Dense(2, name="a", l2=0.1)(x)
            with dbg.partition(0, 2):
                b = L.Dense(2, name="b")(a) * 2.0
        dbg.loss(L.Dense(2, name="c")(b).sum())
    g = net.graph
    assert pin(g, "a/add") == pin(g, "a/weights/l2/square") == Pin((3,))
    assert pin(g, "b/add") == pin(g, "affine1/affine") == Pin((0, 2))
    assert pin(g, "c/add") == pin(g, "x") == Pin()


# The network


def test_names_and_layers_of_the_graph() -> None:
    with dbg.Network("n", batch=4) as net:
        x = dbg.input("x", (3,))
        h = L.Dense(5, "sigmoid", name="hidden1")(x)
        dbg.output("y", L.Dense(2)(h))
    assert [node.name for node in net.graph] == [
        "x",
        "hidden1/weights",
        "hidden1/contract",
        "hidden1/biases",
        "hidden1/add",
        "hidden1/sigmoid",
        "dense1/weights",
        "dense1/contract",
        "dense1/biases",
        "dense1/add",
    ]
    assert {n.layer for n in net.graph} == {"x", "hidden1", "dense1"}
    assert {os.path.basename(n.source.file) for n in net.graph if n.source} == {"test_dsl.py"}
    assert net.inputs == {"x": TensorType((4, 3))}
    assert net.outputs == {"y": TensorType((4, 2))}
    assert net.parameters["hidden1/weights"].init == ("glorot_uniform", 3.0, 5.0)
    assert net.parameters["hidden1/biases"].type == TensorType((5,))


def test_initialisers_get_their_fans_from_the_layer() -> None:
    with dbg.Network("n", batch=4) as net:
        x = dbg.input("x", (6, 5, 2))
        h = L.Conv2D(4, (3, 2), activation="relu", name="c")(x)
        h = L.LocallyConnected2D(4, 2, weights_init=("uniform", -1, 1), biases_init=0.5, name="l")(
            h
        )
        dbg.output("y", L.Dense(3, weights_init="lecun_normal", name="d")(h))
    inits = {name: parameter.init for name, parameter in net.parameters.items()}
    assert inits["c/weights"] == ("he_normal", 12.0)
    assert inits["l/weights"] == ("uniform", -1.0, 1.0)
    assert inits["l/biases"] == ("constant", 0.5)
    assert inits["d/weights"] == ("lecun_normal", 36.0)


def speech() -> dbg.Network:
    with dbg.Network("speech", batch=64) as net:
        h = dbg.input("frames", (11, 40))
        for i in range(4):
            h = L.Dense(2560, "sigmoid", name=f"hidden{i + 1}")(h)
        scores = L.Dense(8192, name="scores")(h)
        dbg.loss(L.SoftmaxCrossEntropy()(scores, dbg.input("state", (), dtype="int32")))
    return net


def test_summary_counts_the_speech_network_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    net = speech()
    net.summary()
    text = capsys.readouterr().out
    assert "41,777,152" in text
    assert "hidden1" in text
    assert "11 × 40" in text
    assert "1,128,960" in text  # 440 * 2560 + 2560
    assert text.strip("\n") == net.table()


def test_the_fingerprint_names_what_is_computed_and_no_lines() -> None:
    assert speech().fingerprint == speech().fingerprint

    def digits(batch: int = 4, seed: int = 0, units: int = 3, dtype: str = "float32") -> str:
        with dbg.Network("digits", batch=batch, seed=seed, dtype=dtype) as net:
            dbg.output("y", L.Dense(units)(dbg.input("x", (3,))))
        return net.fingerprint

    found = [digits(), digits(batch=5), digits(seed=1), digits(units=2), digits(dtype="float64")]
    assert len(set(found)) == 5
    assert found[0] == digits()


def test_to_networkx_keeps_every_read() -> None:
    with dbg.Network("n", batch=4) as net:
        x = dbg.input("x", (3,))
        dbg.output("y", x * x)
    graph = net.to_networkx()
    assert graph.number_of_edges("x", "multiply1/multiply") == 2
    assert graph.nodes["x"]["shape"] == (4, 3)
    assert graph.nodes["multiply1/multiply"]["op"] == "multiply"


def test_declaring_loads_neither_jax_nor_networkx_nor_rich() -> None:
    code = """
import sys
import dbgraph as dbg
from dbgraph import layers as L
with dbg.Network("n", batch=2) as net:
    dbg.output("y", L.Dense(3)(dbg.input("x", (3,))))
net.fingerprint
print([m for m in ("jax", "zmq", "networkx", "rich") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The user's own functions


def gate(x: Any, y: Any, w: Any) -> Any:
    return x * (y @ w)


def test_a_users_function_is_a_layer() -> None:
    own = dbg.op(gate, axes="b t d, b e, e d -> b t d", name="own", cut={"rows": 2, "units": 3})
    with pytest.raises(dbg.DbgraphError, match="fails on"), dbg.Network("n", batch=2):
        own(dbg.input("x", (2, 3)))
    with dbg.Network("n", batch=2, dtype="float64") as net:
        x, y = dbg.input("x", (2, 3)), dbg.input("y", (1, 4))[0]
        w = dbg.parameter("w", (4, 3))
        plain = dbg.op(lambda a: a[:, :2] * 2)(y)
        dbg.output("plain", plain)
        dbg.output(
            "y", dbg.op(wide_gate, axes="b t d, b e, e d -> b t d", cut={"rows": 2})(x, y, w)
        )
    verify(net.graph, "network")
    node = next(n for n in net.graph if n.name == "wide_gate1/custom")
    assert node.pin == Pin((), ((1, 2),))
    assert node.type == TensorType((2, 2, 3), "float64")
    assert node.attrs.int("flops") >= 2 * 2 * 4 * 3
    key = tuple(node.attrs.str(k) for k in ("module", "name", "fingerprint"))
    assert FUNCTIONS[key] is wide_gate
    assert net.outputs["plain"] == TensorType((2, 2), "float64")


def wide_gate(x: Any, y: Any, w: Any) -> Any:
    return x * (y @ w)[:, None, :]


def test_a_users_function_may_be_decorated_and_called_again() -> None:
    @dbg.op
    def double(x: Any) -> Any:
        return 2 * x

    with dbg.Network("n", batch=2) as net:
        dbg.output("y", double(double(dbg.input("x", (3,)))))
    assert [info.name for info in net.layers] == ["double1", "double1#2"]
    assert net.graph["double1/custom"].attrs["axes"] == (("b", "_"), ("b", "_"))


# Any network


@settings(deadline=None, max_examples=60)
@given(networks(partitions=3))
def test_any_network_is_legal_and_has_finite_values(network: dbg.Network) -> None:
    verify(network.graph, "network")
    found = values(network, feeds(network, rng()))
    for node in network.graph:
        value = found[node.name]
        assert (value.shape, str(value.dtype)) == (node.type.shape, node.type.dtype)
        assert np.isfinite(value).all(), node
