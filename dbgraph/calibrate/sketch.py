"""Plans that are made by hand, node by node and instruction by instruction, to be timed.

They run on the same workers, by the same road, as the plans of a network: what is measured is what
a step will pay. An instruction may stand in a program many times over: the difference between two
such plans is its cost, without that of the step around it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from dbgraph.ir.graph import Graph, Node, Result
from dbgraph.ir.region import Region
from dbgraph.ir.types import NO_ATTRS, Attrs, TensorType
from dbgraph.ops import infer_node
from dbgraph.plan.derive import segments_of, transfers_of
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Instruction, Program, Recv, Run, Segment, Send

_SCALAR = TensorType((), "float32")


class Sketch:
    """A plan under construction. Parameters are values that lie on a partition from the start."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._nodes: list[Node] = []
        self._results: list[Result] = []
        self._types: dict[str, TensorType] = {}
        self._segments: list[list[tuple[str, ...]]] = [[] for _ in range(partitions)]
        self._instructions: list[list[Instruction]] = [[] for _ in range(partitions)]
        self._transfers: dict[str, int] = {}

    def parameter(self, partition: int, type_: TensorType, number: int = 0) -> str:
        """A value; the same one where partition, type and number are the same, in all plans."""
        shape = ".".join(map(str, type_.shape))
        name = f"p{partition}.{type_.dtype}.{shape}.{number}"
        attrs = Attrs(of=name, start=(0,) * type_.rank, shape=type_.shape, dtype=type_.dtype)
        attrs = attrs.having(init=("uniform", 0.5, 1.5))
        return self._add(Node(name, "parameter", (), type_, attrs, partition=partition))

    def node(self, partition: int, op: str, inputs: Sequence[str], attrs: Attrs = NO_ATTRS) -> str:
        """One op; it is computed by a `run` that names it."""
        name = f"{op}.{len(self._nodes)}"
        node = Node(name, op, tuple(inputs), _SCALAR, attrs, partition=partition)
        type_ = infer_node(node, tuple(self._types[name] for name in inputs))
        return self._add(Node(name, op, node.inputs, type_, attrs, partition=partition))

    def _add(self, node: Node) -> str:
        if node.name not in self._types:
            self._nodes.append(node)
            self._types[node.name] = node.type
        return node.name

    def graft(self, partition: int, graph: Graph, segment: Segment) -> tuple[str, ...]:
        """The nodes of a plan's segment, on parameters of the types that it reads; their names."""
        counts: Counter[TensorType] = Counter()
        names: dict[str, str] = {}
        for name in segment.inputs:
            type_ = graph[name].type
            names[name] = self.parameter(partition, type_, counts[type_])
            counts[type_] += 1
        for name in segment.nodes:
            node = graph[name]
            inputs = tuple(names[n] for n in node.inputs)
            names[name] = f"{node.op}.{len(self._nodes)}"
            made = Node(names[name], node.op, inputs, node.type, node.attrs, partition=partition)
            self._add(made)
        return tuple(names[name] for name in segment.nodes)

    def run(self, partition: int, nodes: Sequence[str], times: int = 1) -> None:
        """Nodes as one segment, computed so many times."""
        number = len(self._segments[partition])
        self._segments[partition].append(tuple(nodes))
        self._instructions[partition] += [Run(number)] * times

    def repeat(self, partition: int, times: int) -> None:
        """All that a partition does so far, so many times."""
        self._instructions[partition] *= times

    def move(self, source: int, to: int, value: str) -> str:
        """Sends a value; `arrive` waits for it."""
        send = f"{value}>{to}"
        type_ = self._types[value]
        self._add(Node(send, "send", (value,), type_, Attrs(to=to), partition=source))
        recv = Node(f"{value}@{to}", "recv", (send,), type_, Attrs(source=source), partition=to)
        self._instructions[source].append(Send(len(self._transfers)))
        self._transfers[recv.name] = len(self._transfers)
        return self._add(recv)

    def arrive(self, partition: int, value: str) -> None:
        """Waits for what `move` gave."""
        self._instructions[partition].append(Recv(self._transfers[value]))

    def total(self, partition: int, value: str) -> str:
        """The sum of a value, in a segment of its own where it is no scalar already."""
        axes = tuple(range(self._types[value].rank))
        total = value
        if axes:
            total = self.node(partition, "sum", (value,), Attrs(axes=axes, keepdims=False))
            self.run(partition, (total,))
        return total

    def end_with(self, *totals: str) -> None:
        """Scalars: a step is over when they are there."""
        for number, total in enumerate(totals):
            kind, name = ("term", f"loss{number}") if number else ("loss", "loss")
            self._results.append(Result(kind, name, Region.whole(()), total))

    def keep(self, values: Iterable[str]) -> None:
        """Values that the compiler must not leave out."""
        for value in dict.fromkeys(values):
            region = Region.whole(self._types[value].shape)
            self._results.append(Result("output", value, region, value))

    def take_parameters(self, graph: Graph) -> None:
        """All parameters of another plan."""
        for node in graph:
            if node.op == "parameter":
                self._add(node)

    def plan(self) -> Plan:
        graph = Graph(tuple(self._nodes), tuple(self._results))
        leaves = (n for n in self._nodes if n.op == "parameter")
        network = Graph(tuple(Node(n.name, n.op, (), n.type, n.attrs) for n in leaves))
        place = {node.name: k for k, node in enumerate(graph)}
        groups = [[place[name] for name in names] for of in self._segments for names in of]
        segments = iter(segments_of(graph, groups))
        programs = tuple(
            Program(p, tuple(islice(segments, len(of))), tuple(instructions))
            for p, (of, instructions) in enumerate(
                zip(self._segments, self._instructions, strict=True)
            )
        )
        return Plan(
            name="calibration",
            fingerprint="calibration",
            mode="evaluation",
            partitions=self.partitions,
            batch=1,
            microbatches=1,
            seed=0,
            strategy="calibration",
            order="1f1b",
            network=network,
            cuts={},
            graph=graph,
            transfers=transfers_of(graph),
            programs=programs,
        )
