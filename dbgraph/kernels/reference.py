"""Op → NumPy function: what the kernels are held against.

The same keys and the same call as `table.KERNELS`, written to be read: the definition, in
float64, rounded once. They share no code with the kernels but for the random bits.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dbgraph.ir.types import Attrs
from dbgraph.kernels.custom import resolve
from dbgraph.kernels.reference_pointwise import (
    POINTWISE,
    Array,
    Reference,
    logsumexp,
    widened,
)
from dbgraph.kernels.reference_window import WINDOW
from dbgraph.ops.derivative import forward_types
from dbgraph.ops.shape import pieces_of


def _fill(attrs: Attrs) -> Array:
    return np.full(attrs.ints("shape"), attrs.float("value"), attrs.str("dtype"))


def _embedding(attrs: Attrs, ids: Array, table: Array, offset: Array) -> Array:
    out = np.zeros(ids.shape + table.shape[1:], table.dtype)
    for place in np.ndindex(ids.shape):
        row = int(ids[place]) - int(offset)
        if 0 <= row < len(table):
            out[place] = table[row]
    return out


def _pick(attrs: Attrs, scores: Array, labels: Array, offset: Array) -> Array:
    out = np.zeros(labels.shape, scores.dtype)
    for place in np.ndindex(labels.shape):
        column = int(labels[place]) - int(offset)
        if 0 <= column < scores.shape[-1]:
            out[place] = scores[(*place, column)]
    return out


def _axes(attrs: Attrs) -> tuple[tuple[int, ...], bool]:
    return attrs.ints("axes"), bool(attrs["keepdims"])


def _argmax(attrs: Attrs, x: Array) -> Array:
    return np.asarray(np.argmax(x, attrs.int("axis")), np.int32)


def _slice(attrs: Attrs, x: Array) -> Array:
    box = zip(attrs.ints("start"), attrs.ints("stop"), strict=True)
    return x[tuple(slice(a, b) for a, b in box)]


def _concat(attrs: Attrs, *inputs: Array) -> Array:
    return np.concatenate(inputs, attrs.int("axis"))


def _reshape(attrs: Attrs, x: Array) -> Array:
    found = np.reshape(x, attrs.ints("shape"))
    box = zip(attrs.ints("offset"), attrs.ints("keep"), strict=True)
    return found[tuple(slice(a, a + n) for a, n in box)]


def _assemble(attrs: Attrs, *inputs: Array) -> Array:
    out = np.zeros(attrs.ints("shape"), inputs[0].dtype)
    for piece in pieces_of(attrs):
        out[piece.box.slices()] = inputs[piece.input][piece.source_box.slices()]
    return out


def _custom(attrs: Attrs, *inputs: Array) -> Array:
    """The user's function has no second definition: it is its own reference."""
    return np.asarray(resolve(attrs)(*inputs))


_STEP = float(np.finfo(np.float64).eps) ** (1 / 3)


def vjp(attrs: Attrs, *arguments: Array) -> Array:
    """Central differences of the forward reference, in float64: one element at a time.

    For an element x_i the cotangent times (f(x + h e_i) - f(x - h e_i)) / 2h, with h = ε^(1/3)
    max(1, |x_i|): an error of about 1e-10 relative where f is smooth within h of x. It is
    independent of any rule of differentiation, and slow: for small arrays.
    """
    forward, wrt = REFERENCES[attrs.str("vjp_of")], attrs.int("vjp_wrt")
    given = attrs.ints("vjp_given")
    values, cotangent = arguments[: len(given)], arguments[len(given)]
    dynamic = arguments[len(given) + 1 :]
    known = dict(zip(given, values, strict=True))
    types = forward_types(attrs)
    primals = [
        _wide(known[k]) if k in known else _wide(np.zeros(t.shape, _numpy_dtype(t.dtype)))
        for k, t in enumerate(types)
    ]
    if attrs.str("vjp_of") in ("cast", "custom"):  # the result's dtype is an attribute
        attrs = attrs.having(dtype="float64")
    weights, x = _wide(cotangent), primals[wrt]
    slope = np.empty_like(x)
    for place in np.ndindex(x.shape):
        h = _STEP * max(1.0, abs(float(x[place])))
        ahead, behind = x.copy(), x.copy()
        ahead[place] += h
        behind[place] -= h
        high = forward(attrs, *primals[:wrt], ahead, *primals[wrt + 1 :], *dynamic)
        low = forward(attrs, *primals[:wrt], behind, *primals[wrt + 1 :], *dynamic)
        slope[place] = np.sum(weights * (high - low)) / (ahead[place] - behind[place])
    return slope.astype(_numpy_dtype(types[wrt].dtype))


def _wide(x: Array) -> Array:
    return x if x.dtype.kind in "iub" else x.astype(np.float64)


def _numpy_dtype(name: str) -> np.dtype[np.generic]:
    """NumPy's own dtypes, and bfloat16 where JAX has registered it."""
    return np.dtype(name)


REFERENCES: Mapping[str, Reference] = {
    "fill": _fill,
    **POINTWISE,
    "contract": widened(lambda attrs, x, w: np.tensordot(x, w, attrs.int("contracted"))),
    "embedding": _embedding,
    "pick": _pick,
    **WINDOW,
    "sum": widened(lambda attrs, x: np.sum(x, _axes(attrs)[0], keepdims=_axes(attrs)[1])),
    "max": widened(lambda attrs, x: np.max(x, _axes(attrs)[0], keepdims=_axes(attrs)[1])),
    "logsumexp": widened(lambda attrs, x: logsumexp(x, *_axes(attrs))),
    "argmax": _argmax,
    "slice": _slice,
    "concat": _concat,
    "transpose": lambda attrs, x: np.transpose(x, attrs.ints("perm")),
    "reshape": _reshape,
    "assemble": _assemble,
    "custom": _custom,
    "vjp": vjp,
}
