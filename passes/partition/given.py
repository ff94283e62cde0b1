"""The strategy `edited`: cuts that are decided already, such as those of a plan edited by hand.

They are the user's own last word: where they contradict a pin of the network (`cut=`,
`dbg.partition`), they hold, and `against_pins` names the nodes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from dbgraph.errors import PlanError
from dbgraph.ir.graph import Cut, Graph, Node, Pin
from dbgraph.ir.types import NO_ATTRS
from dbgraph.ops import op
from dbgraph.passes.partition.choice import (
    Choice,
    Choices,
    InnerCut,
    computes,
    reduced_length,
    reductions_of,
)
from dbgraph.plan.plan import Plan
from dbgraph.suggest import did_you_mean

Bounds = tuple[int, ...]


class CutError(PlanError):
    """A cut that does not fit its node.

    Attributes:
        node: its name, by which the line of the file is found.
    """

    def __init__(self, node: str, rule: str, hint: str = "") -> None:
        super().__init__(f"{node}: {rule}", hint=hint)
        self.node = node


@dataclass(frozen=True)
class Given:
    """Takes the cuts as they are, if they fit.

    A node that has none, since its line was deleted, is cut as its first input of the same shape.

    Attributes:
        choices: by name of node in the graph of one microbatch.
        examples: of the microbatch that they were made for, if that may be another than the
            graph's; along the batch they are stretched to it.
    """

    choices: Choices
    examples: int = 0
    name: str = "edited"

    @staticmethod
    def by(plan: Plan, microbatches: int) -> Given:
        """The cuts of a plan, for so many microbatches. What the `microbatch` pass adds to the
        network depends on their number."""
        same, known = microbatches == plan.microbatches, plan.network.by_name
        kept = {name: choice for name, choice in plan.cuts.items() if same or name in known}
        return Given(kept, plan.microbatch_size)

    def choose(self, graph: Graph, partitions: int) -> Choices:
        """Raises CutError."""
        nodes = {node.name: node for node in graph if computes(node)}
        for name in self.choices:
            if name not in nodes:
                near = did_you_mean(name, nodes) or "delete its line"
                raise CutError(name, "the network computes no node of that name", near)
        found: dict[str, Choice] = {}
        for name, node in nodes.items():
            found[name] = self._choice(graph, node, found)
            _Check(graph, node, partitions).choice(found[name])
        return found

    def _choice(self, graph: Graph, node: Node, found: Choices) -> Choice:
        given = self.choices.get(node.name)
        if given is not None:
            return _stretched(graph, node, given, self.examples)
        for name in node.inputs:
            if name in found and graph[name].type.shape == node.type.shape:
                return Choice(found[name].cut)
        raise CutError(
            node.name, "it has no cut, nor has an input of its shape", "add a line for it"
        )


def _stretched(graph: Graph, node: Node, choice: Choice, examples: int) -> Choice:
    """For the batch that the node has in its graph."""
    shape, inner = node.type.shape, choice.inner

    def bounds(given: Bounds, length: int) -> Bounds:
        if given[-1] != examples or length == examples:
            return given
        return tuple(b * length // examples for b in given)

    def cut(given: Cut) -> Cut:
        if not shape or not given.splits:
            return given
        return Cut((bounds(given.splits[0], shape[0]), *given.splits[1:]), given.partitions)

    if inner is None:
        return Choice(cut(choice.cut))
    splits = tuple(
        bounds(s, reduced_length(graph, node, r)) if r.axes[0][1] == 0 else s
        for r, s in zip(inner.reductions, inner.splits, strict=True)
    )
    partials = tuple(map(cut, inner.partials))
    return Choice(cut(choice.cut), InnerCut(inner.reductions, splits, partials))


@dataclass(frozen=True)
class _Check:
    """Whether a choice fits its node."""

    graph: Graph
    node: Node
    partitions: int

    def choice(self, choice: Choice) -> None:
        rule, types = op(self.node.op), self.graph.input_types(self.node)
        cuttable = rule.cut_axes(self.node.attrs, types)
        if choice.inner is None:
            self.cut(choice.cut, cuttable)
            return
        self.inner(choice.inner)
        for partial in choice.inner.partials:
            self.cut(partial, cuttable)
        combined = (self.node.type,) * len(choice.inner.partials)
        self.cut(choice.cut, op(rule.combine).cut_axes(NO_ATTRS, combined))

    def inner(self, inner: InnerCut) -> None:
        node = self.node
        known = reductions_of(self.graph, node)
        if not op(node.op).combine or any(r not in known for r in inner.reductions):
            raise CutError(node.name, f"a {node.op} can't be cut into partial results so")
        lengths = tuple(reduced_length(self.graph, node, r) for r in inner.reductions)
        self.bounds(inner.splits, lengths, "inner axes")

    def cut(self, cut: Cut, cuttable: Iterable[int]) -> None:
        self.bounds(cut.splits, self.node.type.shape, "axes")
        for axis, pieces in enumerate(cut.pieces):
            if pieces > 1 and axis not in cuttable:
                can = ", ".join(map(str, cuttable)) or "none"
                rule = f"axis {axis} is in {pieces} pieces, but a {self.node.op} can't be cut there"
                raise CutError(self.node.name, rule, f"axes that can be cut: {can}")
        for partition in cut.partitions:
            if partition >= self.partitions:
                rule = f"a tile stands on partition {partition}, but there are {self.partitions}"
                hint = f"they are 0 to {self.partitions - 1}; more with --partitions"
                raise CutError(self.node.name, rule, hint)

    def bounds(self, splits: tuple[Bounds, ...], lengths: tuple[int, ...], what: str) -> None:
        ends = tuple(s[-1] for s in splits)
        if ends != lengths:
            rule = f"its {what} are {_sizes(lengths)} long, the cut is for {_sizes(ends)}"
            raise CutError(self.node.name, rule, "the last bound of an axis is its length")
        for bounds in splits:
            if any(a >= b for a, b in pairwise(bounds)):
                rule = f"{bounds[-1]} examples of a microbatch can't be cut into {len(bounds) - 1}"
                raise CutError(self.node.name, rule, "use fewer microbatches, or fewer pieces")


def _sizes(lengths: tuple[int, ...]) -> str:
    return " × ".join(map(str, lengths)) or "scalar"


def against_pins(network: Graph, choices: Choices) -> list[Node]:
    """The nodes that are cut or placed otherwise than the user's network says."""
    nodes = network.by_name
    return [
        nodes[name]
        for name, choice in choices.items()
        if name in nodes and not _keeps(nodes[name].pin, choice)
    ]


def _inner_pieces(inner: InnerCut | None) -> dict[str, int]:
    if inner is None:
        return {}
    return {r.name: len(s) - 1 for r, s in zip(inner.reductions, inner.splits, strict=True)}


def _keeps(pin: Pin, choice: Choice) -> bool:
    inner = choice.inner
    if pin.partitions and not choice.partitions <= set(pin.partitions):
        return False
    if pin.inner and dict(pin.inner) != _inner_pieces(inner):
        return False
    cuts = inner.partials if inner else (choice.cut,)
    return all(cut.pieces[axis] == n for cut in cuts for axis, n in pin.pieces)
