"""Adagrad as DistBelief has it.

Dean et al., "Large Scale Distributed Deep Networks", NIPS 2012, section 4.1:
    eta[i, K] = gamma / sqrt(sum over j = 1..K of dw[i, j] squared)
The sum includes the current gradient and there is no epsilon. Where all gradients so far are
zero, the rule says 0 / 0; we let it move nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax


class AdagradState(NamedTuple):
    """`sum_of_squares`: for each parameter, of its shape; at least float32."""

    sum_of_squares: optax.Updates


def scale_by_adagrad() -> optax.GradientTransformation:
    """gradient / sqrt(sum of squared gradients); elementwise."""

    def init(params: optax.Params) -> AdagradState:
        return AdagradState(jax.tree.map(_zeros, params))

    def update(
        updates: optax.Updates, state: AdagradState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdagradState]:
        sums = jax.tree.map(_added, state.sum_of_squares, updates)
        return jax.tree.map(_scaled, updates, sums), AdagradState(sums)

    return optax.GradientTransformation(init, update)


def _zeros(parameter: jax.Array) -> jax.Array:
    # Sums of 16-bit numbers stop growing early.
    return jnp.zeros(parameter.shape, jnp.promote_types(parameter.dtype, jnp.float32))


def _added(total: jax.Array, gradient: jax.Array) -> jax.Array:
    return total + jnp.square(gradient.astype(total.dtype))


def _scaled(gradient: jax.Array, total: jax.Array) -> jax.Array:
    # `total == 0` and not `total > 0`: a gradient that is not a number must show.
    # The choice stands between root and quotient: XLA makes `x / sqrt(y)` a product with an
    # approximate inverse root, which differs with the place of a number in a vector; so updates
    # in parts, or by rows, would not be bit for bit those of the whole.
    root = jnp.where(total == 0, 1, jnp.sqrt(total))
    return jnp.where(total == 0, 0, gradient.astype(total.dtype) / root).astype(gradient.dtype)


def adagrad(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """The paper's rule; `learning_rate` is its gamma."""
    return optax.chain(scale_by_adagrad(), optax.scale_by_learning_rate(learning_rate))
