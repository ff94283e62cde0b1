"""A plan's network on one machine, apart from every pass: node by node, and `jax.grad`.

With it come random inputs that are valid for the network, whatever reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dbgraph.initial import initial_values
from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.region import Region
from dbgraph.ir.types import FLOATS
from dbgraph.kernels.table import KERNELS
from dbgraph.ops import dynamic_names
from dbgraph.plan.plan import Plan

Arrays = Mapping[str, np.ndarray]

_KINDS = {"loss": "loss", "term": "loss", "output": "output"}
_EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
_PLENTY = 100  # of integers that no op looks up in a table


@dataclass(frozen=True)
class Uncut:
    """What one step of the uncut network yields.

    Attributes:
        values: (kind, name) → array; kinds are "loss", "output", "gradient".
        scores: for an output that is an argmax: (what it is of, the axis).
    """

    values: Mapping[tuple[str, str], np.ndarray]
    scores: Mapping[str, tuple[np.ndarray, int]] = field(default_factory=dict)


def evaluate(plan: Plan, feeds: Arrays, parameters: Arrays) -> Uncut:
    """One step of the network, of the whole batch at once, in the plan's mode; dropout is that of
    step 0."""
    wanted = ("output",) if plan.mode == "inference" else tuple(_KINDS)
    results = tuple(r for r in plan.network.results if r.kind in wanted)
    network = replace(plan.network, results=results).live()
    shown = {(_KINDS[r.kind], r.name): r.value for r in results}
    scores = {
        name: network[value]
        for (kind, name), value in shown.items()
        if kind == "output" and network[value].op == "argmax"
    }

    def total(held: Arrays) -> tuple[Any, Any]:
        values = _values(network, held, feeds, dropout=plan.mode == "training")
        kept = {key: values[value] for key, value in shown.items()}
        ranked = {name: values[node.inputs[0]] for name, node in scores.items()}
        return kept.get(("loss", "loss"), 0.0), (kept, ranked)

    gradients: Mapping[str, Any] = {}
    if plan.mode == "training":
        (_, found), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(dict(parameters))
    else:
        _, found = jax.jit(total)(dict(parameters))
    kept, ranked = found
    arrays = {key: np.asarray(value) for key, value in kept.items()}
    arrays |= {("gradient", name): np.asarray(value) for name, value in gradients.items()}
    return Uncut(
        arrays, {n: (np.asarray(v), scores[n].attrs.int("axis")) for n, v in ranked.items()}
    )


def _values(graph: Graph, parameters: Arrays, feeds: Arrays, dropout: bool) -> dict[str, Any]:
    """Every value of the graph."""
    values: dict[str, Any] = {}
    for node in graph:
        if node.op in ("parameter", "input"):
            values[node.name] = (feeds if node.op == "input" else parameters)[node.attrs.str("of")]
        elif node.op == "clock":
            values[node.name] = jnp.zeros(2, jnp.int32)
        elif node.op == "dropout" and not dropout:
            values[node.name] = values[node.inputs[0]]
        else:
            dynamic = [jnp.asarray(node.attrs[name], jnp.int32) for name in dynamic_names(node)]
            inputs = [jnp.asarray(values[name]) for name in node.inputs]
            values[node.name] = KERNELS[node.op](node.attrs, *inputs, *dynamic)
    return values


# Random numbers to compute with


def random_inputs(network: Graph, seed: int) -> dict[str, np.ndarray]:
    """An array for each input: normal numbers; integers are valid labels and ids."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for node in network:
        if node.op != "input":
            continue
        values: np.ndarray
        if node.type.is_float:
            values = rng.standard_normal(node.type.shape)
        else:
            limit = integer_limit(network, node)
            values = rng.integers(0, _PLENTY if limit is None else limit, node.type.shape)
        found[node.attrs.str("of")] = np.asarray(values).astype(jnp.dtype(node.type.dtype))
    return found


def integer_limit(network: Graph, node: Node) -> int | None:
    """How many values an integer may take: the fewest rows or classes of those who look it up;
    None where nobody does."""
    limits = [2] if node.type.dtype == "bool" else []
    for reader in network.consumers[node.name]:
        if reader.op == "embedding" and reader.inputs[0] == node.name:
            limits.append(network[reader.inputs[1]].type.shape[0])
        elif reader.op == "pick" and reader.inputs[1] == node.name:
            limits.append(network[reader.inputs[0]].type.shape[-1])
        elif reader.op == "custom":
            limits.append(2)  # nobody knows what it takes; 0 and 1 are the likeliest
        elif reader.type.dtype not in FLOATS:
            inner = integer_limit(network, reader)
            limits += [] if inner is None else [inner]
    return min(limits, default=None)


def random_parameters(plan: Plan, seed: int) -> dict[str, np.ndarray]:
    """The initial ones, each element moved a little, so that zeros hide nothing."""
    rng = np.random.default_rng((seed, 1))
    found: dict[str, np.ndarray] = {}
    for node in plan.network:
        if node.op == "parameter":
            name, shape, dtype = node.attrs.str("of"), node.type.shape, node.type.dtype
            init, whole = node.attrs.tuple("init"), Region.whole(shape)
            value = initial_values(name, init, plan.seed, shape, whole, dtype)
            spread = 0.1 * (float(np.std(value.astype(np.float32))) or 1.0)
            moved = value.astype(np.float64) + spread * rng.standard_normal(shape)
            found[name] = moved.astype(value.dtype)
    return found


def rounded(arrays: Arrays, seed: int) -> dict[str, np.ndarray]:
    """Each floating element moved up or down by about one unit in the last place."""
    rng = np.random.default_rng((seed, 2))
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if array.dtype.name in _EPSILON:
            sign = rng.integers(0, 2, array.shape) * 2 - 1
            step = sign * _EPSILON[array.dtype.name]
            found[name] = (array.astype(np.float64) * (1.0 + step)).astype(array.dtype)
        else:
            found[name] = array
    return found
