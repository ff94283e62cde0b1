"""Layers over images: (rows, cols, channels) per example."""

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

Pair = int | tuple[int, int]
PaddingArgument = Literal["valid", "same"] | tuple[tuple[int, int], tuple[int, int]]
_AXES = "(rows, cols, channels)"


class _Window:
    """A sliding window: its size, its strides, and the zeros around the image."""

    def __init__(self, what: str, size: object, strides: object, padding: object) -> None:
        self.what = what
        self.size = checks.pair(size, what)
        self.strides = checks.pair(strides, "strides")
        self.padding = checks.padding(padding, "padding")

    def pads(self, image: tuple[int, ...]) -> checks.Padding:
        """The explicit padding for an image.

        "same": the output has ceil(length / stride) positions, and where the zeros are odd in
        number the one more is at the end.
        """
        if self.padding == "valid":
            return (0, 0), (0, 0)
        if isinstance(self.padding, tuple):
            return self.padding
        found = []
        for length, size, stride in zip(image, self.size, self.strides, strict=False):
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            found.append((total // 2, total - total // 2))
        return found[0], found[1]

    def positions(self, image: tuple[int, ...], name: str) -> tuple[int, int]:
        """Rows and cols of the output. Raises NetworkError where no window fits."""
        counts = []
        for k, (low, high) in enumerate(self.pads(image)):
            room = image[k] + low + high - self.size[k]
            if room < 0:
                raise checks.fail(
                    f"a {self.what} of {self.size[0]} x {self.size[1]} does not fit into "
                    f"{name} of {image[0]} x {image[1]}" + (" with its padding" * (low + high > 0)),
                    f'a smaller {self.what}, or padding="same"',
                )
            counts.append(room // self.strides[k] + 1)
        return counts[0], counts[1]


class _Filters(TrainedLayer):
    """What Conv2D and LocallyConnected2D share: all but whose the filters are."""

    def __init__(
        self,
        maps: int,
        patch: Pair,
        strides: Pair = (1, 1),
        padding: PaddingArgument = "valid",
        activation: str | None = None,
        use_bias: bool = True,
        **trained: Unpack[Trained],
    ) -> None:
        super().__init__(**trained)
        self.maps = checks.index(maps, "maps")
        self.window = _Window("patch", patch, strides, padding)
        self.activation = check_activation(activation)
        self.use_bias = bool(use_bias)

    def _add(self, scope: Scope, x: Symbol, op: str, local: bool) -> Symbol:
        x.need_float(self.kind)
        image = self.need_rank(x, 3, _AXES)
        places = self.window.positions(image, x.name) if local else ()
        self.window.positions(image, x.name)
        patch = (*self.window.size, image[2])
        fans = (prod(patch), prod(self.window.size) * self.maps)
        weights = self.add_weights(
            scope, (*places, *patch, self.maps), fans, default_init(self.activation)
        )
        y = scope.add(op, x, weights, strides=self.window.strides, padding=self.window.pads(image))
        if self.use_bias:
            y = scope.add("add", y, self.add_biases(scope, (*places, self.maps)))
        return activate(scope, y, self.activation)


class LocallyConnected2D(_Filters):
    """Filters with weights of their own at each position (Dean et al. 2012, section 5).

    Args:
        maps: number of filters at each position: the output's channels.
        patch: rows and cols that a filter sees.
        strides: from one position to the next.
        padding: zeros around the image: "valid" none; "same" so that there are
            ceil(length / stride) positions; or ((above, below), (left, right)).
        activation: one of `ACTIVATIONS`; none by default.
        use_bias: whether biases, of each position and map, are added.
        trained: name, cut, weights_init, biases_init, l1, l2, weights.

    (rows, cols, channels) → (rows', cols', maps), rows' = (rows + padding - patch) // stride + 1.
    Weights: (rows', cols', patch rows, patch cols, channels, maps); biases: (rows', cols', maps).
    Cut along "batch", "rows", "cols", "maps", or inside along "channels".
    """

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        return self._add(scope, inputs[0], "local2d", local=True)


class Conv2D(_Filters):
    """The same filters at every position; not flipped (cross-correlation).

    Args:
        maps: number of filters: the output's channels.
        patch: rows and cols that a filter sees.
        strides: from one position to the next.
        padding: as LocallyConnected2D has it.
        activation: one of `ACTIVATIONS`; none by default.
        use_bias: whether biases, one per map, are added.
        trained: name, cut, weights_init, biases_init, l1, l2, weights.

    (rows, cols, channels) → (rows', cols', maps). Weights: (patch rows, patch cols, channels,
    maps); biases: (maps,). Cut along "batch", "rows", "cols", "maps", or inside along "channels".
    """

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        return self._add(scope, inputs[0], "conv2d", local=False)


POOLS = ("max", "average", "l2")


class Pool2D(Layer):
    """Per channel the maximum, the mean, or the root of the sum of squares of each window.

    Args:
        kind: "max", "average" (of the positions inside the image) or "l2".
        size: rows and cols of a window.
        strides: from one window to the next; `size` by default.
        padding: as LocallyConnected2D has it.
        common: name, cut.

    (rows, cols, channels) → (rows', cols', channels). Cut along "batch", "rows", "cols", "maps".
    """

    def __init__(
        self,
        kind: Literal["max", "average", "l2"],
        size: Pair,
        strides: Pair | None = None,
        padding: PaddingArgument = "valid",
        **common: Unpack[Common],
    ) -> None:
        super().__init__(**common)
        if kind not in POOLS:
            raise checks.fail(f"there is no pooling {kind!r}", checks.suggest(kind, POOLS))
        self.pool = kind
        self.window = _Window("size", size, size if strides is None else strides, padding)

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        (x,) = inputs
        x.need_float("Pool2D")
        image = self.need_rank(x, 3, _AXES)
        self.window.positions(image, x.name)
        return scope.add(
            "pool2d",
            x,
            kind=self.pool,
            size=self.window.size,
            strides=self.window.strides,
            padding=self.window.pads(image),
        )


class LocalContrastNorm(Layer):
    """v = x - local mean; v / max(floor, local standard deviation).

    Means are over a window around the position (clipped at the image's border) and over all
    channels: the deviation is sqrt(mean of v²).

    Args:
        size: rows and cols of the window.
        floor: the least divisor.
        common: name, cut.

    The shape stays. Cut along "batch", "rows", "cols", "maps".
    Source: Jarrett et al., "What is the best multi-stage architecture for object recognition?"
    (2009), section 2.1, with uniform weights and a constant floor as in Le et al. (2012).
    """

    def __init__(self, size: Pair, floor: float = 0.01, **common: Unpack[Common]) -> None:
        super().__init__(**common)
        self.window = _Window("size", size, (1, 1), "same")
        self.floor = checks.number(floor, "floor")
        if self.floor <= 0:
            raise checks.fail(f"floor must be above 0, not {floor!r}")

    def build(self, scope: Scope, *inputs: Symbol) -> Symbol:
        (x,) = inputs
        x.need_float("LocalContrastNorm")
        self.need_rank(x, 3, _AXES)
        centred = x - self._local_mean(scope, x)
        variance = self._local_mean(scope, centred**2)
        floor = scope.fill(self.floor**2, (1,), x.dtype)
        return centred / scope.add("sqrt", scope.add("maximum", variance, floor))

    def _local_mean(self, scope: Scope, x: Symbol) -> Symbol:
        """(rows, cols, 1): over the channels first, so that one channel is pooled."""
        return scope.add(
            "pool2d",
            x.mean(2, keepdims=True),
            kind="average",
            size=self.window.size,
            strides=(1, 1),
            padding=self.window.pads(x.shape),
        )
