"""NumPy references of the pointwise ops: the formulas as written, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dbgraph.ir.counter import keep_threshold, uniform_bits
from dbgraph.ir.types import Attrs

Array = np.ndarray[Any, np.dtype[Any]]
Reference = Callable[..., Array]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(x, 0))


def _sigmoid(x: Array) -> Array:
    return np.asarray(np.exp(-_softplus(-x)))


def _gelu(x: Array) -> Array:
    return np.asarray(x * 0.5 * (1 + _erf(x / math.sqrt(2))))


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _log(x: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x)


def logsumexp(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """log Σ exp, by the largest element; -inf where all are."""
    top = np.max(x, axes, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    found = _log(np.sum(np.exp(x - top), axes, keepdims=True)) + top
    return found if keepdims else np.squeeze(found, axes)


def widened(formula: Callable[..., Any]) -> Reference:
    """Calculates in float64 and rounds once, to the first input's dtype."""

    def reference(attrs: Attrs, *inputs: Array) -> Array:
        dtype = inputs[0].dtype
        if dtype.kind not in "iub":
            inputs = tuple(x.astype(np.float64) for x in inputs)
        return np.asarray(formula(attrs, *inputs)).astype(dtype)

    return reference


def _of(formula: Callable[..., Any]) -> Reference:
    """A formula without attributes."""
    return widened(lambda attrs, *inputs: formula(*inputs))


def cast(attrs: Attrs, x: Array) -> Array:
    return x.astype(np.dtype(attrs.str("dtype")))


def dropout(attrs: Attrs, x: Array, clock: Array, start: Array) -> Array:
    """As the kernel, by way of explicit indices; its rounding too, since the mask is exact."""
    whole, rate = attrs.ints("whole"), attrs.float("rate")
    places = np.indices(x.shape).reshape(x.ndim, -1) + np.reshape(start, (-1, 1))
    example = (places[0] + int(clock[1])).astype(np.uint32)
    inner = np.zeros_like(example)
    if x.ndim > 1:
        inner = np.ravel_multi_index(tuple(places[1:]), whole[1:]).astype(np.uint32)
    bits = uniform_bits(attrs.int("seed"), int(clock[0]), example, inner).reshape(x.shape)
    scale = np.asarray(1 / (1 - rate), x.dtype)
    return np.where(bits >= keep_threshold(rate), x * scale, np.zeros((), x.dtype))


POINTWISE: Mapping[str, Reference] = {
    "relu": _of(lambda x: np.maximum(x, 0)),
    "sigmoid": _of(_sigmoid),
    "tanh": _of(np.tanh),
    "gelu": _of(_gelu),
    "softplus": _of(_softplus),
    "silu": _of(lambda x: x * _sigmoid(x)),
    "elu": _of(_elu),
    "leaky_relu": widened(lambda attrs, x: np.where(x >= 0, x, attrs.float("slope") * x)),
    "exp": _of(np.exp),
    "log": _of(_log),
    "sqrt": _of(np.sqrt),
    "square": _of(np.square),
    "abs": _of(np.abs),
    "affine": widened(lambda attrs, x: x * attrs.float("scale") + attrs.float("shift")),
    "power": widened(lambda attrs, x: np.power(x, attrs.float("exponent"))),
    "cast": cast,
    "add": _of(np.add),
    "subtract": _of(np.subtract),
    "multiply": _of(np.multiply),
    "divide": _of(np.divide),
    "maximum": _of(np.maximum),
    "minimum": _of(np.minimum),
    "add_n": _of(lambda *inputs: np.sum(np.stack(inputs), 0)),
    "max_n": _of(lambda *inputs: np.max(np.stack(inputs), 0)),
    "logsumexp_n": _of(lambda *inputs: logsumexp(np.stack(inputs), (0,), False)),
    "dropout": dropout,
}
