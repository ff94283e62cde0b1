"""Kernels of the pointwise ops."""

from __future__ import annotations

from functools import reduce
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dbgraph.ir.counter import keep_threshold, uniform_bits
from dbgraph.ir.types import Attrs


def relu(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jax.nn.relu(x)  # derivative 0 at 0, where maximum(x, 0) has 1/2


def sigmoid(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jax.nn.sigmoid(x)


def tanh(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jnp.tanh(x)


def gelu(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


def softplus(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jax.nn.softplus(x)


def silu(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jax.nn.silu(x)


def elu(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jax.nn.elu(x)


def leaky_relu(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jnp.where(x >= 0, x, attrs.float("slope") * x)


def exp(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jnp.exp(x)


def log(attrs: Attrs, x: jax.Array) -> jax.Array:
    return jnp.log(x)


@jax.custom_jvp
def _sqrt(x: jax.Array) -> jax.Array:
    return jnp.sqrt(x)


@_sqrt.defjvp
def _sqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """1 / (2 √x), and 0 at 0: a norm of zeros then has the gradient 0, not inf · 0 = NaN."""
    root = jnp.sqrt(primals[0])
    zero = root == 0
    slope = jnp.where(zero, 0, 0.5 / jnp.where(zero, 1, root))
    return root, slope * tangents[0]


def sqrt(attrs: Attrs, x: jax.Array) -> jax.Array:
    return _sqrt(x)


def square(attrs: Attrs, x: jax.Array) -> jax.Array:
    return x * x


@jax.custom_jvp
def _abs(x: jax.Array) -> jax.Array:
    return jnp.abs(x)


@_abs.defjvp
def _abs_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """The sign, 0 at 0, where JAX has 1: an L1 penalty must not push a zero weight away."""
    return jnp.abs(primals[0]), jnp.sign(primals[0]) * tangents[0]


def absolute(attrs: Attrs, x: jax.Array) -> jax.Array:
    return _abs(x)


def affine(attrs: Attrs, x: jax.Array) -> jax.Array:
    return x * attrs.float("scale") + attrs.float("shift")


def power(attrs: Attrs, x: jax.Array) -> jax.Array:
    exponent = attrs.float("exponent")
    if float(exponent).is_integer():
        return lax.integer_pow(x, int(exponent))
    return jnp.power(x, jnp.asarray(exponent, x.dtype))


def cast(attrs: Attrs, x: jax.Array) -> jax.Array:
    return x.astype(attrs.str("dtype"))


def add(attrs: Attrs, x: jax.Array, y: jax.Array) -> jax.Array:
    return x + y


def subtract(attrs: Attrs, x: jax.Array, y: jax.Array) -> jax.Array:
    return x - y


def multiply(attrs: Attrs, x: jax.Array, y: jax.Array) -> jax.Array:
    return x * y


def divide(attrs: Attrs, x: jax.Array, y: jax.Array) -> jax.Array:
    return x / y


def maximum(attrs: Attrs, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.maximum(x, y)


def minimum(attrs: Attrs, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.minimum(x, y)


def add_n(attrs: Attrs, *inputs: jax.Array) -> jax.Array:
    return reduce(jnp.add, inputs)


def max_n(attrs: Attrs, *inputs: jax.Array) -> jax.Array:
    return reduce(jnp.maximum, inputs)


def logsumexp_n(attrs: Attrs, *inputs: jax.Array) -> jax.Array:
    top = lax.stop_gradient(reduce(jnp.maximum, inputs))
    top = jnp.where(jnp.isfinite(top), top, 0)  # all -inf: log 0, not NaN
    return jnp.log(reduce(jnp.add, [jnp.exp(x - top) for x in inputs])) + top


def dropout(attrs: Attrs, x: jax.Array, clock: jax.Array, start: jax.Array) -> jax.Array:
    """The mask depends on the seed, the step, and the element's place in the uncut batch."""
    whole, rate = attrs.ints("whole"), attrs.float("rate")
    place = [
        (start[k] + lax.broadcasted_iota(jnp.int32, _along(k, x.shape), k)).astype(jnp.uint32)
        for k in range(x.ndim)
    ]
    example = place[0] + clock[1].astype(jnp.uint32)
    inner = jnp.zeros((1,) * x.ndim, jnp.uint32)
    for k in range(1, x.ndim):
        inner = inner + place[k] * np.uint32(prod(whole[k + 1 :]) % 2**32)
    bits = uniform_bits(attrs.int("seed"), clock[:1].astype(jnp.uint32), example, inner)
    return jnp.where(bits >= np.uint32(keep_threshold(rate)), x * (1 / (1 - rate)), 0)


def _along(axis: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Length 1 but for one axis."""
    return tuple(n if k == axis else 1 for k, n in enumerate(shape))
