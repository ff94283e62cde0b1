"""One plan's program for one partition, with its segments compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from dbgraph.kernels.segment import Structure, accumulating, compiled, structure_of
from dbgraph.plan.plan import Leaf, Plan
from dbgraph.plan.program import Run, Segment, Update
from dbgraph.trace.program import sent_at_once
from dbgraph.worker import Worker


@dataclass(frozen=True)
class Compiled:
    """A segment's function, with the names of what it takes and gives.

    Attributes:
        function: fn(inputs, vector) → outputs; looked up once, since hashing a structure is slow.
        adding: the same for all microbatches but the first, see `accumulating`.
        summed: indices of the outputs that are gradients, to be added up over microbatches.
    """

    structure: Structure
    function: Callable[..., Any]
    adding: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    summed: tuple[int, ...]
    vector: jax.Array


class LoadedPlan:
    """What a partition needs in order to run one plan."""

    def __init__(self, plan: Plan, partition: int) -> None:
        self.plan = plan
        self.worker = Worker(plan, partition)
        self.results = plan.results(partition)
        self.parameters: Mapping[str, Leaf] = {
            leaf.node: leaf for leaf in plan.leaves("parameter", partition)
        }
        self.clocks = tuple(
            n.name for n in plan.graph if n.op == "clock" and n.partition == partition
        )
        self.sent_at_once = sent_at_once(self.worker.program, plan.transfers)
        self.gradients = self._gradient_values()
        self.segments = tuple(self._compiled(s) for s in self.worker.program.segments)

    def _gradient_values(self) -> Mapping[str, str]:
        """Parameter leaf → the value that is its gradient."""
        leaf_of = {(leaf.of, leaf.region): node for node, leaf in self.parameters.items()}
        return {leaf_of[r.name, r.region]: r.value for r in self.results if r.kind == "gradient"}

    def _compiled(self, segment: Segment) -> Compiled:
        structure, vector = structure_of(self.plan.graph, segment)
        gradients = set(self.gradients.values())
        summed = tuple(i for i, name in enumerate(segment.outputs) if name in gradients)
        return Compiled(
            structure=structure,
            function=compiled(structure),
            adding=accumulating(structure, summed),
            inputs=segment.inputs,
            outputs=segment.outputs,
            summed=summed,
            vector=jnp.asarray(vector),
        )

    @property
    def ends_in_one_go(self) -> bool:
        """Whether the last RUN and UPDATE can be one computation: nothing stands between."""
        instructions = self.worker.program.instructions
        return (
            self.plan.microbatches == 1
            and len(instructions) >= 2
            and isinstance(instructions[-1], Update)
            and isinstance(instructions[-2], Run)
        )

    def lent(self) -> frozenset[str]:
        """Parameter leaves that others hold while an update runs: sent ones, and results."""
        sent = {t.value for t in self.plan.transfers}
        return frozenset(self.parameters) & (sent | self.plan.graph.result_values)

    def run(self, segment: int, microbatch: int) -> Iterable[tuple[str, Any]]:
        """The outputs of a segment, by name, for the worker to store."""
        code = self.segments[segment]
        values = self.worker.values
        inputs = [self.worker.value(name, microbatch) for name in code.inputs]
        if microbatch == 0 or not code.summed:
            return zip(code.outputs, code.function(inputs, code.vector), strict=True)
        # The sums so far move on with the microbatch; the last one's are the step's.
        names = [code.outputs[i] for i in code.summed]
        sums = tuple(values.pop((name, microbatch - 1)) for name in names)
        kept, sums = code.adding(inputs, code.vector, sums)
        others = [n for i, n in enumerate(code.outputs) if i not in code.summed]
        return [*zip(others, kept, strict=True), *zip(names, sums, strict=True)]

    def gradient(self, leaf: str) -> jax.Array:
        """The gradient of a parameter's leaf, summed over the microbatches."""
        value: jax.Array = self.worker.values[self.gradients[leaf], self.plan.microbatches - 1]
        return value
