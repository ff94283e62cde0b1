"""The update of blocks that are trained apart: each has an optimiser state of its own.

All rules are elementwise (`rules`), so a parameter that is updated block by block, each with its
own count of updates, changes as the whole would. The arithmetic is that of `update.update`,
expression for expression, since one that is written otherwise may round otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import jax

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


@lru_cache(maxsize=64)
def update_rows(rule: Rule) -> Callable[..., tuple[jax.Array, Any]]:
    """fn(value, state, indices, gradient, factor) → (value, state), of some rows of one block.

    Other rows stay as they are, their slots too: momentum does not decay where no gradient comes
    (the "lazy" or "sparse" form of the rules). Rows with an index outside the block are left out.
    Value and state give up their memory.
    """

    def taken(leaf: jax.Array, indices: jax.Array) -> jax.Array:
        return leaf.at[indices].get(mode="fill", fill_value=0) if leaf.ndim else leaf

    def put(leaf: jax.Array, indices: jax.Array, rows: jax.Array) -> jax.Array:
        return leaf.at[indices].set(rows, mode="drop") if leaf.ndim else rows

    def apply(
        value: jax.Array, state: Any, indices: jax.Array, gradient: jax.Array, factor: Any
    ) -> tuple[jax.Array, Any]:
        rows = jax.tree.map(lambda leaf: taken(leaf, indices), state)
        changed, rows = _one(rule, taken(value, indices), rows, gradient, factor)
        state = jax.tree.map(lambda leaf, new: put(leaf, indices, new), state, rows)
        return put(value, indices, changed), state

    return jax.jit(apply, donate_argnums=(0, 1))
