"""The network on one machine, independent of every pass: node by node, and `jax.grad`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpy as np

import dbgraph as dbg
from dbgraph.initial import initial_values
from dbgraph.ir.graph import Graph
from dbgraph.ir.region import Region
from dbgraph.kernels.segment import accumulating, compiled
from dbgraph.kernels.table import KERNELS
from dbgraph.ops import dynamic_names

Arrays = Mapping[str, Any]
Results = tuple[dict[str, float], dict[str, np.ndarray], dict[str, np.ndarray]]
"""(losses, outputs, gradients)"""
QUICKLY: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
}
"""How XLA compiles a reference, in a third of the time: it need not be fast, and is the more
independent of what it is compared with."""


def initial_parameters(network: dbg.Network) -> dict[str, np.ndarray]:
    """All parameters, whole."""
    return {
        node.name: initial_values(
            node.name,
            node.attrs.tuple("init"),
            network.seed,
            node.type.shape,
            Region.whole(node.type.shape),
            node.type.dtype,
        )
        for node in network.graph
        if node.op == "parameter"
    }


def evaluate(graph: Graph, parameters: Arrays, feeds: Arrays, step: int = 0) -> dict[str, Any]:
    """Every value of a network's graph."""
    values: dict[str, Any] = {**parameters, **feeds}
    for node in graph:
        if node.op == "clock":
            values[node.name] = jnp.asarray((step, 0), jnp.int32)
        elif node.name not in values:
            dynamic = [jnp.asarray(node.attrs[name], jnp.int32) for name in dynamic_names(node)]
            inputs = [values[name] for name in node.inputs]
            values[node.name] = KERNELS[node.op](node.attrs, *inputs, *dynamic)
    return values


def results(network: dbg.Network, parameters: Arrays, feeds: Arrays, step: int = 0) -> Results:
    """Of the whole batch."""
    graph = network.graph
    with jax.enable_x64(True):
        chosen = {r.name: r.value for r in graph.results if r.kind in ("loss", "term")}
        shown = {r.name: r.value for r in graph.results if r.kind == "output"}

        def total(held: Arrays) -> Any:
            values = evaluate(graph, held, feeds, step)
            kept = ({n: values[v] for n, v in some.items()} for some in (chosen, shown))
            return values[chosen["loss"]], tuple(kept)

        if "loss" not in chosen:
            values = evaluate(graph, parameters, feeds, step)
            return {}, {name: np.asarray(values[value]) for name, value in shown.items()}, {}
        differentiated = jax.jit(jax.value_and_grad(total, has_aux=True), compiler_options=QUICKLY)
        (_, (terms, seen)), gradients = differentiated(dict(parameters))
        losses = {name: float(value) for name, value in terms.items()}
        outputs = {name: np.asarray(value) for name, value in seen.items()}
        return losses, outputs, {k: np.asarray(v) for k, v in gradients.items()}


# Segments


def _quickly(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make` of jitted functions, with ones of its own that are compiled quickly."""

    @cache
    def made(*structure: Any) -> Any:
        with patch.object(jax, "jit", partial(jax.jit, compiler_options=QUICKLY)):
            return make.__wrapped__(*structure)  # type: ignore[attr-defined]  # of lru_cache

    return made


_QUICK = {
    "dbgraph.loaded.compiled": _quickly(compiled),
    "dbgraph.loaded.accumulating": _quickly(accumulating),
}


@contextmanager
def quick_segments() -> Iterator[None]:
    """Plans that run in this process are compiled as quickly as a reference: for tests of many
    cuts, where what each computes matters and not how fast. Updates, and all in the tests of
    single cuts, of backends and of bits, are compiled as users do."""
    with ExitStack() as stack:
        for name, made in _QUICK.items():
            stack.enter_context(patch(name, made))
        yield
