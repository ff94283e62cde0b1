"""communicate: every value that crosses to another partition becomes one send and one recv."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
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
        by_name = graph.by_name
        for node in graph:
            here = node.partition
            assert here is not None
            far = [name for name in node.inputs if by_name[name].partition != here]
            for name in far:
                if (name, here) not in received:
                    pair = _pair(by_name[name], here)
                    nodes += pair
                    received[name, here] = pair[1].name
            if far:
                inputs = [received.get((name, here), name) for name in node.inputs]
                node = replace(node, inputs=tuple(inputs))
            nodes.append(node)
        return Graph(tuple(nodes), graph.results)


def _pair(value: Node, to: int) -> tuple[Node, Node]:
    """The send, where the value stands, and its recv."""
    name, source = value.name, value.partition
    assert source is not None
    send = _moving(value, f"{name}>{to}", "send", name, _attrs("to", to), source)
    return send, _moving(value, f"{name}@{to}", "recv", send.name, _attrs("source", source), to)


def _moving(value: Node, name: str, op: str, of: str, attrs: Attrs, partition: int) -> Node:
    return Node(
        name, op, (of,), value.type, attrs, value.layer, value.source, value.pin, None, partition
    )


@cache
def _attrs(key: str, partition: int) -> Attrs:
    """Shared by all sends to, or recvs from, one partition."""
    return Attrs({key: partition})
