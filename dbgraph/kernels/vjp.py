"""The one kernel of the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from dbgraph.ir.types import Attrs
from dbgraph.ops.derivative import forward_types

Kernel = Callable[..., jax.Array]


def vjp(table: Mapping[str, Kernel]) -> Kernel:
    """`jax.vjp` of the forward op's kernel, for a table of kernels."""

    def kernel(attrs: Attrs, *arguments: jax.Array) -> jax.Array:
        """Arguments: the forward inputs that are given, the cotangent, the dynamic attributes."""
        forward, wrt = table[attrs.str("vjp_of")], attrs.int("vjp_wrt")
        given = attrs.ints("vjp_given")
        values, cotangent = arguments[: len(given)], arguments[len(given)]
        dynamic = arguments[len(given) + 1 :]
        known = dict(zip(given, values, strict=True))
        # The derivative does not depend on what is not given: zeros stand for its shape, and XLA
        # drops whatever would be computed of them.
        primals = [
            known[k] if k in known else jnp.zeros(t.shape, t.dtype)
            for k, t in enumerate(forward_types(attrs))
        ]

        def of_one(x: jax.Array) -> jax.Array:
            return forward(attrs, *primals[:wrt], x, *primals[wrt + 1 :], *dynamic)

        _, pull = jax.vjp(of_one, primals[wrt])
        result: jax.Array = pull(cotangent)[0]
        return result

    return kernel
