"""Every mistake is reported where it is made: the rule, the values, the line of this file."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.errors import NetworkError

Build = Callable[[], object]


def image(*shape: int, dtype: str | None = None) -> Any:
    return dbg.input("x", shape or (8, 8, 3), dtype=dtype)


def labels() -> Any:
    return dbg.input("label", (), dtype="int32")


def twice() -> None:
    L.Dense(3, name="h")(image(4))
    L.Dense(3, name="h")(dbg.input("y", (4,)))


def shared() -> None:
    layer = L.Dense(3, name="h")
    layer(image(4))
    layer(dbg.input("y", (5,)))


def reopened() -> None:
    with dbg.Network("m", batch=2) as net:
        dbg.output("y", dbg.input("x", (3,)))
    with net:
        pass


def mixed() -> None:
    image(4) + dbg.input("y", (4,), dtype="float64")


def same_output() -> None:
    x = image(4)
    dbg.output("y", x)
    dbg.output("y", x)


def same_loss() -> None:
    x = image()
    dbg.loss(x.mean(), name="fit")
    dbg.loss(x.mean(), name="fit")


def tied() -> None:
    L.Dense(3, weights=L.Dense(4, name="a").weights)


def tied_shape() -> None:
    L.Dense(3, weights=dbg.parameter("p", (4, 3)))(image(5))


def wrong_ops(fn: Any, **more: Any) -> Build:
    return lambda: dbg.op(fn, **more)(image(4))


# (what the user writes, a pattern of the rule, a pattern of the hint)
MISTAKES: dict[str, tuple[Build, str, str]] = {
    # names
    "bad name": (lambda: dbg.input("a b", (3,)), "letter.*'a b'", "hidden1"),
    "name twice": (twice, r"'h' is used twice: first for the Dense layer at .*:\d+", "another"),
    "input twice": (lambda: (image(), image()), "'x' is used twice: first for the input", ""),
    "input called clock": (lambda: dbg.input("clock", ()), "'clock' is used twice", ""),
    "output twice": (same_output, r"output 'y' is declared twice: first at .*:\d+", ""),
    "loss twice": (same_loss, "loss 'fit' is declared twice", ""),
    # sizes and shapes
    "negative units": (lambda: L.Dense(-3), "units must be at least 1, not -3", ""),
    "units as a float": (lambda: L.Dense(2.5), "units must be an integer, not 2.5", ""),
    "units as a bool": (lambda: L.Dense(True), "units must be an integer, not True", ""),
    "zero length": (lambda: dbg.input("x", (3, 0)), "at least 1, not 0", ""),
    "shape as text": (lambda: dbg.input("x", "33"), "must be a tuple of integers", ""),
    "batch of zero": (lambda: dbg.Network("n", batch=0), "batch must be at least 1", ""),
    "patch too large": (
        lambda: L.Conv2D(2, (9, 1))(image()),
        "patch of 9 x 1 does not fit into x of 8 x 8",
        "smaller patch",
    ),
    "pool too large": (lambda: L.Pool2D("max", 9)(image()), "size of 9 x 9 does not fit", ""),
    "window in the padding": (
        lambda: L.Pool2D("max", 2, padding=((2, 0), (0, 0)))(image()),
        "must not lie in the padding alone",
        "x is float32",
    ),
    "vector into a convolution": (
        lambda: L.Conv2D(2, 3)(image(8, 8)),
        r"axes \(rows, cols, channels\) per example; x has the shape \(8, 8\)",
        "Reshape",
    ),
    "scalar into a dense layer": (lambda: L.Dense(2)(dbg.input("s")), "at least one axis", ""),
    "shapes that do not add": (lambda: image(4) + dbg.input("y", (3,)), "4 meets 3", "per example"),
    "unequal shapes into Add": (
        lambda: L.Add()(image(4), dbg.input("y", (1,))),
        r"equal shapes; x has \(4,\), y has \(1,\)",
        "broadcasts",
    ),
    "unequal shapes into Concat": (
        lambda: L.Concat()(image(4, 2), dbg.input("y", (3, 2))),
        "must agree but for axis 2",
        "",
    ),
    "no such axis": (lambda: L.Concat(axis=1)(image(4)), "no axis 1: x has 1 per", ""),
    "reshape to another size": (lambda: L.Reshape((5, 5))(image()), "192 elements.* has 25", ""),
    "two open lengths": (lambda: L.Reshape((-1, -1)), "at most one length", ""),
    "reused on another shape": (
        shared,
        r"'h' was first called at .*:\d+, where its weights took the shape \(4, 3\).*\(5, 3\)",
        "second layer",
    ),
    "tied weights of another shape": (tied_shape, r"shape \(5, 3\); p has \(4, 3\)", ""),
    "weights before the call": (tied, "no weights yet", "call it first"),
    "weights that are an array": (
        lambda: L.Dense(3, weights=np.ones((3, 3))),
        "weights must be a symbol, not ndarray",
        "",
    ),
    # dtypes
    "mixed dtypes": (mixed, "dtypes differ", "y is float64"),
    "integers into a dense layer": (
        lambda: L.Dense(3)(image(4, dtype="int32")),
        "Dense needs floats; x is int32",
        "Embedding",
    ),
    "floats into an embedding": (lambda: L.Embedding(9, 2)(image(4)), "needs integers", "int32"),
    "arithmetic on integers": (lambda: labels() + 1, "needs floats; label is int32", ""),
    "no such dtype": (lambda: dbg.input("x", (), dtype="float"), "no dtype", "mean 'float"),
    "a network of integers": (lambda: dbg.Network("n", batch=2, dtype="int32"), "be a float", ""),
    # arguments
    "no such activation": (lambda: L.Dense(3, "rleu"), "no activation 'rleu'", "mean 'relu'"),
    "no such pooling": (lambda: L.Pool2D("maxx", 2), "no pooling 'maxx'", "mean 'max'"),
    "no such initialiser": (
        lambda: L.Dense(3, weights_init="he_norml"),
        "no initialiser 'he_norml'",
        "mean 'he_normal'",
    ),
    "initialiser without numbers": (
        lambda: dbg.parameter("p", (3,), "uniform"),
        "takes 2 numbers, not 0",
        "low, high",
    ),
    "initialiser upside down": (lambda: dbg.parameter("p", (3,), ("uniform", 1, 0)), "above", ""),
    "no such padding": (lambda: L.Conv2D(3, 3, padding="sane"), "padding is 'sane'", "'same'"),
    "negative padding": (
        lambda: L.Conv2D(3, 3, padding=((0, -1), (0, 0))),
        "at least 0, not -1",
        "",
    ),
    "no such over": (lambda: L.Dense(3, over="lats"), "over is 'lats'", "mean 'last'"),
    "dropout of everything": (lambda: L.Dropout(1.0), r"in \[0, 1\), not 1.0", ""),
    "dropout below nothing": (lambda: L.Dropout(-0.1), r"in \[0, 1\), not -0.1", ""),
    "negative penalty": (lambda: L.Dense(3, l2=-1.0), "l2 must not be negative", ""),
    "penalty that is no number": (lambda: L.Dense(3, l1="a"), "l1 must be a number", ""),
    "floor of zero": (lambda: L.LocalContrastNorm(3, floor=0), "above 0", ""),
    "division by zero": (lambda: image() / 0, "divided by zero", ""),
    "symbol as an exponent": (lambda: image() ** dbg.input("y"), "exponent must be a number", ""),
    "product of two values": (lambda: image(4) @ dbg.input("y", (4,)), "and a parameter", "sum"),
    "text as an operand": (lambda: image() + "1", "must be a number, not '1'", ""),
    "infinite operand": (lambda: image() * float("inf"), "must be finite", ""),
    # slices
    "too many indices": (lambda: image(4)[0, 0], "1 axes per example, and 2", "batch axis"),
    "index out of range": (lambda: image(4)[4], "has 4 elements, none at 4", ""),
    "empty slice": (lambda: image(4)[3:3], "the slice is empty", ""),
    "a step": (lambda: image(4)[::2], "step 1, not 2", ""),
    "a new axis": (lambda: image(4)[None], "integers, slices and ...", "Reshape"),
    "iteration": (lambda: list(image(4)), "can't be iterated", ""),
    "a truth value": (lambda: bool(image(4)), "has no value", ""),
    # cuts
    "no such axis to cut": (
        lambda: L.Dense(3, cut={"unit": 2})(image(4)),
        "no axis 'unit' to cut",
        "mean 'units'.*inputs",
    ),
    "axis that can't be cut": (
        lambda: dbg.op(abs, cut={"units": 2})(image(4)),
        "'units' of this layer can't be cut",
        "these can: batch",
    ),
    "more pieces than elements": (
        lambda: L.Dense(3, cut={"units": 4})(image(4)),
        "'units' has 3 elements and can't be cut into 4",
        "at most 3",
    ),
    "no pieces": (lambda: L.Dense(3, cut={"units": 0}), "at least 1, not 0", ""),
    "cut of another form": (lambda: L.Dense(3, cut=["units"]), "must map axes to pieces", ""),
    "argmax along its axis": (lambda: L.ArgMax(cut={"classes": 2})(image(4)), "no axis", "batch"),
    "negative partition": (lambda: dbg.partition(-1), "at least 0, not -1", ""),
    "partition twice": (lambda: dbg.partition(1, 1), "a partition twice", ""),
    "no partition": (lambda: dbg.partition(), "at least one", ""),
    # losses and outputs
    "loss of a vector": (
        lambda: dbg.loss(image(4)),
        r"a scalar per example; x has the shape \(4,\)",
        r"\.mean\(\)",
    ),
    "loss of a parameter": (lambda: dbg.loss(dbg.parameter("p", ())), "no batch axis", ""),
    "loss of integers": (lambda: dbg.loss(labels()), "dtype, float32; label is int32", "astype"),
    "loss of an array": (lambda: dbg.loss(np.ones(3)), "takes a symbol.*not ndarray", ""),
    "infinite weight": (lambda: dbg.loss(image().mean(), weight=np.nan), "must be finite", ""),
    "labels of another shape": (
        lambda: L.SoftmaxCrossEntropy()(image(4), dbg.input("y", (4,), dtype="int32")),
        r"integer labels for scores of shape \(4,\) have the shape \(\); y has \(4,\)",
        "",
    ),
    "targets of another shape": (
        lambda: L.LogisticLoss()(image(4), dbg.input("y", (3,))),
        r"or float32 of shape \(4,\); y is float32 of shape \(3,\)",
        "",
    ),
    "squares of two shapes": (
        lambda: L.MeanSquaredError()(image(4), dbg.input("y", (4, 1))),
        r"x is float32 \(4,\), y is float32 \(4, 1\)",
        "Reshape",
    ),
    "a loss of one symbol": (lambda: L.MeanSquaredError()(image(4)), "takes 2 symbol", ""),
    "output of a number": (lambda: dbg.output("y", 3), "takes a symbol.*not int", ""),
    "array into a layer": (lambda: L.Dense(3)(np.ones((2, 3))), "symbols.*not ndarray", "input"),
    "nothing into a join": (lambda: L.Concat()(), "at least 1 symbol", ""),
    # own functions
    "no function": (lambda: dbg.op("gate"), "takes a function", ""),
    "failing function": (wrong_ops(lambda x: x @ x), "fails on float32\\[2,4\\]: TypeError", ""),
    "function of another library": (wrong_ops(np.tanh), "fails on .*TracerArrayConversion", ""),
    "function without the batch": (wrong_ops(lambda x: x.sum(0)), "must keep the batch", ""),
    "function of one batch": (
        wrong_ops(lambda x: x.reshape(2, 4)),
        "fails on float32\\[3,4\\]",
        "",
    ),
    "function of many values": (wrong_ops(lambda x: (x, x)), "return one array", ""),
    "axes of other rank": (wrong_ops(abs, axes="b t d -> b t d"), "must name 2 axes", ""),
    "axes of other inputs": (wrong_ops(abs, axes="b t, b t -> b t"), "names 2 inputs", ""),
    "axes of other text": (wrong_ops(abs, axes="b t"), "must name the inputs'", "b t d"),
    "letter twice": (wrong_ops(abs, axes="b b -> b b"), "distinct letters", ""),
    "batch elsewhere": (wrong_ops(abs, axes="t b -> b t"), "batch axis, 'b'", ""),
    "lengths by axes": (
        wrong_ops(lambda x: x[:, :2], axes="b t -> b t"),
        r"by its axes.*float32\[2,4\], but the function gives float32\[2,2\]",
        "",
    ),
    # networks
    "a network twice": (reopened, "'m' is complete", "inside its `with` block"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_reported_at_its_line(what: str) -> None:
    build, rule, hint = MISTAKES[what]
    with pytest.raises(NetworkError) as caught, dbg.Network("n", batch=2):
        build()
    error = caught.value
    assert re.search(rule, error.rule), error.rule
    assert re.search(hint, error.hint), error.hint
    assert error.at is not None
    assert error.at.file == "tests/test_dsl_errors.py"
    assert str(error).startswith(str(error.at))
    first = inspect.getsourcelines(build)[1]
    if build.__name__ != "<lambda>":
        lines = range(first, first + len(inspect.getsource(build).splitlines()))
        assert error.at.line in lines


def line_of(marker: str) -> int:
    """Where this file says so."""
    with open(__file__) as file:
        return next(n for n, text in enumerate(file, 1) if f"# {marker}" in text)


def caught_on_leaving(build: Build) -> NetworkError:
    with pytest.raises(NetworkError) as caught, dbg.Network("n", batch=2):
        build()
    return caught.value


def test_an_input_that_nothing_reads_is_reported_at_its_line() -> None:
    def build() -> None:
        x = dbg.input("x", (3,))
        dbg.input("unread", (3,))  # nothing reads it
        dbg.output("y", x)

    error = caught_on_leaving(build)
    assert error.rule == "input 'unread' is read by nothing"
    assert error.at is not None
    assert error.at.line == line_of("nothing reads it")


def test_an_input_that_leads_nowhere_is_reported() -> None:
    def build() -> None:
        dbg.output("y", dbg.input("x", (3,)))
        L.Dense(3)(dbg.input("z", (3,)))

    assert caught_on_leaving(build).rule == "input 'z' leads to no loss and no output"


def test_a_parameter_of_the_users_that_leads_nowhere_is_reported() -> None:
    def build() -> None:
        dbg.output("y", dbg.input("x", (3,)))
        dbg.parameter("p", (3,))

    assert caught_on_leaving(build).rule == "parameter 'p' is read by nothing"


def test_a_network_without_loss_and_output_is_reported_at_its_line() -> None:
    net = dbg.Network("n", batch=2)  # computes nothing
    with pytest.raises(NetworkError, match="no loss and no output") as caught, net:
        dbg.input("x", (3,))
    assert caught.value.at is not None
    assert caught.value.at.line == line_of("computes nothing")
    assert "dbg.loss" in caught.value.hint


def test_an_exception_inside_the_block_leaves_it_unchanged() -> None:
    class OwnError(Exception):
        pass

    error = OwnError("the user's")

    def build() -> None:
        dbg.input("unread", (3,))
        raise error

    with pytest.raises(OwnError) as caught, dbg.Network("n", batch=2) as net:
        build()
    assert caught.value is error
    assert error.__context__ is None
    with pytest.raises(NetworkError, match="'n' is not complete"):
        net.graph  # noqa: B018
    with pytest.raises(NetworkError, match="input 'x' is outside of a network"):
        dbg.input("x", (3,))


@pytest.mark.parametrize(
    "build",
    [
        lambda: dbg.input("x", (3,)),
        lambda: dbg.parameter("x", (3,)),
        lambda: dbg.partition(0),
        lambda: dbg.loss(None),  # type: ignore[arg-type]
        lambda: dbg.output("x", None),  # type: ignore[arg-type]
        lambda: L.Dense(3)(None),  # type: ignore[arg-type]
        lambda: L.Dense(3).weights,
    ],
)
def test_declaring_outside_of_a_network_is_reported(build: Build) -> None:
    with pytest.raises(NetworkError, match="outside of a network") as caught:
        build()
    assert "with dbg.Network" in caught.value.hint


def test_a_symbol_of_another_network_is_reported() -> None:
    with dbg.Network("first", batch=2):
        x = dbg.input("x", (3,))
        dbg.output("y", x)
    for build in (
        lambda: L.Dense(3)(x),
        lambda: dbg.output("y", x),
        lambda: dbg.loss(x.mean()),
        lambda: dbg.input("z", (3,)) + x,
    ):
        with pytest.raises(NetworkError), dbg.Network("second", batch=2):
            build()
    rule = "x belongs to network 'first', not to 'second'"
    with pytest.raises(NetworkError, match=rule), dbg.Network("second", batch=2):
        dbg.output("z", x)
    with pytest.raises(NetworkError, match="network 'first' is complete"):
        x + 1.0


def test_networks_may_be_declared_inside_each_other() -> None:
    with dbg.Network("outer", batch=2) as outer:
        x = dbg.input("x", (3,))
        with dbg.Network("inner", batch=3) as inner:
            dbg.output("y", dbg.input("z", (4,)))
        dbg.output("y", L.Dense(2)(x))
    assert inner.outputs["y"].shape == (3, 4)
    assert outer.outputs["y"].shape == (2, 2)


def test_an_argument_that_no_layer_takes_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="Dense takes no argument 'unit'"):
        L.Dense(3, unit=4)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Flatten takes no argument 'l2'"):
        L.Flatten(l2=0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="LogisticLoss takes no argument 'l3'"):
        L.LogisticLoss(l3=0.1)  # type: ignore[call-arg]
