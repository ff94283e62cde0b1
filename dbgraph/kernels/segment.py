"""A segment as one JAX function. Segments of equal structure are one function, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np

from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.types import Attrs, TensorType
from dbgraph.kernels.table import KERNELS
from dbgraph.ops import dynamic_names
from dbgraph.plan.program import Segment

Values = Sequence[jax.Array]


@dataclass(frozen=True, slots=True)
class Step:
    """One node without its name: operands and results are places in a list of values.

    Attributes:
        attrs: the static ones.
        dynamic: for each dynamic attribute its place in the segment's vector, and its length
            (-1: a scalar).
    """

    op: str
    attrs: Attrs
    operands: tuple[int, ...]
    dynamic: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Structure:
    """What decides how a segment is compiled: names, lines and positions do not."""

    inputs: tuple[TensorType, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]


def structure_of(graph: Graph, segment: Segment) -> tuple[Structure, np.ndarray]:
    """The structure, and the int32 vector of all dynamic attributes."""
    place = {name: i for i, name in enumerate(segment.inputs)}
    steps: list[Step] = []
    vector: list[int] = []
    for name in segment.nodes:
        node = graph[name]
        operands = tuple(place[n] for n in node.inputs)
        steps.append(_step(node, operands, vector))
        place[name] = len(place)
    types = tuple(graph[name].type for name in segment.inputs)
    outputs = tuple(place[name] for name in segment.outputs)
    return Structure(types, tuple(steps), outputs), np.asarray(vector, np.int32)


def _step(node: Node, operands: tuple[int, ...], vector: list[int]) -> Step:
    names = dynamic_names(node)
    places = []
    for name in names:
        value = node.attrs[name]
        numbers = value if isinstance(value, tuple) else (value,)
        places.append((len(vector), len(numbers) if isinstance(value, tuple) else -1))
        vector.extend(int(n) for n in numbers)  # type: ignore[arg-type]  # dynamic ones are ints
    static = Attrs({k: v for k, v in node.attrs.items() if k not in names})
    return Step(node.op, static if names else node.attrs, operands, tuple(places))


def evaluate(structure: Structure, inputs: Values, vector: jax.Array) -> tuple[jax.Array, ...]:
    """The segment's outputs; to be traced."""
    values = list(inputs)
    for step in structure.steps:
        dynamic = [
            vector[start] if length < 0 else vector[start : start + length]
            for start, length in step.dynamic
        ]
        operands = (values[i] for i in step.operands)
        values.append(KERNELS[step.op](step.attrs, *operands, *dynamic))
    return tuple(values[i] for i in structure.outputs)


@lru_cache(maxsize=4096)
def compiled(structure: Structure) -> Callable[..., tuple[jax.Array, ...]]:
    """fn(inputs, vector) → outputs."""

    def segment(inputs: Values, vector: jax.Array) -> tuple[jax.Array, ...]:
        return evaluate(structure, inputs, vector)

    return jax.jit(segment)


@lru_cache(maxsize=4096)
def accumulating(
    structure: Structure, summed: tuple[int, ...]
) -> Callable[..., tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]]:
    """fn(inputs, vector, sums) → (outputs, sums): the outputs with indices `summed` are added to
    the sums so far, whose memory is used again."""

    def segment(
        inputs: Values, vector: jax.Array, sums: Values
    ) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        outputs = evaluate(structure, inputs, vector)
        added = tuple(s + outputs[i] for s, i in zip(sums, summed, strict=True))
        kept = tuple(o for i, o in enumerate(outputs) if i not in summed)
        return kept, added

    return jax.jit(segment, donate_argnums=2)
