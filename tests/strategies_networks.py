"""Random small networks, through the public DSL, and arrays to feed them.

Shapes are tiny (batches of 2 to 6, sides up to 9, up to 12 units) and values stay moderate, so
that a cut network can be compared with the uncut one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.dsl.symbol import Symbol
from dbgraph.ir.graph import Graph, Node

Draw = Callable[..., Any]
Array = np.ndarray[Any, np.dtype[Any]]

# Those that stay moderate on any input and are differentiable but for a point.
ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "softplus", "silu", "elu", "leaky_relu")
_INITS = (None, "he_normal", "glorot_uniform", "lecun_normal", ("uniform", -0.3, 0.3))


def networks(
    *,
    loss: bool | None = None,
    dtype: str | None = None,
    cuts: bool = True,
    partitions: int = 0,
    dropout: bool = True,
) -> st.SearchStrategy[dbg.Network]:
    """Random networks.

    Args:
        loss: whether there are losses; None: mostly.
        dtype: of the network; None: float32 or float64.
        cuts: whether layers may have `cut=`, always a valid one.
        partitions: where above 0, layers may stand in `with dbg.partition(…)` of so many.
        dropout: whether there may be any.
    """
    return _networks(loss, dtype, cuts, partitions, dropout)


def feeds(network: dbg.Network, rng: np.random.Generator) -> dict[str, Array]:
    """An array for each input; integers are valid labels and ids."""
    found: dict[str, Array] = {}
    for name, type_ in network.inputs.items():
        if type_.is_float:
            found[name] = (0.7 * rng.standard_normal(type_.shape)).astype(type_.dtype)
        else:
            limit = _limit(network.graph, network.graph[name])
            found[name] = rng.integers(0, limit, type_.shape).astype(type_.dtype)
    return found


def _limit(graph: Graph, node: Node) -> int:
    """How many values an integer may take: the fewest rows or classes of those who read it."""
    limits = [4]
    for reader in graph.consumers[node.name]:
        if reader.op == "embedding":
            limits.append(graph[reader.inputs[1]].type.shape[0])
        elif reader.op == "pick":
            limits.append(graph[reader.inputs[0]].type.shape[-1])
        elif reader.type.dtype == node.type.dtype:
            limits.append(_limit(graph, reader))
    return min(limits)


@st.composite
def _networks(
    draw: Draw,
    loss: bool | None,
    dtype: str | None,
    cuts: bool,
    partitions: int,
    dropout: bool,
) -> dbg.Network:
    dtype = dtype or draw(st.sampled_from(("float32", "float64")))
    has_loss = draw(st.integers(0, 4)) > 0 if loss is None else loss
    batch, seed = draw(st.integers(2, 6)), draw(st.integers(0, 3))
    with dbg.Network("random", batch=batch, seed=seed, dtype=dtype) as net:
        grower = _Grower(draw, batch, cuts, partitions, dropout)
        for _ in range(draw(st.integers(1, 2))):
            grower.start()
        for _ in range(draw(st.integers(0, 5))):
            grower.grow()
        grower.finish(has_loss)
    return net


class _Grower:
    """Adds layers to values that nothing reads yet, or, for skips, to any."""

    def __init__(self, draw: Draw, batch: int, cuts: bool, partitions: int, dropout: bool) -> None:
        self.draw, self.batch, self.cuts, self.partitions = draw, batch, cuts, partitions
        self.dropout = dropout
        self.values: list[Symbol] = []
        self.open: list[Symbol] = []
        self.count = 0

    # Drawing

    def int(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def one(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def maybe(self) -> bool:
        return bool(self.draw(st.booleans()))

    def cut(self, **axes: int) -> dict[str, int] | None:
        """Up to two of the axes, in at most as many pieces as they have elements."""
        if not self.cuts or self.int(0, 2):
            return None
        axes["batch"] = self.batch
        names = self.draw(st.lists(st.sampled_from(sorted(axes)), max_size=2, unique=True))
        return {name: self.int(1, min(4, axes[name])) for name in names}

    def place(self) -> AbstractContextManager[None]:
        if not self.partitions or self.maybe():
            return nullcontext()
        ids = st.lists(st.integers(0, self.partitions - 1), min_size=1, max_size=3, unique=True)
        return dbg.partition(*self.draw(ids))

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}.{self.count}"

    def trained(self) -> dict[str, Any]:
        """Arguments of a layer with weights."""
        found: dict[str, Any] = {}
        if self.maybe():
            found["weights_init"] = self.one(*_INITS)
            found["biases_init"] = self.one(None, 0.1, ("normal", 0.0, 0.2))
        if self.int(0, 3) == 0:
            found[self.one("l1", "l2")] = self.one(0.001, 0.1)
        return found

    # Growing

    def add(self, value: Symbol, *read: Symbol) -> Symbol:
        self.values.append(value)
        self.open = [v for v in self.open if all(v is not r for r in read)]
        self.open.append(value)
        return value

    def pick(self) -> Symbol:
        """Mostly what nothing reads yet."""
        return self.one(*(self.open if self.int(0, 3) else self.values))  # type: ignore[no-any-return]

    def start(self) -> None:
        kind = self.one("image", "image", "image", "vector", "ids", "sequence")
        name = self.name(kind)
        if kind == "image":
            shape = (self.int(3, 9), self.int(3, 9), self.int(1, 3))
            self.add(dbg.input(name, shape))
        elif kind == "vector":
            self.add(dbg.input(name, (self.int(1, 12),)))
        elif kind == "sequence":
            self.add(dbg.input(name, (self.int(1, 4), self.int(1, 6))))
        else:
            ids = dbg.input(name, self.one((), (3,), (2, 2)), dtype="int32")
            rows, units = self.int(2, 9), self.int(1, 6)
            cut = self.cut(vocabulary=rows, units=units)
            self.add(L.Embedding(rows, units, cut=cut, **self.trained())(ids))

    def grow(self) -> None:
        x = self.pick()
        makers = [self.dense, self.activation, self.norm, self.arithmetic, self.tied, self.skip]
        if len(x.shape) == 3:
            makers += 4 * [self.filters] + 2 * [self.pool, self.contrast]
        if len(x.shape) > 1:
            makers += [self.reshape]
        if self.dropout:
            makers += [self.drop]
        makers += [self.slice, self.scale, self.join]
        with self.place():
            self.one(*makers)(x)

    def dense(self, x: Symbol) -> None:
        units, over = self.int(1, 12), self.one("all", "last")
        inputs = x.shape[-1] if over == "last" or len(x.shape) == 1 else 1
        layer = L.Dense(
            units,
            activation=self.one(None, *ACTIVATIONS, "softmax"),
            use_bias=self.maybe(),
            over=over,
            cut=self.cut(units=units, inputs=inputs),
            **self.trained(),
        )
        self.add(layer(x), x)

    def activation(self, x: Symbol) -> None:
        cut = self.cut(units=x.shape[-1])
        kind = self.one(L.Activation(self.one(*ACTIVATIONS), cut=cut), L.Softmax())
        self.add(kind(x), x)

    def norm(self, x: Symbol) -> None:
        self.add(L.LayerNorm(floor=0.1, cut=self.cut(units=x.shape[-1]))(x), x)

    def arithmetic(self, x: Symbol) -> None:
        y = self.one(
            lambda: 0.5 * x + 0.25,
            lambda: 1 - x / 2,
            lambda: -abs(x),
            lambda: (x * 0.3) ** 2,
            lambda: 1 / (x * x + 1.0),
            lambda: x - x.mean(-1, keepdims=True),
            lambda: x.maximum(-x),
        )()
        self.add(y, x)

    def tied(self, x: Symbol) -> None:
        """One parameter that is read twice: a layer called again, or weights shared."""
        size = x.shape[-1]
        first = L.Dense(size, "tanh", over="last", cut=self.cut(units=size), **self.trained())
        y = first(x)
        if self.maybe():
            y = first(y)
        else:
            weights = first.weights.T if self.maybe() else first.weights
            y = L.Dense(size, over="last", weights=weights, cut=self.cut(units=size))(y)
        self.add(y, x)

    def skip(self, x: Symbol) -> None:
        y = L.Dense(x.shape[-1], "relu", over="last")(x)
        self.add(L.Add(cut=self.cut())(x, y), x)

    def window(self, image: Sequence[int]) -> tuple[dict[str, Any], tuple[int, int]]:
        """Arguments of a sliding window that fits, and the positions that it has."""
        size = (self.int(1, min(4, image[0])), self.int(1, min(4, image[1])))
        strides = (self.int(1, 3), self.int(1, 3))
        padding = self.one(
            "valid",
            "same",
            tuple((self.int(0, (n - 1) // 2), self.int(0, (n - 1) // 2)) for n in size),
        )
        rows, cols = (
            -(-n // stride)
            if padding == "same"
            else (n + (0 if padding == "valid" else sum(padding[k])) - size[k]) // stride + 1
            for k, (n, stride) in enumerate(zip(image[:2], strides, strict=True))
        )
        return {"size": size, "strides": strides, "padding": padding}, (rows, cols)

    def filters(self, x: Symbol) -> None:
        window, (rows, cols) = self.window(x.shape)
        maps = self.int(1, 4)
        layer = self.one(L.Conv2D, L.LocallyConnected2D)(
            maps,
            window["size"],
            window["strides"],
            window["padding"],
            activation=self.one(None, *ACTIVATIONS),
            use_bias=self.maybe(),
            cut=self.cut(rows=rows, cols=cols, maps=maps, channels=x.shape[2]),
            **self.trained(),
        )
        self.add(layer(x), x)

    def pool(self, x: Symbol) -> None:
        window, (rows, cols) = self.window(x.shape)
        cut = self.cut(rows=rows, cols=cols, maps=x.shape[2])
        self.add(L.Pool2D(self.one("max", "average", "l2"), cut=cut, **window)(x), x)

    def contrast(self, x: Symbol) -> None:
        rows, cols, maps = x.shape
        layer = L.LocalContrastNorm(
            size=self.one((3, 3), (2, 3), (5, 5)),
            floor=self.one(0.3, 1.0),
            cut=self.cut(rows=rows, cols=cols, maps=maps),
        )
        self.add(layer(x), x)

    def reshape(self, x: Symbol) -> None:
        size = prod(x.shape)
        shapes = [(size,), (1, size), *((n, size // n) for n in (2, 3) if size % n == 0)]
        layer = self.one(L.Flatten(), *(L.Reshape(shape) for shape in shapes))
        self.add(layer(x), x)

    def drop(self, x: Symbol) -> None:
        self.add(L.Dropout(self.one(0.0, 0.2, 0.5), cut=self.cut(units=x.shape[-1]))(x), x)

    def slice(self, x: Symbol) -> None:
        axis = self.int(0, len(x.shape) - 1)
        start = self.int(0, x.shape[axis] - 1)
        stop = self.int(start + 1, x.shape[axis])
        drop = len(x.shape) > 1 and self.maybe()
        key: list[Any] = [slice(None)] * len(x.shape)
        key[axis] = start if drop else slice(start, stop)
        self.add(x[tuple(key)], x)

    def scale(self, x: Symbol) -> None:
        shape = self.one(x.shape, x.shape[-1:], (1,), ())
        factor = dbg.parameter(self.name("factor"), shape, ("uniform", 0.5, 1.0))
        self.add(x * factor if self.maybe() else x + factor, x)

    def join(self, x: Symbol) -> None:
        """With another value: as one list of features."""
        y = self.pick()
        parts = [L.Flatten()(x), L.Flatten()(y)]
        self.add(L.Concat(cut=self.cut())(parts), x, y)

    # Ending

    def finish(self, has_loss: bool) -> None:
        """What nothing reads becomes part of one head."""
        width = self.int(2, 6)
        heads = [L.Dense(width, cut=self.cut(units=width))(x) for x in self.open]
        scores = L.Add()(heads) if len(heads) > 1 else heads[0]
        if has_loss:
            for _ in range(self.int(1, 2)):
                with self.place():
                    self.loss(scores)
        if not has_loss or self.maybe():
            dbg.output("scores", scores)
            dbg.output("class", L.ArgMax()(scores))

    def loss(self, scores: Symbol) -> None:
        classes = scores.shape[-1]
        penalty = {self.one("l1", "l2"): 0.01} if self.int(0, 3) == 0 else {}
        kind = self.one("softmax", "logistic", "soft", "targets", "squares", "own")
        weight, name = self.one(1.0, 0.5), self.one(None, self.name("term"))
        label = kind in ("softmax", "logistic")
        target = dbg.input(
            self.name("target"), () if label else (classes,), dtype="int32" if label else None
        )
        cut = self.cut() if kind == "squares" else self.cut(classes=classes)
        if kind in ("softmax", "soft"):
            if kind == "soft":
                target = L.Softmax()(target)
            value = L.SoftmaxCrossEntropy(cut=cut, **penalty)(scores, target)
        elif kind in ("logistic", "targets"):
            value = L.LogisticLoss(cut=cut, **penalty)(scores, target)
        elif kind == "squares":
            value = L.MeanSquaredError(cut=cut, **penalty)(scores, target)
        else:
            value = abs(scores - target).sum() + (scores * scores).mean()
        dbg.loss(value, weight=weight, name=name)
