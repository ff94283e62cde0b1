"""The update of blocks that are trained apart: each has an optimiser state of its own.

All rules are elementwise (`rules`), so a parameter that is updated block by block, each with its
own count of updates, changes as the whole would. The arithmetic is that of `update.update`,
expression for expression, since one that is written otherwise may round otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp

from dbgraph.optim.rules import Rule

KEY = "0"
"""The name that a block has in its own optimiser state."""


@lru_cache(maxsize=64)
def _transformation(rule: Rule) -> Any:
    return rule.transformation()


def initial_state(rule: Rule, value: jax.Array) -> Any:
    """A block's optimiser state before its first update."""
    return _transformation(rule).init({KEY: value})


def _one(
    rule: Rule, value: jax.Array, state: Any, gradient: jax.Array, factor: Any
) -> tuple[jax.Array, Any]:
    updates, state = _transformation(rule).update({KEY: gradient}, state, {KEY: value})
    change = updates[KEY] if factor is None else updates[KEY] * factor
    return (value + change).astype(value.dtype), state


@lru_cache(maxsize=64)
def update_blocks(rule: Rule) -> Callable[..., tuple[list[jax.Array], list[Any]]]:
    """fn(values, states, gradients, factor) → (values, states), of any number of blocks.

    `factor` scales the change that the rule makes; None leaves it as it is. Values and states
    give up their memory.
    """

    def apply(
        values: Sequence[jax.Array], states: Sequence[Any], gradients: Sequence[Any], factor: Any
    ) -> tuple[list[jax.Array], list[Any]]:
        blocks = zip(values, states, gradients, strict=True)
        done = [_one(rule, v, s, g, factor) for v, s, g in blocks]
        return [value for value, _ in done], [state for _, state in done]

    return jax.jit(apply, donate_argnums=(0, 1))


def update_rows(rule: Rule) -> Callable[..., tuple[jax.Array, Any]]:
    """fn(value, state, indices, gradient, factor) → (value, state), of some rows of one block.

    Other rows stay as they are, their slots too: momentum does not decay where no gradient comes
    (the "lazy" or "sparse" form of the rules). Rows with an index outside the block are left out.
    Value and state give up their memory.

    The rows are updated by `update_blocks` itself, not in one computation with taking them and
    putting them back: XLA would round otherwise in that.
    """

    def apply(
        value: jax.Array, state: Any, indices: jax.Array, gradient: jax.Array, factor: Any
    ) -> tuple[jax.Array, Any]:
        rows, slots = _take((value, state), indices)
        (rows,), (slots,) = update_blocks(rule)([rows], [slots], [gradient], factor)
        changed: tuple[jax.Array, Any] = _put((value, state), indices, (rows, slots))
        return changed

    return apply


@jax.jit
def _take(whole: Any, indices: jax.Array) -> Any:
    """Rows of all leaves; copies of those that have none, such as a count."""

    def taken(leaf: jax.Array) -> jax.Array:
        return leaf.at[indices].get(mode="fill", fill_value=0) if leaf.ndim else jnp.copy(leaf)

    return jax.tree.map(taken, whole)


@partial(jax.jit, donate_argnums=0)
def _put(whole: Any, indices: jax.Array, rows: Any) -> Any:
    """The inverse of `_take`; `whole` gives up its memory."""

    def put(leaf: jax.Array, new: jax.Array) -> jax.Array:
        return leaf.at[indices].set(new, mode="drop") if leaf.ndim else new

    return jax.tree.map(put, whole, rows)
