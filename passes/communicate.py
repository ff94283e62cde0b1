"""communicate: every value that crosses to another partition becomes one send and one recv."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.transfer import send_and_recv


@dataclass(frozen=True)
class Communicate:
    """One rule for both directions: once per destination, however many edges cross."""

    name: ClassVar[str] = "communicate"
    ensures: ClassVar[str] = "communicating"

    def __call__(self, graph: Graph) -> Graph:
        nodes: list[Node] = []
        received: dict[tuple[str, int], str] = {}
        by_name = graph.by_name
        for node in graph:
            here = node.partition
            assert here is not None
            far = [name for name in node.inputs if by_name[name].partition != here]
            for name in far:
                if (name, here) not in received:
                    pair = send_and_recv(by_name[name], here)
                    nodes += pair
                    received[name, here] = pair[1].name
            if far:
                inputs = [received.get((name, here), name) for name in node.inputs]
                node = replace(node, inputs=tuple(inputs))
            nodes.append(node)
        return Graph(tuple(nodes), graph.results)
