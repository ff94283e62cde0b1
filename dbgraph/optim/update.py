"""UPDATE as JAX functions: alone, or in one computation with the segment before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax

from dbgraph.kernels.segment import Structure, Values, evaluate
from dbgraph.optim.rules import Rule

Arrays = dict[str, jax.Array]


@lru_cache(maxsize=64)
def _transformation(rule: Rule) -> Any:
    return rule.transformation()


def initial_slots(rule: Rule, parameters: Arrays) -> Any:
    """The optimiser's state before the first update."""
    return _transformation(rule).init(parameters)


def _apply(rule: Rule, parameters: Arrays, state: Any, gradients: Arrays) -> tuple[Arrays, Any]:
    updates, state = _transformation(rule).update(gradients, state, parameters)
    changed = {k: (p + updates[k]).astype(p.dtype) for k, p in parameters.items()}
    return changed, state


@lru_cache(maxsize=64)
def update(rule: Rule) -> Callable[..., tuple[Arrays, Any]]:
    """fn(own, lent, state, gradients) → (parameters, state).

    `own` and the state give up their memory; `lent` parameters are still read by somebody.
    """

    def apply(own: Arrays, lent: Arrays, state: Any, gradients: Arrays) -> tuple[Arrays, Any]:
        return _apply(rule, {**own, **lent}, state, gradients)

    return jax.jit(apply, donate_argnums=(0, 2))


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a segment and the update after it hang together.

    Attributes:
        parameters: for each of the segment's inputs the parameter that it is, or "".
        gradients: (parameter, index of the segment's output that is its gradient).
        kept: indices of the outputs that are needed after it.
    """

    parameters: tuple[str, ...]
    gradients: tuple[tuple[str, int], ...]
    kept: tuple[int, ...]


@lru_cache(maxsize=1024)
def run_and_update(
    structure: Structure, rule: Rule, wiring: Wiring
) -> Callable[..., tuple[tuple[jax.Array, ...], Arrays, Any]]:
    """fn(values, vector, own, lent, state, gradients) → (kept outputs, parameters, state).

    Args of fn: `values` are the segment's inputs that are no parameters, in order; `gradients`
    those that earlier segments made.
    """

    def step(
        values: Values, vector: jax.Array, own: Arrays, lent: Arrays, state: Any, gradients: Arrays
    ) -> tuple[tuple[jax.Array, ...], Arrays, Any]:
        parameters = {**own, **lent}
        rest = iter(values)
        inputs = [parameters[name] if name else next(rest) for name in wiring.parameters]
        outputs = evaluate(structure, inputs, vector)
        made = {name: outputs[i] for name, i in wiring.gradients}
        changed, state = _apply(rule, parameters, state, {**gradients, **made})
        return tuple(outputs[i] for i in wiring.kept), changed, state

    return jax.jit(step, donate_argnums=(2, 4))
