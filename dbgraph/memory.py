"""How many bytes are alive at once on each machine, by liveness of the plan's own values."""

from __future__ import annotations

from collections import defaultdict

from dbgraph.ir.graph import Graph
from dbgraph.plan.program import Instruction, Program, Recv, Run, Segment, Send, Transfer


def peak_bytes(
    graph: Graph, transfers: tuple[Transfer, ...], programs: tuple[Program, ...]
) -> tuple[int, ...]:
    """For each program the most bytes alive at once: its leaves, and every value from where it
    is computed or received to its last use. Results (gradients among them) live to the end."""
    leaves: dict[int | None, int] = defaultdict(int)
    for node in graph:
        if node.op in ("parameter", "input"):
            leaves[node.partition] += node.type.size_bytes
    return tuple(
        leaves[program.partition] + _Liveness(graph, transfers, program).peak()
        for program in programs
    )


class _Liveness:
    """One walk over a program."""

    def __init__(
        self,
        graph: Graph,
        transfers: tuple[Transfer, ...],
        program: Program,
    ) -> None:
        self.graph, self.transfers, self.program = graph, transfers, program
        self.last: dict[tuple[str, int], int] = {}
        for position, instruction in enumerate(program.instructions):
            for key in self._reads(instruction):
                self.last[key] = position

    def peak(self) -> int:
        alive = peak = 0
        inner = [self._inner(segment) for segment in self.program.segments]
        freed: dict[int, int] = defaultdict(int)
        for position, instruction in enumerate(self.program.instructions):
            if isinstance(instruction, Run):
                peak = max(peak, alive + inner[instruction.segment])
            for name, microbatch in self._makes(instruction):
                size = self.graph[name].type.size_bytes
                alive += size
                if name not in self.graph.result_values:
                    freed[self.last.get((name, microbatch), position)] += size
            peak = max(peak, alive)
            alive -= freed.pop(position, 0)
        return peak

    def _reads(self, instruction: Instruction) -> list[tuple[str, int]]:
        if isinstance(instruction, Run):
            segment = self.program.segments[instruction.segment]
            return [(name, instruction.microbatch) for name in segment.inputs]
        if isinstance(instruction, Send):
            return [(self.transfers[instruction.transfer].value, instruction.microbatch)]
        return []

    def _makes(self, instruction: Instruction) -> list[tuple[str, int]]:
        if isinstance(instruction, Recv):
            return [(self.transfers[instruction.transfer].recv, instruction.microbatch)]
        if isinstance(instruction, Run):
            segment = self.program.segments[instruction.segment]
            return [(name, instruction.microbatch) for name in segment.outputs]
        return []

    def _inner(self, segment: Segment) -> int:
        """Most bytes alive at once inside a segment, its nodes computed one by one."""
        kept, inside = set(segment.outputs), set(segment.nodes)
        last = {n: i for i, node in enumerate(segment.nodes) for n in self.graph[node].inputs}
        alive = peak = 0
        for i, name in enumerate(segment.nodes):
            alive += self.graph[name].type.size_bytes
            peak = max(peak, alive)
            for used in set(self.graph[name].inputs):
                if used in inside and used not in kept and last[used] == i:
                    alive -= self.graph[used].type.size_bytes
        return peak
