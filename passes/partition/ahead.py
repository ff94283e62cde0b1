"""Looking ahead: what a cut costs those who read it.

Cuts of a layer that cost about the same by themselves (rows, strips, maps) differ in what comes
after: halos, sums over the maps.
"""

from __future__ import annotations

from dbgraph.ir.graph import Graph, Node
from dbgraph.passes.partition.choice import Choice, computes, reductions_of
from dbgraph.passes.partition.follow import follow
from dbgraph.passes.partition.traffic import Traffic

_FARTHEST = 32


def ahead_s(traffic: Traffic, node: Node, choice: Choice) -> float:
    """Seconds of the nodes that depend on a node, if each follows its input, up to the next ones
    with weights, these included."""
    trial = Traffic(traffic.graph, traffic.cluster, dict(traffic.cuts))
    trial.decide(node, choice)
    total_s = 0.0
    for reader in readers_ahead(traffic.graph, node):
        followed = follow(trial, reader)
        if followed is None:
            continue
        total_s += trial.price_s(reader, followed)
        trial.decide(reader, followed)
    return total_s


def readers_ahead(graph: Graph, node: Node) -> list[Node]:
    """In topological order; nothing behind a node with weights."""
    reached = {node.name}
    found: list[Node] = []
    start = graph.nodes.index(node) + 1
    for reader in graph.nodes[start:]:
        if reached.isdisjoint(reader.inputs):
            continue
        if computes(reader):
            found.append(reader)
        if not is_heavy(graph, reader):
            reached.add(reader.name)
        if len(found) == _FARTHEST:
            break
    return found


def is_heavy(graph: Graph, node: Node) -> bool:
    """Whether a node sums over products with parameters."""
    weighted = any(graph[name].op == "parameter" for name in node.inputs)
    return weighted and bool(reductions_of(graph, node))
