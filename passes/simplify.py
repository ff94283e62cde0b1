"""simplify: common subexpressions once, identities away, dead nodes away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dbgraph.ir.graph import Graph, Node, Result
from dbgraph.ops import LEAVES


@dataclass(frozen=True)
class Simplify:
    """Only rewrites that keep every bit of every value."""

    name: ClassVar[str] = "simplify"
    ensures: ClassVar[str] = "network"

    def __call__(self, graph: Graph) -> Graph:
        renamed: dict[str, str] = {}
        seen: dict[object, str] = {}
        nodes: list[Node] = []
        for old in graph:
            inputs = tuple([renamed.get(name, name) for name in old.inputs])
            node = old if inputs == old.inputs else replace(old, inputs=inputs)
            target = _identity_of(node, graph) or seen.get(_key(node))
            if target is not None:
                renamed[node.name] = target
                continue
            if node.op not in LEAVES:
                seen[_key(node)] = node.name
            nodes.append(node)
        results = tuple(_renamed(r, renamed) for r in graph.results)
        return Graph(tuple(nodes), results).live()


def _renamed(result: Result, renamed: dict[str, str]) -> Result:
    return replace(result, value=renamed.get(result.value, result.value))


def _key(node: Node) -> object:
    """Equal keys, equal values; a pin of the user's keeps its node apart."""
    return (node.op, node.inputs, node.attrs, node.pin)


def _identity_of(node: Node, graph: Graph) -> str | None:
    """The input that the node merely repeats."""
    if len(node.inputs) != 1 or graph[node.inputs[0]].type != node.type:
        return None
    same = node.op in ("reshape", "slice", "concat", "cast", "add_n", "max_n")
    neutral = node.op == "affine" and node.attrs["scale"] == 1 and node.attrs["shift"] == 0
    return node.inputs[0] if same or neutral else None
