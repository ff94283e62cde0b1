"""communicate: every value that crosses to another partition becomes one send and one recv."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.types import Attrs


@dataclass(frozen=True)
class Communicate:
    """One rule for both directions: once per destination, however many edges cross."""

    name: ClassVar[str] = "communicate"
    ensures: ClassVar[str] = "communicating"

    def __call__(self, graph: Graph) -> Graph:
        nodes: list[Node] = []
        received: dict[tuple[str, int], str] = {}
        for node in graph:
            inputs = []
            for name in node.inputs:
                value = graph[name]
                if value.partition == node.partition:
                    inputs.append(name)
                    continue
                assert node.partition is not None
                key = (name, node.partition)
                if key not in received:
                    send, recv = _pair(value, node.partition)
                    nodes += (send, recv)
                    received[key] = recv.name
                inputs.append(received[key])
            nodes.append(replace(node, inputs=tuple(inputs)))
        return Graph(tuple(nodes), graph.results)


def _pair(value: Node, to: int) -> tuple[Node, Node]:
    send = replace(
        value,
        name=f"{value.name}>{to}",
        op="send",
        inputs=(value.name,),
        attrs=Attrs(to=to),
        cut=None,
    )
    assert value.partition is not None
    recv = replace(
        send,
        name=f"{value.name}@{to}",
        op="recv",
        inputs=(send.name,),
        attrs=Attrs(source=value.partition),
        partition=to,
    )
    return send, recv


