"""gradient: reverse mode on the tiled graph, by one generic node.

`vjp` is the vector-Jacobian product of a tile by one of its inputs; it stands on its tile's
partition, so backward transfers mirror forward ones. The cotangents of a value are summed where
they arise, then once at the value.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from dbgraph.ir.graph import Graph, Node, Result
from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, Types
from dbgraph.ops import op
from dbgraph.ops.derivative import vjp_attrs
from dbgraph.ops.schema import OpDef


@dataclass(frozen=True)
class Gradient:
    """Adds the backward pass; its results are one gradient per region of a parameter."""

    name: ClassVar[str] = "gradient"
    ensures: ClassVar[str] = "gradient"

    def __call__(self, graph: Graph) -> Graph:
        return _Reverse(graph).run()


class Derivative(NamedTuple):
    """By one input: an op on the inputs of the node that are `given` and on its cotangent.

    Attributes:
        op: empty: the cotangent itself.
    """

    op: str
    attrs: Attrs
    given: tuple[int, ...] = ()


class _Reverse:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.backward: list[Node] = []
        # value → nodes that each hold a part of its cotangent
        self.parts: dict[str, list[Node]] = defaultdict(list)
        self.trained = reached_by_parameters(graph)
        # What tiles of one layer share: op, attributes and types of the inputs. By identity, since
        # attributes that are equal (1 and 1.0) may differ as text; the graph keeps them alive.
        self.known: dict[tuple[str, int, Types], tuple[Derivative, ...]] = {}

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
        results = (*self.graph.results, *gradients)
        live = Graph((*self.graph.nodes, *self.backward), results).live().by_name
        # Tiles that nobody reads stay, with their parameters: plans of all modes hold the same.
        backward = tuple(node for node in self.backward if node.name in live)
        return Graph((*self.graph.nodes, *backward), results)

    def _seed(self, loss: Node) -> None:
        attrs = Attrs(value=1.0, shape=loss.type.shape, dtype=loss.type.dtype)
        self._add(loss, f"{loss.name}'one", "fill", (), attrs, loss)

    def _back(self, node: Node, cotangent: Node) -> None:
        """The part of each input on which a parameter has influence."""
        if not op(node.op).differentiable:
            return
        derivatives = self._derivatives(node)
        for wrt, (name, by_input) in enumerate(zip(node.inputs, derivatives, strict=True)):
            if name not in self.trained:
                continue
            if by_input.op:
                inputs = (*[node.inputs[i] for i in by_input.given], cotangent.name)
                part, attrs = f"{node.name}'{wrt}", by_input.attrs
                self._add(self.graph[name], part, by_input.op, inputs, attrs, node)
            else:
                self.parts[name].append(cotangent)

    def _derivatives(self, node: Node) -> tuple[Derivative, ...]:
        types = self.graph.input_types(node)
        key = (node.op, id(node.attrs), types)
        if key not in self.known:
            self.known[key] = derivatives(op(node.op), node.attrs, types)
        return self.known[key]

    def _add(
        self, value: Node, name: str, op_: str, inputs: tuple[str, ...], attrs: Attrs, at: Node
    ) -> None:
        """A part of the value's cotangent, computed where `at` stands."""
        part = Node(
            name, op_, inputs, value.type, attrs, at.layer, at.source, at.pin, None, at.partition
        )
        self.backward.append(part)
        self.parts[value.name].append(part)

    def _total(self, node: Node) -> Node:
        """The parts summed on each partition, then where the value stands."""
        parts = self.parts[node.name]
        if len(parts) == 1:
            return parts[0]
        by_partition: dict[int | None, list[Node]] = defaultdict(list)
        for part in parts:
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


def derivatives(rule: OpDef, attrs: Attrs, types: Types) -> tuple[Derivative, ...]:
    """By each input: what the op says itself, or its vector-Jacobian product."""
    found = []
    transposes = rule.transposes(attrs, types) or (None,) * len(types)
    for wrt, transposed in enumerate(transposes):
        if transposed is not None:
            found.append(Derivative(transposed.op, transposed.attrs))
        else:
            vjp = vjp_attrs(rule, attrs, types, wrt)
            found.append(Derivative("vjp", vjp, vjp.ints("vjp_given")))
    return tuple(found)


def reached_by_parameters(graph: Graph) -> set[str]:
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
