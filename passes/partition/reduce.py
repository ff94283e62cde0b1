"""A cut reduction, rewritten: slices of the inputs, partial results, their combination."""

from __future__ import annotations

from dataclasses import replace

from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs
from dbgraph.ops import op
from dbgraph.passes.partition.choice import Choice, Choices, InnerCut, computes


def apply_choices(graph: Graph, choices: Choices) -> Graph:
    """The graph with every choice in it: cuts on the nodes, cut reductions written out."""
    nodes: list[Node] = []
    for node in graph:
        if not computes(node):
            nodes.append(node)
            continue
        choice = choices[node.name]
        nodes += (
            [replace(node, cut=choice.cut)]
            if choice.inner is None
            else _partials(graph, node, choice, choice.inner)
        )
    return Graph(tuple(nodes), graph.results)


def _partials(graph: Graph, node: Node, choice: Choice, inner: InnerCut) -> list[Node]:
    rule = op(node.op)
    made: list[Node] = []
    parts: list[str] = []
    for k, (cell, cut) in enumerate(inner.cells()):
        name, attrs = f"{node.name}.part{k}", node.attrs
        wholes = [Region.whole(graph[value].type.shape) for value in node.inputs]
        for reduction, bounds in zip(inner.reductions, cell.bounds, strict=True):
            attrs = rule.partial(attrs, reduction, bounds)
        inputs = []
        boxes = inner.restrict(list(wholes), cell)
        for i, (value, box) in enumerate(zip(node.inputs, boxes, strict=True)):
            if box == wholes[i]:
                inputs.append(value)
                continue
            made.append(_slice(graph[value], box, f"{name}.in{i}", node))
            inputs.append(made[-1].name)
        made.append(replace(node, name=name, inputs=tuple(inputs), attrs=attrs, cut=cut))
        parts.append(name)
    made.append(replace(node, op=rule.combine, inputs=tuple(parts), attrs=Attrs(), cut=choice.cut))
    return made


def _slice(value: Node, box: Region, name: str, reader: Node) -> Node:
    return Node(
        name,
        "slice",
        (value.name,),
        value.type.with_shape(box.shape),
        Attrs(start=box.start, stop=tuple(b for _, b in box.bounds)),
        layer=reader.layer,
        source=reader.source,
    )
