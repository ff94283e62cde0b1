"""How many bytes are alive at once on each machine, by liveness of the plan's own values."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

from dbgraph.ir.graph import Graph, Signature
from dbgraph.ops import op
from dbgraph.plan.program import Instruction, Program, Recv, Run, Segment, Send, Transfer

Key = tuple[str, int]
"""A value and its microbatch."""


def peak_bytes(
    graph: Graph, transfers: tuple[Transfer, ...], programs: tuple[Program, ...]
) -> tuple[int, ...]:
    """For each program the most bytes alive at once, in the order of its instructions:
    - its parameters, from beginning to end; without the slots of an optimiser;
    - its inputs, of the whole batch, from the beginning to their last use;
    - every value from where it is computed or received to its last use; losses and outputs, of
      each microbatch, to the end; a gradient as one sum over the microbatches;
    - inside a segment its nodes' values, computed one by one in their order, and what the kernel
      of one holds besides (`OpDef.workspace_bytes`); what a kernel fills in a loop is there from
      the segment's beginning, for XLA schedules first what depends on nothing.

    Copies that a backend holds while it sends or receives are not counted.
    """
    memory = _Memory(graph, transfers, _microbatches(programs))
    return tuple(memory.peak(program) for program in programs)


def _microbatches(programs: tuple[Program, ...]) -> int:
    runs = (i.microbatch for p in programs for i in p.instructions if isinstance(i, Run))
    return 1 + max(runs, default=0)


class _Memory:
    """Walks over the programs of one plan."""

    def __init__(self, graph: Graph, transfers: tuple[Transfer, ...], microbatches: int) -> None:
        self._graph, self._transfers = graph, transfers
        self._sizes = {node.name: node.type.size_bytes for node in graph}
        self._sums = {r.value for r in graph.results if r.kind == "gradient"}
        self._stays = set(graph.result_values)
        # Values that are there once for all microbatches.
        self._once = {t.recv for t in transfers if t.invariant}
        self._leaf_bytes: dict[int | None, int] = defaultdict(int)
        for node in graph:
            if node.op == "parameter":
                self._stays.add(node.name)
                self._leaf_bytes[node.partition] += self._sizes[node.name]
            elif node.op == "input":
                self._once.add(node.name)
                self._sizes[node.name] *= microbatches
                self._leaf_bytes[node.partition] += self._sizes[node.name]

    def peak(self, program: Program) -> int:
        made = [0] * len(program.instructions)
        last: dict[Key, int] = {}
        for position, instruction in enumerate(program.instructions):
            reads, makes, microbatch = self._touches(program, instruction)
            for name in reads:
                last[name, 0 if name in self._once else microbatch] = position
            for name in makes:
                if not (microbatch and name in self._sums):
                    made[position] += self._sizes[name]
                    last[name, microbatch] = position
        freed = [0] * len(program.instructions)
        for (name, _), position in last.items():
            if name not in self._stays:
                freed[position] += self._sizes[name]
        return self._most(program, made, freed)

    def _most(self, program: Program, made: list[int], freed: list[int]) -> int:
        """Args: made, freed: bytes that come with each instruction, and go after it."""
        inner = [self._inner(segment) for segment in program.segments]
        alive = peak = self._leaf_bytes[program.partition]
        for position, instruction in enumerate(program.instructions):
            if isinstance(instruction, Run):
                peak = max(peak, alive + inner[instruction.segment])
            alive += made[position]
            peak = max(peak, alive)
            alive -= freed[position]
        return peak

    def _touches(
        self, program: Program, instruction: Instruction
    ) -> tuple[tuple[str, ...], tuple[str, ...], int]:
        """(values that an instruction reads, those that it makes, its microbatch)."""
        if isinstance(instruction, Send):
            return (self._transfers[instruction.transfer].value,), (), instruction.microbatch
        if isinstance(instruction, Recv):
            return (), (self._transfers[instruction.transfer].recv,), instruction.microbatch
        if isinstance(instruction, Run):
            segment = program.segments[instruction.segment]
            return segment.inputs, segment.outputs, instruction.microbatch
        return (), (), 0

    def _inner(self, segment: Segment) -> int:
        """Most bytes alive at once inside a segment."""
        sizes, signatures = self._sizes, self._graph.signatures
        kept, by_name = set(segment.outputs), self._graph.by_name
        last: dict[str, int] = {}
        for at, name in enumerate(segment.nodes):
            last[name] = at
            for used in by_name[name].inputs:
                last[used] = at
        freed = [0] * len(segment.nodes)
        for name in segment.nodes:
            if name not in kept:
                freed[last[name]] += sizes[name]
        ahead = {name for name in segment.nodes if _loops(signatures[name])}
        alive = peak = sum(sizes[name] for name in ahead)
        for name, gone in zip(segment.nodes, freed, strict=True):
            alive += 0 if name in ahead else sizes[name]
            peak = max(peak, alive + _workspace_bytes(signatures[name]))
            alive -= gone
        return peak


@lru_cache(maxsize=2**16)
def _loops(signature: Signature) -> bool:
    """Whether XLA makes the array for the output first of all, since it depends on nothing."""
    return op(signature.op).loops(signature.attrs)


@lru_cache(maxsize=2**16)
def _workspace_bytes(signature: Signature) -> int:
    """What the kernel of a node with that signature holds besides its inputs and its output."""
    rule = op(signature.op)
    return rule.workspace_bytes(signature.attrs, signature.inputs, signature.type)
