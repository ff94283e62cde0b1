"""schedule: the communicating graph as programs, one per partition.

A node's level is the number of messages on the longest way to it. On each partition the nodes of
one level form a block: RECV what the level needs, RUN, SEND what other partitions wait for, then
RUN what only this partition needs, while the messages travel; where it pays, in several parts
(`dbgraph.passes.blocks`). Sends never wait and a block only waits for lower levels, so no order
of arrival can deadlock.

With microbatches, block (level, m) goes to time slot level + m (what is the same for all of them
crosses in the first alone); within a slot the higher level
(the backward pass) goes first. For a chain of stages that is one forward, one backward (1F1B;
Narayanan et al., "PipeDream", 2019, section 3.2). In the order "gpipe" all that is forward goes
before all that is backward (Huang et al., "GPipe", 2019, figure 2c): more is alive at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dbgraph.cluster import Link, MachineSpec
from dbgraph.cost import node_s
from dbgraph.ir.graph import Graph
from dbgraph.ops import LEAVES
from dbgraph.passes.blocks import Part, Times, divide
from dbgraph.plan.derive import segments_of, transfers_of
from dbgraph.plan.program import Instruction, Program, Recv, Run, Segment, Send, Transfer, Update


@dataclass(frozen=True)
class Schedule:
    """Orders the instructions of every partition."""

    partitions: int
    microbatches: int = 1
    update: bool = True
    order: str = "1f1b"

    def __call__(self, graph: Graph) -> tuple[tuple[Transfer, ...], tuple[Program, ...]]:
        transfers = transfers_of(graph)
        blocks = _blocks(graph)
        of_node = _by_position(graph, transfers)
        late = _first_backward(graph, blocks) if self.order == "gpipe" else None
        segments = iter(segments_of(graph, _computed_together(blocks, self.partitions)))
        programs = tuple(
            self._program(p, blocks.get(p, {}), segments, of_node, late)
            for p in range(self.partitions)
        )
        return transfers, programs

    def _program(
        self,
        partition: int,
        blocks: dict[int, list[Part]],
        all_segments: Iterator[Segment],
        transfer: dict[int, Transfer],
        late: int | None,
    ) -> Program:
        """
        Args:
            all_segments: one for each part that computes, in order.
            transfer: position of a send or recv → its transfer.
            late: the level from which on blocks go behind all lower ones, of any microbatch.
        """
        segments: list[Segment] = []
        ordered: list[tuple[bool, int, int, int, list[Instruction]]] = []
        for level, parts in sorted(blocks.items()):
            numbers: list[int | None] = []
            behind = late is not None and level >= late
            for part in parts:
                numbers.append(len(segments) if part.nodes else None)
                if part.nodes:
                    segments.append(next(all_segments))
            for m in range(self.microbatches):
                steps: list[Instruction] = []
                for part, number in zip(parts, numbers, strict=True):
                    recvs = (transfer[i] for i in part.recvs)
                    sends = (transfer[i] for i in part.sends)
                    steps += [Recv(t.index, m) for t in recvs if m < t.times(self.microbatches)]
                    steps += [Run(number, m)] if number is not None else []
                    steps += [Send(t.index, m) for t in sends if m < t.times(self.microbatches)]
                ordered.append((behind, level + m, -level, m, steps))
        ordered.sort(key=lambda entry: entry[:4])
        instructions = [i for *_, steps in ordered for i in steps]
        if self.update:
            instructions.append(Update())
        return Program(partition, tuple(segments), tuple(instructions))


def _computed_together(
    blocks: dict[int, dict[int, list[Part]]], partitions: int
) -> list[list[int]]:
    """The nodes of each segment of each program, in order."""
    return [
        part.nodes
        for partition in range(partitions)
        for _, parts in sorted(blocks.get(partition, {}).items())
        for part in parts
        if part.nodes
    ]


def _by_position(graph: Graph, transfers: Sequence[Transfer]) -> dict[int, Transfer]:
    """Position of a send or recv → its transfer."""
    recvs = [i for i, node in enumerate(graph) if node.op == "recv"]
    pairs = zip(recvs, transfers, strict=True)
    return {i: transfer for recv, transfer in pairs for i in (recv, *graph.sources[recv])}


def _first_backward(graph: Graph, blocks: dict[int, dict[int, list[Part]]]) -> int:
    """The lowest level with a gradient in it. No lower one waits for it, on any partition."""
    return min(
        (
            level
            for of_partition in blocks.values()
            for level, parts in of_partition.items()
            if any(graph.nodes[i].op == "vjp" for part in parts for i in part.nodes)
        ),
        default=0,
    )


def _blocks(graph: Graph) -> dict[int, dict[int, list[Part]]]:
    """By partition and level."""
    blocks: dict[int, dict[int, Part]] = defaultdict(lambda: defaultdict(Part))
    levels = _levels(graph)
    for i, node in enumerate(graph):
        assert node.partition is not None
        block = blocks[node.partition][levels[i]]
        if node.op == "send":
            block.sends.append(i)
        elif node.op == "recv":
            block.recvs.append(i)
        elif node.op not in LEAVES:
            block.nodes.append(i)
    times = _times(graph)
    return {
        partition: {level: divide(graph, block, times) for level, block in of_partition.items()}
        for partition, of_partition in blocks.items()
    }


def _times(graph: Graph) -> Times:
    """As if every node had a machine for itself."""
    machine, link = MachineSpec(), Link()
    begin_s: list[float] = []
    takes_s: list[float] = []
    for node, sources in zip(graph.nodes, graph.sources, strict=True):
        begin_s.append(max([begin_s[i] + takes_s[i] for i in sources], default=0.0))
        if node.op == "send":
            takes_s.append(link.latency_s + node.type.size_bytes / link.bytes_s)
        elif node.op == "recv":
            takes_s.append(0.0)
        else:
            takes_s.append(node_s(graph, node, machine))
    return Times(begin_s, takes_s)


def _levels(graph: Graph) -> list[int]:
    """Messages on the longest way to each node; constants move to their first reader, since a
    segment of constants alone would cost a dispatch."""
    levels: list[int] = []
    constant: set[int] = set()
    for i, (node, sources) in enumerate(zip(graph.nodes, graph.sources, strict=True)):
        crossed = int(node.op == "recv")
        levels.append(crossed + max([levels[k] for k in sources], default=0))
        if node.op not in LEAVES and not crossed and constant.issuperset(sources):
            constant.add(i)
    first_read: dict[int, int] = {}
    for i in reversed(range(len(graph))):
        if i in first_read and graph.nodes[i].op != "send":
            levels[i] = first_read[i]
        for k in graph.sources[i]:
            if k in constant:
                first_read[k] = min(levels[i], first_read.get(k, levels[i]))
    return levels
