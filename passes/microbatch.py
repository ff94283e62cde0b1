"""microbatch: the graph of one microbatch, of which a step runs several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dbgraph.errors import NoCutError
from dbgraph.ir.graph import NO_PIN, Graph, Node
from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs
from dbgraph.ops import op


@dataclass(frozen=True)
class Microbatch:
    """Restricts the graph to the first `batch / count` examples, by the ops' own regions.

    A sum over the batch becomes a partial sum, so losses and gradients of the microbatches add
    up to the whole batch's. What does not depend on the batch (a penalty) is counted by 1/count.
    """

    batch: int
    count: int
    name: ClassVar[str] = "microbatch"
    ensures: ClassVar[str] = "network"

    def __call__(self, graph: Graph) -> Graph:
        if self.count == 1:
            return graph
        if self.count < 1 or self.batch % self.count:
            raise NoCutError(
                f"a batch of {self.batch} can't be cut into {self.count} equal microbatches",
                hint="give a number that divides the batch",
            )
        return _Restriction(graph, self.batch, self.batch // self.count).run()


class _Restriction:
    """One walk over the graph. A value is "batched" (axis 0 is the batch), "partial" (a sum over
    the batch) or "constant" (independent of it)."""

    def __init__(self, graph: Graph, batch: int, size: int) -> None:
        self.graph, self.batch, self.size = graph, batch, size
        self.kind: dict[str, str] = {}
        self.done: dict[str, Node] = {}

    def run(self) -> Graph:
        for node in self.graph:
            new, kind = self._rewrite(node)
            self.done[node.name] = new
            self.kind[node.name] = kind
        results = []
        for result in self.graph.results:
            new = self.done[result.value]
            if result.kind in ("loss", "term") and self.kind[result.value] == "constant":
                new = self._share(new)
            results.append(replace(result, region=Region.whole(new.type.shape), value=new.name))
        return Graph(tuple(self.done.values()), tuple(results))

    def _rewrite(self, node: Node) -> tuple[Node, str]:
        if node.op == "input":
            return self._restricted(node), "batched"
        kinds = {self.kind[name] for name in node.inputs}
        if "batched" in kinds:
            if self._keeps_batch(node):
                return self._restricted(node), "batched"
            return self._retyped(node), "partial"
        if "partial" in kinds:
            return self._with_shares(node), "partial"
        return node, "constant"

    def _keeps_batch(self, node: Node) -> bool:
        """Whether axis 0 of the output is the batch: its first example needs only the first
        examples of the inputs."""
        if not node.type.shape or node.type.shape[0] != self.batch:
            return False
        region = Region.whole(node.type.shape).replace(0, (0, self.size))
        reads = op(node.op).reads(node.attrs, self.graph.input_types(node), region)
        return all(
            read.bounds[0] == (0, self.size)
            for name, read in zip(node.inputs, reads, strict=True)
            if self.kind[name] == "batched"
        )

    def _restricted(self, node: Node) -> Node:
        region = Region.whole(node.type.shape).replace(0, (0, self.size))
        rule, types = op(node.op), self.graph.input_types(node)
        attrs = rule.localize(node.attrs, types, region)
        # Localized attributes are those of a node that is given just the regions that it reads.
        reads = zip(node.inputs, rule.reads(node.attrs, types, region), strict=True)
        inputs = tuple(self._read(node, i, *read) for i, read in enumerate(reads))
        return self._retyped(replace(node, inputs=inputs), attrs)

    def _read(self, node: Node, index: int, name: str, region: Region) -> str:
        """A region of a value: the value itself where it is all of it."""
        given = self.done[name]
        if region == Region.whole(given.type.shape):
            return name
        part = f"{node.name}/read{index}"
        attrs = Attrs(start=region.start, stop=region.stop)
        self.done[part] = replace(
            given,
            name=part,
            op="slice",
            inputs=(name,),
            attrs=attrs,
            type=given.type.with_shape(region.shape),
            pin=NO_PIN,
            layer=node.layer,
            source=node.source,
        )
        self.kind[part] = self.kind[name]
        return part

    def _retyped(self, node: Node, attrs: Attrs | None = None) -> Node:
        attrs = node.attrs if attrs is None else attrs
        types = tuple(self.done[name].type for name in node.inputs)
        return replace(node, attrs=attrs, type=op(node.op).infer(attrs, types))

    def _with_shares(self, node: Node) -> Node:
        """Where a sum over the batch meets a constant, the constant counts by 1/count."""
        if node.op not in ("add", "subtract", "add_n"):
            return node
        inputs = tuple(
            self._share(self.done[name]).name if self.kind[name] == "constant" else name
            for name in node.inputs
        )
        return replace(node, inputs=inputs)

    def _share(self, node: Node) -> Node:
        name = f"{node.name}/share"
        if name not in self.done:
            attrs = Attrs(scale=self.size / self.batch, shift=0.0)
            self.done[name] = replace(
                node, name=name, op="affine", inputs=(node.name,), attrs=attrs
            )
            self.kind[name] = "constant"
        return self.done[name]
