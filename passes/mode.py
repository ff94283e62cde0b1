"""mode: what a plan is for decides which results stay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from dbgraph.errors import NetworkError
from dbgraph.ir.graph import Graph
from dbgraph.plan.plan import MODES

_KEPT = {
    "training": ("loss", "term", "output"),
    "evaluation": ("loss", "term", "output"),
    "inference": ("output",),
}


@dataclass(frozen=True)
class Mode:
    """Training keeps all; evaluation has no dropout; inference has no losses either.

    It runs after `partition`, so that the plans of all modes place the parameters alike.
    """

    mode: str
    name: ClassVar[str] = "mode"
    ensures: ClassVar[str] = "placed"

    def __call__(self, graph: Graph) -> Graph:
        kept = tuple(r for r in graph.results if r.kind in _KEPT[self.mode])
        if not kept:
            what = "output" if self.mode == "inference" else "loss or output"
            raise NetworkError(f"a plan for {self.mode} needs an {what}; the network has none")
        if self.mode == "training" and not any(r.kind == "loss" for r in kept):
            raise NetworkError(
                "a plan for training needs a loss; the network has none",
                hint="add dbg.loss(…), or compile with --mode inference",
            )
        if self.mode != "training":
            graph = _without_dropout(graph)
        return replace(graph, results=kept).live()


def _without_dropout(graph: Graph) -> Graph:
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if node.op == "dropout":
            renamed[node.name] = inputs[0]
        else:
            nodes.append(replace(node, inputs=inputs))
    results = tuple(replace(r, value=renamed.get(r.value, r.value)) for r in graph.results)
    return Graph(tuple(nodes), results)


assert tuple(_KEPT) == MODES
