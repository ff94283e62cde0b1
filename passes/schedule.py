"""schedule: the communicating graph as programs, one per partition.

A node's level is the number of messages on the longest way to it. On each partition the nodes of
one level form a block: RECV what the level needs, RUN, SEND what other partitions wait for, then
RUN what only this partition needs, while the messages travel; where it pays, in several parts
(`dbgraph.passes.blocks`). Sends never wait and a block only waits for lower levels, so no order
of arrival can deadlock.

With microbatches, block (level, m) goes to time slot level + m; within a slot the higher level
(the backward pass) goes first. For a chain of stages that is one forward, one backward (1F1B).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from dbgraph.cluster import Link, MachineSpec
from dbgraph.cost import node_s
from dbgraph.ir.graph import Graph
from dbgraph.ops import LEAVES
from dbgraph.passes.blocks import Part, Times, divide
from dbgraph.plan.derive import segment_of, transfers_of
from dbgraph.plan.program import Instruction, Program, Recv, Run, Segment, Send, Transfer, Update


@dataclass(frozen=True)
class Schedule:
    """Orders the instructions of every partition."""

    partitions: int
    microbatches: int = 1
    update: bool = True

    def __call__(self, graph: Graph) -> tuple[tuple[Transfer, ...], tuple[Program, ...]]:
        transfers = transfers_of(graph)
        blocks = _blocks(graph)
        by_node = {name: t.index for t in transfers for name in (t.recv, graph[t.recv].inputs[0])}
        programs = tuple(
            self._program(graph, p, blocks.get(p, {}), by_node) for p in range(self.partitions)
        )
        return transfers, programs

    def _program(
        self,
        graph: Graph,
        partition: int,
        blocks: dict[int, list[Part]],
        by_node: dict[str, int],
    ) -> Program:
        """Args: by_node: name of a send or recv → its transfer."""
        segments: list[Segment] = []
        ordered: list[tuple[int, int, int, list[Instruction]]] = []
        for level, parts in sorted(blocks.items()):
            numbers: list[int | None] = []
            for part in parts:
                numbers.append(len(segments) if part.nodes else None)
                if part.nodes:
                    segments.append(segment_of(graph, tuple(n.name for n in part.nodes)))
            for m in range(self.microbatches):
                steps: list[Instruction] = []
                for part, number in zip(parts, numbers, strict=True):
                    steps += [Recv(by_node[n], m) for n in part.recvs]
                    steps += [Run(number, m)] if number is not None else []
                    steps += [Send(by_node[n], m) for n in part.sends]
                ordered.append((level + m, -level, m, steps))
        ordered.sort(key=lambda entry: entry[:3])
        instructions = [i for *_, steps in ordered for i in steps]
        if self.update:
            instructions.append(Update())
        return Program(partition, tuple(segments), tuple(instructions))


def _blocks(graph: Graph) -> dict[int, dict[int, list[Part]]]:
    """By partition and level."""
    blocks: dict[int, dict[int, Part]] = defaultdict(lambda: defaultdict(Part))
    levels = _levels(graph)
    for node in graph:
        assert node.partition is not None
        block = blocks[node.partition][levels[node.name]]
        if node.op == "send":
            block.sends.append(node.name)
        elif node.op == "recv":
            block.recvs.append(node.name)
        elif node.op not in LEAVES:
            block.nodes.append(node)
    times = _times(graph)
    return {
        partition: {level: divide(graph, block, times) for level, block in of_partition.items()}
        for partition, of_partition in blocks.items()
    }


def _times(graph: Graph) -> Times:
    """As if every node had a machine for itself."""
    machine, link = MachineSpec(), Link()
    begin_s: dict[str, float] = {}
    takes_s: dict[str, float] = {}
    for node in graph:
        begin_s[node.name] = max((begin_s[n] + takes_s[n] for n in node.inputs), default=0.0)
        takes_s[node.name] = node_s(graph, node, machine)
        if node.op == "send":
            takes_s[node.name] = link.latency_s + node.type.size_bytes / link.bytes_s
    return Times(begin_s, takes_s)


def _levels(graph: Graph) -> dict[str, int]:
    """Messages on the longest way to each node; constants move to their first reader, since a
    segment of constants alone would cost a dispatch."""
    levels: dict[str, int] = {}
    constant: set[str] = set()
    for node in graph:
        crossed = int(node.op == "recv")
        levels[node.name] = crossed + max((levels[name] for name in node.inputs), default=0)
        if node.op not in LEAVES and not crossed and constant.issuperset(node.inputs):
            constant.add(node.name)
    for node in reversed(graph.nodes):
        readers = graph.consumers[node.name]
        if node.name in constant and node.op != "send" and readers:
            levels[node.name] = min(levels[reader.name] for reader in readers)
    return levels
