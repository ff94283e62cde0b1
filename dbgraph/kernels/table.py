"""Op → JAX function.

A kernel is called with the node's attributes, its inputs, and then its op's dynamic attributes as
int32 arrays (a tuple of n ints as int32[n], an int as a scalar), in the order of `OpDef.dynamic`.
It reads no dynamic attribute from `attrs`, keeps the dtype of its inputs, and may be traced.
Leaves and communication have no kernel (`ops.LEAVES`, `ops.COMMUNICATION`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, cast

import jax

from dbgraph.ir.types import Attrs
from dbgraph.kernels import linear, pointwise
from dbgraph.kernels.custom import custom
from dbgraph.kernels.local2d import local2d
from dbgraph.kernels.vjp import vjp
from dbgraph.kernels.window import conv2d, pool2d

Kernel = Callable[..., jax.Array]


def _pairs(attrs: Attrs, key: str) -> tuple[tuple[int, int], tuple[int, int]]:
    rows, columns = attrs.pairs(key)
    return rows, columns


def _two(attrs: Attrs, key: str) -> tuple[int, int]:
    rows, columns = attrs.ints(key)
    return rows, columns


def _conv2d(attrs: Attrs, x: jax.Array, w: jax.Array) -> jax.Array:
    return conv2d(x, w, strides=_two(attrs, "strides"), padding=_pairs(attrs, "padding"))


def _local2d(attrs: Attrs, x: jax.Array, w: jax.Array) -> jax.Array:
    return local2d(x, w, strides=_two(attrs, "strides"), padding=_pairs(attrs, "padding"))


def _pool2d(attrs: Attrs, x: jax.Array) -> jax.Array:
    return pool2d(
        x,
        kind=cast(Literal["max", "average", "l2"], attrs.str("kind")),
        size=_two(attrs, "size"),
        strides=_two(attrs, "strides"),
        padding=_pairs(attrs, "padding"),
    )


_FORWARD: Mapping[str, Kernel] = {
    "fill": linear.fill,
    "relu": pointwise.relu,
    "sigmoid": pointwise.sigmoid,
    "tanh": pointwise.tanh,
    "gelu": pointwise.gelu,
    "softplus": pointwise.softplus,
    "silu": pointwise.silu,
    "elu": pointwise.elu,
    "leaky_relu": pointwise.leaky_relu,
    "exp": pointwise.exp,
    "log": pointwise.log,
    "sqrt": pointwise.sqrt,
    "square": pointwise.square,
    "abs": pointwise.absolute,
    "affine": pointwise.affine,
    "power": pointwise.power,
    "cast": pointwise.cast,
    "add": pointwise.add,
    "subtract": pointwise.subtract,
    "multiply": pointwise.multiply,
    "divide": pointwise.divide,
    "maximum": pointwise.maximum,
    "minimum": pointwise.minimum,
    "add_n": pointwise.add_n,
    "max_n": pointwise.max_n,
    "logsumexp_n": pointwise.logsumexp_n,
    "dropout": pointwise.dropout,
    "contract": linear.contract,
    "embedding": linear.embedding,
    "pick": linear.pick,
    "conv2d": _conv2d,
    "local2d": _local2d,
    "pool2d": _pool2d,
    "sum": linear.sum_,
    "max": linear.max_,
    "logsumexp": linear.logsumexp,
    "argmax": linear.argmax,
    "slice": linear.slice_,
    "concat": linear.concat,
    "transpose": linear.transpose,
    "reshape": linear.reshape,
    "assemble": linear.assemble,
    "custom": custom,
}

KERNELS: Mapping[str, Kernel] = {**_FORWARD, "vjp": vjp(_FORWARD)}
