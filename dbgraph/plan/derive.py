"""What follows from a communicating graph, and is therefore not written into a plan's file."""

from __future__ import annotations

from collections.abc import Sequence

from dbgraph.ir.graph import Graph
from dbgraph.plan.program import Segment, Transfer


def transfers_of(graph: Graph) -> tuple[Transfer, ...]:
    """One for each pair of send and recv, in the order of the recvs."""
    found: list[Transfer] = []
    invariant = graph.invariant
    for node, read in zip(graph.nodes, graph.sources, strict=True):
        if node.op == "recv":
            send = graph.nodes[read[0]]
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
                    invariant=node.name in invariant,
                )
            )
    return tuple(found)


def segments_of(graph: Graph, groups: Sequence[Sequence[int]]) -> list[Segment]:
    """Segments of the nodes at the given positions each, with what goes in and out."""
    names = [node.name for node in graph]
    place = [-1] * len(graph)  # a send or a leaf stands in no segment
    for k, group in enumerate(groups):
        for i in group:
            place[i] = k
    inputs: list[dict[int, None]] = [{} for _ in groups]
    needed = [name in graph.result_values for name in names]
    for here, sources in zip(place, graph.sources, strict=True):
        for i in sources:
            if here < 0 or place[i] != here:
                needed[i] = True
                if here >= 0:
                    inputs[here][i] = None
    return [
        Segment(
            tuple([names[i] for i in group]),
            tuple([names[i] for i in read]),
            tuple([names[i] for i in group if needed[i]]),
        )
        for group, read in zip(groups, inputs, strict=True)
    ]
