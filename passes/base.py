"""What a pass is: a frozen dataclass of options, called on a graph, that returns a new graph."""

from __future__ import annotations

from typing import ClassVar, Protocol

from dbgraph.ir.graph import Graph


class Pass(Protocol):
    """One step of the compiler.

    Attributes:
        name: what `--print-after` calls it.
        ensures: the stage (`dbgraph.ir.verify.STAGES`) that its result fulfils; the pipeline
            checks it after every pass.
    """

    name: ClassVar[str]
    ensures: ClassVar[str]

    def __call__(self, graph: Graph) -> Graph:
        """The rewritten graph; the argument stays as it is."""
