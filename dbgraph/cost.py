"""What a node costs on a machine: a roofline of the FLOPs and bytes of the op's own rule."""

from __future__ import annotations

from dbgraph.cluster import MachineSpec
from dbgraph.ir.graph import Graph, Node
from dbgraph.ops import COMMUNICATION, LEAVES, flops_of


def node_flop(graph: Graph, node: Node) -> int:
    """FLOPs of one execution of a node; leaves and communication have none."""
    if node.op in LEAVES or node.op in COMMUNICATION:
        return 0
    return flops_of(node, graph.input_types(node))


def node_bytes(graph: Graph, node: Node) -> int:
    """Bytes that a node reads and writes, at the least."""
    if node.op in LEAVES or node.op in COMMUNICATION:
        return 0
    return node.type.size_bytes + sum(t.size_bytes for t in graph.input_types(node))


def node_s(graph: Graph, node: Node, machine: MachineSpec) -> float:
    """Seconds of one execution of a node: bound by arithmetic or by memory."""
    return max(
        node_flop(graph, node) / machine.flop_s,
        node_bytes(graph, node) / machine.memory_bytes_s,
    )
