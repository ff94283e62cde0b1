"""What follows from a communicating graph, and is therefore not written into a plan's file."""

from __future__ import annotations

from dbgraph.ir.graph import Graph
from dbgraph.plan.program import Segment, Transfer


def transfers_of(graph: Graph) -> tuple[Transfer, ...]:
    """One for each pair of send and recv, in the order of the recvs."""
    found: list[Transfer] = []
    for node in graph:
        if node.op == "recv":
            send = graph[node.inputs[0]]
            assert send.partition is not None
            assert node.partition is not None
            found.append(
                Transfer(
                    index=len(found),
                    value=send.inputs[0],
                    recv=node.name,
                    source=send.partition,
                    to=node.partition,
                    type=node.type,
                )
            )
    return tuple(found)


def segment_of(graph: Graph, nodes: tuple[str, ...]) -> Segment:
    """A segment of the given nodes, with what goes in and out."""
    inside = set(nodes)
    inputs = dict.fromkeys(n for name in nodes for n in graph[name].inputs if n not in inside)
    outputs = tuple(
        name
        for name in nodes
        if name in graph.result_values
        or any(reader.name not in inside for reader in graph.consumers[name])
    )
    return Segment(nodes, tuple(inputs), outputs)
