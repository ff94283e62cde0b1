"""The rules of a graph, at each stage of the road.

It needs the ops' own rules, so it stands above `dbgraph.ops`, and `dbgraph.ir` does not load it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from dbgraph.errors import PlanError
from dbgraph.ir.graph import Cut, Graph, Node, Result, Signature
from dbgraph.ir.text import NAME
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import OPS
from dbgraph.ops.schema import OpDef, OpError

RESULT_KINDS = ("loss", "term", "output", "gradient")
_MADE = frozenset({"assemble", "vjp", "send", "recv"})


@dataclass(frozen=True, slots=True)
class Stage:
    """What is legal between two passes.

    Attributes:
        doc: the stage in words.
        made: of the ops that only passes make, those that may occur.
        views: whether slices and concatenations may occur.
        placed: whether every computed node has a cut; None where cuts are not looked at.
        tiled: whether every node stands on one partition.
        apart: whether every edge but that from a send to its recv stays on one partition.
    """

    doc: str
    made: frozenset[str] = frozenset()
    views: bool = True
    placed: bool | None = None
    tiled: bool = False
    apart: bool = False


STAGES: Mapping[str, Stage] = {
    "network": Stage("what the user declared", placed=False),
    "placed": Stage("every computed node has a cut", placed=True),
    "tiled": Stage(
        "every node is a tile on one partition", frozenset({"assemble"}), views=False, tiled=True
    ),
    "gradient": Stage(
        "tiles and their vector-Jacobian products",
        frozenset({"assemble", "vjp"}),
        views=False,
        tiled=True,
    ),
    "communicating": Stage(
        "what crosses is sent and received", _MADE, views=False, tiled=True, apart=True
    ),
}


def verify(graph: Graph, stage: str) -> None:
    """Holds a graph against the rules of a stage of `STAGES`.

    Raises:
        PlanError: the first rule that is broken, with the values, the node and the user's line.
    """
    if stage not in STAGES:
        raise PlanError(f"there is no stage {stage!r}; the stages are {', '.join(STAGES)}")
    _Check(graph, stage).run()


class _Check:
    """One walk over a graph."""

    def __init__(self, graph: Graph, stage: str) -> None:
        self.graph, self.name, self.stage = graph, stage, STAGES[stage]
        self.cuttable: dict[Signature, tuple[int, ...]] = {}
        self.sent: set[tuple[str, int]] = set()

    def run(self) -> None:
        self.check_names()
        graph = self.graph
        if graph.misread:
            reader, rule = graph.misread
            raise self.fail(reader, f"it {rule}")
        self.check_moved()
        self.check_types()
        self.check_places()
        if self.stage.placed is not None:
            for node in graph.nodes:
                self.check_cut(node, self.rule_of(node))
        if self.stage.apart:
            self.check_edges()
        for result in graph.results:
            self.check_result(result)

    def fail(self, node: Node, rule: str, hint: str = "") -> PlanError:
        where = f" of layer {node.layer}" if node.layer else ""
        return PlanError(
            f"{self.name} graph: {node.op} %{node.name}{where}: {rule}", at=node.source, hint=hint
        )

    def check_names(self) -> None:
        """All at once; one by one only where one is wrong."""
        names = [node.name for node in self.graph.nodes]
        spelt = all(names) and NAME.fullmatch("".join(names) or "a")
        if spelt and len(self.graph.positions) == len(names):
            return
        for i, node in enumerate(self.graph.nodes):
            if self.graph.positions[node.name] != i:
                raise self.fail(node, "its name is used twice; each value needs its own")
            if not NAME.fullmatch(node.name):
                raise self.fail(node, f"{node.name!r} is no name: it must match {NAME.pattern}")

    def rule_of(self, node: Node) -> OpDef:
        rule = OPS.get(node.op)
        if rule is None:
            raise self.fail(node, f"there is no op {node.op!r}")
        if node.op in _MADE and node.op not in self.stage.made:
            raise self.fail(node, f"a {node.op} must not occur at this stage ({self.stage.doc})")
        if rule.view and not self.stage.views:
            raise self.fail(node, "views are resolved when their readers are tiled; none may stay")
        return rule

    def check_types(self) -> None:
        """Tiles repeat their layer's shapes: each case is looked at once."""
        seen: set[Signature] = set()
        for name, signature in self.graph.signatures.items():
            if signature not in seen:
                self.check_inferred(self.graph.by_name[name], signature.inputs)
                seen.add(signature)

    def check_moved(self) -> None:
        """Sends and recvs. What their ops' rules say of a type they say of all: so their attributes
        are looked at once, and that they give what they take."""
        nodes, seen = self.graph.nodes, set[tuple[str, Attrs]]()
        for node, read in zip(nodes, self.graph.sources, strict=True):
            if node.op not in ("send", "recv"):
                continue
            kept = len(read) == 1 and nodes[read[0]].type == node.type
            if not kept or (node.op, node.attrs) not in seen:
                self.check_inferred(node, tuple([nodes[i].type for i in read]))
                seen.add((node.op, node.attrs))

    def check_inferred(self, node: Node, types: Types) -> None:
        expected = self.infer(node, self.rule_of(node), types)
        if expected != node.type:
            raise self.fail(node, f"its type is {node.type}, but its op gives {expected}")

    def infer(self, node: Node, rule: OpDef, types: Types) -> TensorType:
        try:
            return rule.infer(node.attrs, types)
        except OpError as error:
            raise self.fail(node, str(error)) from error
        except (KeyError, AssertionError, TypeError, ValueError, IndexError) as error:
            # An edited plan: attributes that the op's own rule could not even read.
            given = ", ".join(map(str, types)) or "none"
            raise self.fail(
                node, f"its attributes {node.attrs} do not fit the op with inputs {given}"
            ) from error

    def check_places(self) -> None:
        places = {node.partition for node in self.graph.nodes}
        if not self.stage.tiled and places != {None}:
            node = next(node for node in self.graph.nodes if node.partition is not None)
            raise self.fail(node, f"it stands on partition {node.partition} before it is a tile")
        if self.stage.tiled and any(place is None or place < 0 for place in places):
            node = next(n for n in self.graph.nodes if n.partition is None or n.partition < 0)
            raise self.fail(node, f"its partition is {node.partition}; it must be 0 or more")

    def check_cut(self, node: Node, rule: OpDef) -> None:
        if node.cut is None:
            if self.stage.placed and node.inputs and not rule.view:
                raise self.fail(node, "it has no cut")
            return
        if not self.stage.placed:
            raise self.fail(node, "it has a cut before the partition pass")
        broken = _broken_cut(node.cut, node.type)
        if broken:
            raise self.fail(node, broken)
        signature = self.graph.signatures[node.name]
        if signature not in self.cuttable:
            self.cuttable[signature] = rule.cut_axes(node.attrs, signature.inputs)
        for axis, pieces in enumerate(node.cut.pieces):
            if pieces > 1 and axis not in self.cuttable[signature]:
                raise self.fail(node, f"axis {axis} is in {pieces} pieces, but it can't be cut")

    def check_edges(self) -> None:
        nodes = self.graph.nodes
        places = [node.partition for node in nodes]
        sends = {i for i, node in enumerate(nodes) if node.op == "send"}
        for node, read in zip(nodes, self.graph.sources, strict=True):
            if node.op == "recv":
                self.check_recv(node, nodes[read[0]])
                continue
            for i in read:
                if i in sends or places[i] != node.partition:
                    raise self.apart(node, nodes[i])
            if node.op == "send":
                self.check_send(node)

    def apart(self, node: Node, value: Node) -> PlanError:
        if value.op == "send":
            return self.fail(node, f"it reads the send %{value.name}; only a recv may")
        return self.fail(
            node,
            f"it stands on partition {node.partition} and reads %{value.name} of partition "
            f"{value.partition} without a send and a recv",
        )

    def check_send(self, node: Node) -> None:
        to, value = node.attrs.int("to"), node.inputs[0]
        if to == node.partition:
            raise self.fail(node, f"it sends from partition {node.partition} to {to}")
        if (value, to) in self.sent:
            raise self.fail(node, f"%{value} is sent to partition {to} twice; once is enough")
        self.sent.add((value, to))

    def check_recv(self, node: Node, send: Node) -> None:
        if send.op != "send":
            raise self.fail(node, f"it receives %{send.name}, which is a {send.op}, not a send")
        if send.attrs["to"] != node.partition:
            raise self.fail(
                node,
                f"it stands on partition {node.partition}, but %{send.name} sends to "
                f"{send.attrs['to']}",
            )
        if node.attrs["source"] != send.partition:
            raise self.fail(
                node,
                f"it expects partition {node.attrs['source']}, but %{send.name} stands on "
                f"{send.partition}",
            )

    def check_result(self, result: Result) -> None:
        what = f"{self.name} graph: result {result.kind} {result.name}"
        if result.kind not in RESULT_KINDS:
            raise PlanError(f"{what}: its kind is none of {', '.join(RESULT_KINDS)}")
        node = self.graph.by_name.get(result.value)
        if node is None:
            raise PlanError(f"{what}: its value %{result.value} is defined nowhere")
        if result.region.shape != node.type.shape:
            raise PlanError(
                f"{what}: its region [{result.region}] does not fit %{node.name} of {node.type}",
                at=node.source,
            )
        if result.kind == "loss" and node.type.shape:
            raise PlanError(f"{what}: it must be a scalar, not {node.type}", at=node.source)


def _broken_cut(cut: Cut, type_: TensorType) -> str:
    """What is wrong with the form of a cut; empty where nothing is."""
    if len(cut.splits) != type_.rank:
        return f"its cut has {len(cut.splits)} axes, its type {type_} has {type_.rank}"
    for axis, (bounds, length) in enumerate(zip(cut.splits, type_.shape, strict=True)):
        rising = all(a < b for a, b in pairwise(bounds))
        if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != length or not rising:
            return f"axis {axis} is cut at {bounds}; bounds must rise from 0 to {length}"
    if len(cut.partitions) != cut.count:
        return f"its cut has {cut.count} tiles, but names {len(cut.partitions)} partitions"
    if any(p < 0 for p in cut.partitions):
        return f"its tiles stand on partitions {cut.partitions}; they must be 0 or more"
    return ""
