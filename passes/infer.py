"""infer: every node's type, from its op's rule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dbgraph.errors import NetworkError
from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.types import TensorType
from dbgraph.ops import infer_node


@dataclass(frozen=True)
class Infer:
    """Computes all types anew; a network that was written or edited by hand gets them here."""

    name: ClassVar[str] = "infer"
    ensures: ClassVar[str] = "network"

    def __call__(self, graph: Graph) -> Graph:
        types: dict[str, TensorType] = {}
        nodes = []
        for node in graph:
            found = types[node.name] = _infer(node, types)
            nodes.append(node if node.type == found else replace(node, type=found))
        return replace(graph, nodes=tuple(nodes))


def _infer(node: Node, types: dict[str, TensorType]) -> TensorType:
    unknown = [name for name in node.inputs if name not in types]
    if unknown:
        rule = f"{node.name} reads {unknown[0]}, which nothing before it defines"
        raise NetworkError(rule, at=node.source)
    return infer_node(node, tuple(types[name] for name in node.inputs))
