"""The kinds of work that there are: what a cluster file may give rates for."""

from __future__ import annotations

from dbgraph.ops import OPS
from dbgraph.ops.derivative import GRADIENT, GRADIENT_KINDS
from dbgraph.ops.schema import UPDATE

KINDS = tuple(
    dict.fromkeys([*(name for rule in OPS.values() for name in rule.kinds.names), UPDATE])
)
"""Those of the ops, without their derivatives, and that of updates."""

_DERIVED = frozenset(
    name
    for rule in OPS.values()
    if rule.differentiable
    for name in rule.kinds.names
    if name not in GRADIENT_KINDS
)
"""Those whose derivatives are kinds of their own, one for each input."""

EXAMPLES = (*KINDS, *(f"{kind}{GRADIENT}{k}" for kind in sorted(_DERIVED) for k in (0, 1)))
"""To suggest: a custom op may have more inputs."""


def is_kind(word: str) -> bool:
    """Whether any work is of this kind.

    >>> [is_kind(word) for word in ("pool max", "local gradient 1", "matmul gradient 1")]
    [True, True, False]
    """
    kind, gradient, number = word.partition(GRADIENT)
    return kind in _DERIVED and number.isdecimal() if gradient else kind in KINDS
