"""Layers without weights: shapes, joins, dropout, activations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import prod
from typing import Unpack

from dbgraph.dsl import checks
from dbgraph.dsl.builder import Scope
from dbgraph.dsl.layers import Common, Layer, activate, check_activation, softmax
from dbgraph.dsl.symbol import Symbol


class Flatten(Layer):
    """All axes of an example into one: (…) → (n,)."""

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        (x,) = inputs
        return _reshape(scope, x, (prod(x.shape),))


class Reshape(Layer):
    """The elements of an example, in row-major order, in another shape.

    Args:
        shape: of the output, without the batch; one length may be -1: what is left.
        common: name, cut.
    """

    def __init__(self, shape: int | Sequence[int], **common: Unpack[Common]) -> None:
        super().__init__(**common)
        given = tuple(shape) if isinstance(shape, Sequence) else (shape,)
        self.open = [i for i, n in enumerate(given) if n == -1]
        if len(self.open) > 1:
            raise checks.fail(f"at most one length of a shape may be -1, not {given}")
        self.shape = checks.shape(tuple(1 if n == -1 else n for n in given), "the shape")

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        (x,) = inputs
        shape, size = list(self.shape), prod(x.shape)
        for axis in self.open:
            shape[axis] = max(size // prod(self.shape), 1)
        if prod(shape) != size:
            raise checks.fail(
                f"{x.name} has {size} elements per example ({x.shape}); "
                f"the shape {tuple(shape)} has {prod(shape)}"
            )
        return _reshape(scope, x, tuple(shape))


def _reshape(scope: Scope, x: Symbol, shape: tuple[int, ...]) -> Symbol:
    """Also where the shape stays, so that the layer has a node of its name."""
    if not x.batched:
        raise checks.fail(f"{x.name} has no batch axis: it is a parameter, not a value")
    return scope.add("reshape", x, shape=(x.type.shape[0], *shape), offset=(), keep=())


class Concat(Layer):
    """Its inputs one after another along an axis.

    Args:
        axis: of an example; the last by default.
        common: name, cut.
    """

    arity = None

    def __init__(self, axis: int = -1, **common: Unpack[Common]) -> None:
        super().__init__(**common)
        self.axis = checks.index(axis, "axis", least=-(2**31))

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        rank = len(inputs[0].shape)
        if not -rank <= self.axis < rank:
            raise checks.fail(
                f"there is no axis {self.axis}: {inputs[0].name} has {rank} per example",
                "L.Reshape((1,)) gives a scalar an axis",
            )
        for x in inputs:
            if not x.batched:
                raise checks.fail(f"{x.name} has no batch axis: it is a parameter, not a value")
        return scope.add("concat", *inputs, axis=1 + self.axis % rank)


class Add(Layer):
    """The sum of inputs of equal shape, such as a skip connection."""

    arity = None

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        for x in inputs:
            x.need_float("Add")
            if x.shape != inputs[0].shape:
                raise checks.fail(
                    f"Add takes equal shapes; {inputs[0].name} has {inputs[0].shape}, "
                    f"{x.name} has {x.shape}",
                    "the operator + broadcasts",
                )
        return scope.add("add" if len(inputs) == 2 else "add_n", *inputs)


class Dropout(Layer):
    """In training each element is 0 with probability `rate`, else divided by 1 - rate.

    Which elements is a function of the seed, the step and the place alone, whatever the cut.
    Plans for evaluation and inference leave the layer out.

    Args:
        rate: in [0, 1).
        seed: of the choice; by default derived from the network's seed and the layer's name.
        common: name, cut.
    """

    def __init__(self, rate: float, seed: int | None = None, **common: Unpack[Common]) -> None:
        super().__init__(**common)
        self.rate = checks.number(rate, "the rate of a dropout")
        if not 0 <= self.rate < 1:
            raise checks.fail(f"the rate of a dropout must be in [0, 1), not {rate!r}")
        self.seed = None if seed is None else checks.index(seed, "seed", least=0)

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        (x,) = inputs
        x.need_float("Dropout")
        if not x.batched:
            raise checks.fail(f"{x.name} has no batch axis: it is a parameter, not a value")
        seed = _derived(scope.builder.seed, scope.name) if self.seed is None else self.seed
        shape = x.type.shape
        return scope.add(
            "dropout",
            x,
            scope.builder.clock(),
            rate=self.rate,
            seed=seed,
            start=(0,) * len(shape),
            whole=shape,
        )


def _derived(seed: int, name: str) -> int:
    """31 bits of the network's seed and a name."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class Activation(Layer):
    """A function of each element, by name: one of `ACTIVATIONS`.

    Args:
        activation: "relu", "sigmoid", "tanh", …
        common: name, cut.
    """

    def __init__(self, activation: str, **common: Unpack[Common]) -> None:
        super().__init__(**common)
        self.activation = check_activation(activation)

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        return activate(scope, inputs[0], self.activation)


class Softmax(Layer):
    """exp(x) / sum exp(x) over the last axis, stable."""

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        (x,) = inputs
        x.need_float("Softmax")
        return softmax(scope, x)


class ArgMax(Layer):
    """The index of the largest element along the last axis: (…, n) → (…), int32."""

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        (x,) = inputs
        if not x.shape:
            raise checks.fail(f"ArgMax needs an axis; {x.name} is a scalar per example")
        return scope.add("argmax", x, axis=x.type.rank - 1)
