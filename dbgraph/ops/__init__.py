"""The table of ops: all that a pass knows of any of them."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache

from dbgraph.errors import NetworkError, PlanError
from dbgraph.ir.graph import Node
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import (
    comm,
    contraction,
    custom,
    leaf,
    pointwise,
    reduction,
    reshape,
    shape,
    window,
)
from dbgraph.ops.derivative import vjp
from dbgraph.ops.schema import Flops, OpDef, OpError

_FORWARD: Mapping[str, OpDef] = {
    definition.name: definition
    for definition in (
        leaf.INPUT,
        leaf.PARAMETER,
        leaf.CLOCK,
        leaf.FILL,
        *pointwise.UNARY,
        pointwise.CAST,
        *pointwise.BINARY,
        *pointwise.JOINING,
        pointwise.DROPOUT,
        contraction.CONTRACT,
        contraction.EMBEDDING,
        contraction.PICK,
        window.CONV2D,
        window.LOCAL2D,
        window.POOL2D,
        reduction.SUM,
        reduction.MAX,
        reduction.LOGSUMEXP,
        reduction.ARGMAX,
        shape.SLICE,
        shape.CONCAT,
        shape.TRANSPOSE,
        reshape.RESHAPE,
        shape.ASSEMBLE,
        custom.CUSTOM,
        comm.SEND,
        comm.RECV,
    )
}

OPS: Mapping[str, OpDef] = {**_FORWARD, "vjp": vjp(_FORWARD)}
"""Every op by its name."""

LEAVES = frozenset({"input", "parameter", "clock"})
"""Values that are fed from outside: no kernel computes them."""

COMMUNICATION = frozenset({"send", "recv"})
"""A backend moves these values: no kernel computes them."""


def op(name: str) -> OpDef:
    """The op of that name. Raises PlanError."""
    found = OPS.get(name)
    if found is None:
        near = get_close_matches(name, OPS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known ops: {', '.join(sorted(OPS))}"
        raise PlanError(f"no op is called {name!r}", hint=hint)
    return found


def infer_node(node: Node, input_types: Types) -> TensorType:
    """The type that a node's value has, by its op's rule.

    Raises NetworkError, at the line that declared the node, where the inputs or the attributes
    break the rule; PlanError where no such op exists.
    """
    definition = op(node.op)
    try:
        return definition.infer(node.attrs, input_types)
    except OpError as error:
        raise NetworkError(str(error), at=node.source) from error
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        # An attribute of the wrong kind in an edited file, of which no rule thought.
        rule = f"{node.op}: the attributes {node.attrs!r} are malformed"
        raise NetworkError(rule, at=node.source) from error


def flops_of(node: Node, input_types: Types) -> int:
    """Floating point operations of a node; a multiply-add counts 2."""
    rule = op(node.op).flops
    return 0 if rule is leaf.no_flops else _flops(rule, node.attrs, input_types, node.type)


@lru_cache(maxsize=2**14)  # the tiles of a layer have few shapes
def _flops(rule: Flops, attrs: Attrs, types: Types, out: TensorType) -> int:
    return rule(attrs, types, out)


def dynamic_names(node: Node) -> tuple[str, ...]:
    """The attributes that the node's kernel takes as run-time arrays, in this order.

    A vjp has those of the op that it differentiates.
    """
    name = node.attrs.str("vjp_of") if node.op == "vjp" else node.op
    return op(name).dynamic


__all__ = [
    "COMMUNICATION",
    "LEAVES",
    "OPS",
    "OpDef",
    "OpError",
    "dynamic_names",
    "flops_of",
    "infer_node",
    "op",
]
