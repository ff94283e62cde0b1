"""The plan: all programs, with transfers and parameter placement. It is data; opening one runs
nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from dbgraph.ir.graph import Graph, Node, Result
from dbgraph.ir.region import Region
from dbgraph.ir.types import TensorType
from dbgraph.plan.choice import Choices
from dbgraph.plan.program import Program, Transfer

MODES = ("training", "evaluation", "inference")
ORDERS = ("1f1b", "gpipe")
"""Of microbatches: each goes back as soon as it can, or after all have gone forward."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The region of an input or a parameter that one partition holds.

    Attributes:
        node: the leaf's name in the graph.
        of: the input's or the parameter's name in the network.
        region: in the coordinates of one microbatch (inputs) or of the whole (parameters).
    """

    node: str
    of: str
    region: Region
    partition: int


@dataclass(frozen=True)
class Plan:
    """Everything that a backend needs in order to run a network on N partitions.

    Attributes:
        name: of the network.
        fingerprint: of the network; parameters and plans of another one are refused.
        mode: "training" (losses, outputs, gradients, updates), "evaluation" (losses and
            outputs) or "inference" (outputs only).
        batch: examples per step, over all microbatches.
        order: of the microbatches, one of ORDERS.
        seed: of parameters and dropout.
        strategy: which strategy chose the cut.
        network: the uncut graph, as declared.
        cuts: what was decided for each of its nodes; `graph` was made of it.
        graph: the communicating graph: tiles, sends and receives, each with its partition.
    """

    name: str
    fingerprint: str
    mode: str
    partitions: int
    batch: int
    microbatches: int
    order: str
    seed: int
    strategy: str
    network: Graph
    cuts: Choices
    graph: Graph
    transfers: tuple[Transfer, ...]
    programs: tuple[Program, ...]

    @property
    def microbatch_size(self) -> int:
        """Examples per microbatch."""
        return self.batch // self.microbatches

    @cached_property
    def input_types(self) -> Mapping[str, TensorType]:
        """The network's inputs, with the whole batch as axis 0."""
        return {n.attrs.str("of"): n.type for n in self.network if n.op == "input"}

    @cached_property
    def read_inputs(self) -> tuple[str, ...]:
        """The names of those that some partition reads."""
        found = {leaf.of for p in range(self.partitions) for leaf in self.leaves("input", p)}
        return tuple(sorted(found))

    @cached_property
    def parameter_types(self) -> Mapping[str, TensorType]:
        return {n.attrs.str("of"): n.type for n in self.network if n.op == "parameter"}

    @cached_property
    def outputs(self) -> Mapping[str, TensorType]:
        """The network's outputs, with the whole batch as axis 0."""
        return {
            r.name: self.network[r.value].type for r in self.network.results if r.kind == "output"
        }

    def leaves(self, op: str, partition: int) -> tuple[Leaf, ...]:
        """The regions of inputs (`op="input"`) or parameters that a partition holds."""
        return self._leaves.get((op, partition), ())

    @cached_property
    def _leaves(self) -> Mapping[tuple[str, int], tuple[Leaf, ...]]:
        found: dict[tuple[str, int], list[Leaf]] = {}
        for node in self.graph:
            if node.op in ("input", "parameter"):
                assert node.partition is not None
                found.setdefault((node.op, node.partition), []).append(_leaf(node, node.partition))
        return {key: tuple(leaves) for key, leaves in found.items()}

    def results(self, partition: int) -> tuple[Result, ...]:
        """What leaves the graph on one partition."""
        return self._results.get(partition, ())

    @cached_property
    def _results(self) -> Mapping[int, tuple[Result, ...]]:
        found: dict[int, list[Result]] = {}
        for result in self.graph.results:
            partition = self.graph[result.value].partition
            assert partition is not None
            found.setdefault(partition, []).append(result)
        return {p: tuple(results) for p, results in found.items()}

    # A plan shows itself. The drawings stand above it, and are loaded when they are asked for.

    def to_html(self) -> str:
        """One self-contained page, forecast on equal machines of the documented default;
        `dbgraph show --html` offers more."""
        from dbgraph.show.page.plan import plan_page

        return plan_page(self)

    def _repr_html_(self) -> str:
        """For notebooks: the page in a frame."""
        from dbgraph.show.page.plan import plan_frame

        return plan_frame(self)

    def _repr_svg_(self) -> str:
        """For notebooks that take pictures only."""
        from dbgraph.show.page.plan import plan_picture

        return plan_picture(self)


def _leaf(node: Node, partition: int) -> Leaf:
    region = Region.at(node.attrs.ints("start"), node.type.shape)
    return Leaf(node.name, node.attrs.str("of"), region, partition)
