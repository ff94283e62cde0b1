"""gradient: reverse mode on the tiled graph, by one generic node.

`vjp` is the vector-Jacobian product of a tile by one of its inputs; it stands on its tile's
partition, so backward transfers mirror forward ones. The cotangents of a value are summed where
they arise, then once at the value.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import ClassVar

from dbgraph.ir.graph import Graph, Node, Result
from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs
from dbgraph.ops import op


@dataclass(frozen=True)
class Gradient:
    """Adds the backward pass; its results are one gradient per region of a parameter."""

    name: ClassVar[str] = "gradient"
    ensures: ClassVar[str] = "gradient"

    def __call__(self, graph: Graph) -> Graph:
        return _Reverse(graph).run()


class _Reverse:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.backward: list[Node] = []
        # value → nodes that each hold a part of its cotangent
        self.parts: dict[str, list[Node]] = defaultdict(list)
        self.trained = _reached_by_parameters(graph)

    def run(self) -> Graph:
        for result in self.graph.results:
            if result.kind == "loss":
                self._seed(self.graph[result.value])
        gradients = []
        for node in reversed(self.graph.nodes):
            if node.name not in self.trained or not self.parts[node.name]:
                continue
            cotangent = self._total(node)
            if node.op == "parameter":
                gradients.append(_gradient(node, self._at_home(node, cotangent)))
            else:
                self._back(node, cotangent)
        gradients.reverse()
        return Graph(
            (*self.graph.nodes, *self.backward), (*self.graph.results, *gradients)
        ).live()

    def _seed(self, loss: Node) -> None:
        attrs = Attrs(value=1.0, shape=loss.type.shape, dtype=loss.type.dtype)
        self._add(loss, f"{loss.name}'one", "fill", (), attrs, loss)

    def _back(self, node: Node, cotangent: Node) -> None:
        """One vjp for each input on which a parameter has influence."""
        rule, types = op(node.op), self.graph.input_types(node)
        if not rule.differentiable:
            return
        whole = tuple((t.shape, t.dtype) for t in types)
        transposes = rule.transposes(node.attrs, types) or (None,) * len(types)
        for wrt, (name, transposed) in enumerate(zip(node.inputs, transposes, strict=True)):
            if name not in self.trained:
                continue
            value, part = self.graph[name], f"{node.name}'{wrt}"
            if transposed is None:
                given = rule.vjp_needs(wrt, len(node.inputs))
                attrs = node.attrs.having(
                    vjp_of=node.op, vjp_wrt=wrt, vjp_types=whole, vjp_given=given
                )
                inputs = (*(node.inputs[i] for i in given), cotangent.name)
                self._add(value, part, "vjp", inputs, attrs, node)
            elif transposed.op:
                inputs = (cotangent.name,)
                self._add(value, part, transposed.op, inputs, transposed.attrs, node)
            else:
                self.parts[name].append(cotangent)

    def _add(
        self, value: Node, name: str, op_: str, inputs: tuple[str, ...], attrs: Attrs, at: Node
    ) -> None:
        """A part of the value's cotangent, computed where `at` stands."""
        part = replace(at, name=name, op=op_, inputs=inputs, type=value.type, attrs=attrs, cut=None)
        self.backward.append(part)
        self.parts[value.name].append(part)

    def _total(self, node: Node) -> Node:
        """The parts summed on each partition, then where the value stands."""
        by_partition: dict[int | None, list[Node]] = defaultdict(list)
        for part in self.parts[node.name]:
            by_partition[part.partition].append(part)
        subtotals = [
            self._sum(parts, f"{node.name}'.{partition}")
            for partition, parts in sorted(by_partition.items(), key=lambda item: item[0] or 0)
        ]
        return self._sum(subtotals, f"{node.name}'", node.partition)

    def _at_home(self, node: Node, cotangent: Node) -> Node:
        """A gradient stands where its parameter does, also if only another partition made it."""
        if cotangent.partition == node.partition:
            return cotangent
        home = replace(
            cotangent,
            name=f"{node.name}'",
            op="add_n",
            inputs=(cotangent.name,),
            attrs=Attrs(),
            partition=node.partition,
        )
        self.backward.append(home)
        return home

    def _sum(self, parts: list[Node], name: str, partition: int | None = None) -> Node:
        if len(parts) == 1:
            return parts[0]
        where = parts[0].partition if partition is None else partition
        inputs = tuple(part.name for part in parts)
        total = replace(
            parts[0], name=name, op="add_n", inputs=inputs, attrs=Attrs(), partition=where
        )
        self.backward.append(total)
        return total


def _reached_by_parameters(graph: Graph) -> set[str]:
    """The float values that change with some parameter."""
    reached: set[str] = set()
    for node in graph:
        if node.op == "parameter":
            reached.add(node.name)
        elif not node.type.is_float or not op(node.op).differentiable:
            continue
        elif not reached.isdisjoint(node.inputs):
            reached.add(node.name)
    return reached


def _gradient(parameter: Node, cotangent: Node) -> Result:
    region = Region.at(parameter.attrs.ints("start"), parameter.type.shape)
    return Result("gradient", parameter.attrs.str("of"), region, cotangent.name)
