"""Dense layers, embeddings, layer normalisation."""

from __future__ import annotations

from math import prod
from typing import Literal, Unpack

from dbgraph.dsl import checks
from dbgraph.dsl.builder import Scope
from dbgraph.dsl.layers import (
    Common,
    Layer,
    Trained,
    TrainedLayer,
    activate,
    check_activation,
    default_init,
)
from dbgraph.dsl.symbol import Symbol


class Dense(TrainedLayer):
    """activation(x · weights + biases).

    Args:
        units: length of the output's last axis.
        activation: one of `ACTIVATIONS`; none by default.
        use_bias: whether biases of shape (units,) are added.
        over: "all": every axis of an example is an input, (…) → (units,); "last": only the
            last one, (…, n) → (…, units).
        trained: name, cut, weights_init, biases_init, l1, l2, weights.

    Weights: (inputs…, units). Cut along "batch", "units" (and with over="last" the axes
    between), or inside along "inputs" (of an image also "rows" and "cols").
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        over: Literal["all", "last"] = "all",
        **trained: Unpack[Trained],
    ) -> None:
        super().__init__(**trained)
        self.units = checks.index(units, "units")
        self.activation = check_activation(activation)
        self.use_bias = bool(use_bias)
        if over not in ("all", "last"):
            raise checks.fail(f"over is {over!r}", checks.suggest(over, ("all", "last")))
        self.over = over

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        (x,) = inputs
        x.need_float("Dense")
        if not x.shape or not x.batched:
            raise checks.fail(
                f"Dense needs at least one axis per example; {x.name} has the shape {x.shape}",
                "L.Reshape((1,)) gives a scalar one",
            )
        axes = x.shape if self.over == "all" else x.shape[-1:]
        fans = (prod(axes), self.units)
        default = default_init(self.activation)
        weights = self.add_weights(scope, (*axes, self.units), fans, default)
        y = scope.add("contract", x, weights, contracted=len(axes))
        if self.use_bias:
            y = scope.add("add", y, self.add_biases(scope, (self.units,)))
        return activate(scope, y, self.activation)


class Embedding(TrainedLayer):
    """Rows of a table: integer ids (…) → (…, units).

    Args:
        vocabulary: number of rows; an id outside of 0 … vocabulary - 1 gives zeros.
        units: length of a row.
        trained: name, cut, weights_init, l1, l2, weights.

    Weights: (vocabulary, units). Cut along "batch", "units", or inside along "vocabulary".
    """

    def __init__(self, vocabulary: int, units: int, **trained: Unpack[Trained]) -> None:
        super().__init__(**trained)
        self.vocabulary = checks.index(vocabulary, "vocabulary")
        self.units = checks.index(units, "units")

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        (ids,) = inputs
        if not ids.dtype.startswith(("int", "uint")):
            raise checks.fail(
                f"Embedding needs integers; {ids.name} is {ids.dtype}",
                'declare the input with dtype="int32"',
            )
        shape = (self.vocabulary, self.units)
        weights = self.add_weights(scope, shape, shape, ("uniform", -0.05, 0.05))
        return scope.add("embedding", ids, weights, offset=0)


class LayerNorm(Layer):
    """gamma · (x - mean) / sqrt(variance + floor) + beta, over the last axis of each example.

    Args:
        floor: added to the variance.
        common: name, cut.

    Parameters: gamma (ones) and beta (zeros), of the last axis' length.
    Source: Ba, Kiros, Hinton, "Layer Normalization" (2016), equation 4.
    """

    def __init__(self, floor: float = 1e-5, **common: Unpack[Common]) -> None:
        super().__init__(**common)
        self.floor = checks.at_least_zero(floor, "floor")

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        (x,) = inputs
        x.need_float("LayerNorm")
        if not x.shape or not x.batched:
            raise checks.fail(f"LayerNorm needs an axis; {x.name} is a scalar per example")
        last = x.shape[-1:]
        gamma = scope.parameter("gamma", last, "ones", (1, 1))
        beta = scope.parameter("beta", last, "zeros", (1, 1))
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True) + self.floor
        return centred / scope.add("sqrt", variance) * gamma + beta
