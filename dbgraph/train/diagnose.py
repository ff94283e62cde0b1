"""The uncut network, node by node: where a value that is not finite first appears."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.types import DTYPE_BYTES
from dbgraph.kernels.table import KERNELS
from dbgraph.ops import LEAVES, dynamic_names
from dbgraph.source import Source
from dbgraph.state import State

Values = dict[str, jax.Array]


@dataclass(frozen=True)
class Finding:
    """Where it begins.

    Attributes:
        kind: "input", "parameter", "value", "gradient" or "update".
        layer: the user's layer; of an input or a parameter its name.
        op: of the node.
        values: what it holds, such as "3 nan and 1 inf of 640".
        rows: of a value with a batch axis those that are not finite.
        context: what the node was given; or parameters whose gradients are not finite.
    """

    kind: str
    layer: str
    op: str
    values: str
    rows: tuple[int, ...] = ()
    at: Source | None = None
    context: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "input" | "parameter":
                return f"the {self.kind} {self.layer!r}: {self.values}"
            case "update":
                return f"the update of {self.layer}"
            case "gradient":
                return f"the gradient of layer {self.layer!r} ({self.op}): {self.values}"
            case _:
                return f"layer {self.layer!r} ({self.op}): {self.values}"


def first_broken(
    network: Graph,
    state: State,
    feeds: Mapping[str, np.ndarray],
    step: int,
    *,
    gradients: bool,
    dropout: bool = True,
) -> Finding | None:
    """The first node, in the order of computing, whose value is not finite; else the first whose
    gradient is not.

    Args:
        network: the uncut graph.
        state: the parameters, finite.
        feeds: the whole batch, by input.
        step: number of the step.
        gradients: whether to look at the backward pass and, where that is finite too, to blame
            the update.
    """
    wide = any(DTYPE_BYTES[node.type.dtype] == 8 for node in network)
    with jax.enable_x64(True) if wide else nullcontext():
        graph = _losses_only(network)
        found = _forward(graph, state, feeds, step, dropout)
        if isinstance(found, Finding):
            return found
        return _backward(graph, found, dropout) if gradients else None


def _losses_only(network: Graph) -> Graph:
    """Only what leads to a loss; so a value such as the minus infinity of an output's mask is
    not taken for the cause."""
    results = tuple(r for r in network.results if r.kind in ("loss", "term"))
    return Graph(network.nodes, results).live()


def _forward(
    graph: Graph, state: State, feeds: Mapping[str, np.ndarray], step: int, dropout: bool
) -> Values | Finding:
    values: Values = {}
    for node in graph:
        match node.op:
            case "input":
                value = jnp.asarray(feeds[node.attrs.str("of")])
            case "parameter":
                value = jnp.asarray(state.whole(node.attrs.str("of")))
            case "clock":
                value = jnp.asarray((step, 0), jnp.int32)
            case _:
                value = _computed(node, dropout)(*(values[name] for name in node.inputs))
        if not _finite(value):
            return _finding(node, value, values)
        values[node.name] = value
    return values


def _computed(node: Node, dropout: bool) -> Callable[..., jax.Array]:
    """The node's kernel with its attributes."""
    if node.op == "dropout" and not dropout:
        return lambda x, clock: x
    dynamic = [jnp.asarray(node.attrs[name], jnp.int32) for name in dynamic_names(node)]
    kernel = KERNELS[node.op]
    return lambda *inputs: kernel(node.attrs, *inputs, *dynamic)


def _backward(graph: Graph, values: Values, dropout: bool) -> Finding | None:
    """Reverse mode over the graph; every cotangent is looked at as soon as it is complete."""
    total = next(r.value for r in graph.results if r.kind == "loss")
    cotangents: Values = {total: jnp.ones_like(values[total])}
    first: Finding | None = None
    for node in reversed(graph.nodes):
        if node.name not in cotangents or node.op in LEAVES:
            continue
        for name, part in _pulled(node, values, cotangents.pop(node.name), dropout):
            cotangents[name] = cotangents[name] + part if name in cotangents else part
            if first is None and not _finite(cotangents[name]):
                first = _gradient_finding(node, name, cotangents[name], values)
    bad = [
        node.attrs.str("of")
        for node in graph
        if node.op == "parameter" and node.name in cotangents and not _finite(cotangents[node.name])
    ]
    named = ", ".join(map(repr, bad))
    if first is None:
        return None
    if not bad:
        return first
    context = f"the gradient of {named} is not finite"
    return replace(first, context="; ".join(filter(None, (context, first.context))))


def _pulled(
    node: Node, values: Values, cotangent: jax.Array, dropout: bool
) -> list[tuple[str, jax.Array]]:
    """The cotangents of a node's inputs that are floats."""
    places = [i for i, name in enumerate(node.inputs) if _is_float(values[name])]
    if not places:
        return []
    inputs = [values[name] for name in node.inputs]

    def of_floats(*floats: jax.Array) -> jax.Array:
        given = dict(zip(places, floats, strict=True))
        return _computed(node, dropout)(*(given.get(i, x) for i, x in enumerate(inputs)))

    _, pull = jax.vjp(of_floats, *(inputs[i] for i in places))
    return [(node.inputs[i], part) for i, part in zip(places, pull(cotangent), strict=True)]


# Words


def _finding(node: Node, value: jax.Array, values: Values) -> Finding:
    kind = node.op if node.op in ("input", "parameter") else "value"
    return Finding(
        kind=kind,
        layer=node.attrs.str("of") if kind != "value" else node.layer,
        op=node.op,
        values=_counted(value),
        rows=_rows(value),
        at=node.source,
        context=_given(node, values),
    )


def _gradient_finding(node: Node, name: str, cotangent: jax.Array, values: Values) -> Finding:
    return Finding(
        kind="gradient",
        layer=node.layer,
        op=node.op,
        values=_counted(cotangent),
        at=node.source,
        context=_given(node, values),
    )


def _given(node: Node, values: Values) -> str:
    """`it reads hidden1/add from -3.2 to 88`."""
    parts = [
        f"{name} from {float(jnp.min(values[name])):.4g} to {float(jnp.max(values[name])):.4g}"
        for name in node.inputs
        if values[name].size
    ]
    return f"it reads {', '.join(parts)}" if parts else ""


def _counted(value: jax.Array) -> str:
    nan = int(jnp.isnan(value).sum())
    inf = int(jnp.isinf(value).sum())
    found = [f"{n} {word}" for n, word in ((nan, "nan"), (inf, "inf")) if n]
    return f"{' and '.join(found)} of {value.size} values"


def _rows(value: jax.Array) -> tuple[int, ...]:
    if not value.ndim:
        return ()
    bad = ~np.isfinite(np.asarray(value, np.float64)).reshape(len(value), -1).all(axis=1)
    return tuple(int(i) for i in np.flatnonzero(bad))


def _finite(value: jax.Array) -> bool:
    return not _is_float(value) or bool(jnp.isfinite(value).all())


def _is_float(value: Any) -> bool:
    return bool(jnp.issubdtype(value.dtype, jnp.floating))
