"""`dbg.Network`: what is declared in its block, and the graph of it afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dbgraph.dsl import checks
from dbgraph.dsl.builder import CLOCK, Builder, enter
from dbgraph.dsl.closing import close
from dbgraph.dsl.declare import input, loss, output, parameter, partition
from dbgraph.dsl.records import LayerInfo
from dbgraph.ir.graph import Graph, Node
from dbgraph.ir.text import print_graph
from dbgraph.ir.types import Attribute, Attrs, TensorType
from dbgraph.source import caller

if TYPE_CHECKING:
    import networkx

__all__ = ["Network", "Parameter", "input", "loss", "output", "parameter", "partition"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a network: its type, and its initialiser such as ("he_normal", 64.0)."""

    type: TensorType
    init: tuple[Attribute, ...]


class Network:
    """A network: what is declared inside its `with` block, and the graph of it afterwards.

    >>> with Network("adder", batch=2) as net:
    ...     output("sum", input("x", (3,)) + 1.0)
    >>> net.outputs
    {'sum': TensorType(shape=(2, 3), dtype='float32')}

    Args:
        name: of the network.
        batch: examples per step.
        seed: of the initial parameters and of dropout.
        dtype: of inputs and parameters, unless an input says another.

    Raises:
        NetworkError: on leaving the block where an input leads nowhere or nothing is computed;
            all other mistakes are reported where they are made. An exception raised inside the
            block leaves it unchanged.
    """

    def __init__(self, name: str, batch: int, seed: int = 0, dtype: str = "float32") -> None:
        self.name = checks.name(name, "the name of a network")
        self.batch = checks.index(batch, "batch")
        self.seed = checks.index(seed, "seed", least=0)
        self.dtype = checks.float_dtype(dtype, "the dtype of a network")
        self._builder = Builder(self.name, self.batch, self.seed, self.dtype, caller())
        self._builder.register(CLOCK, "step counter", self._builder.source)
        self._outer: Builder | None = None
        self._entered = False
        self._graph: Graph | None = None

    def __enter__(self) -> Network:
        self._builder.check_open()
        if self._entered:
            raise checks.fail(f"network {self.name!r} is open already")
        self._entered = True
        self._outer = enter(self._builder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        enter(self._outer)
        try:
            if error is None:
                self._graph = close(self._builder)
        finally:
            self._builder.closed = True

    def __repr__(self) -> str:
        return f"<Network {self.name}: batch {self.batch}, {self.dtype}>"

    @property
    def graph(self) -> Graph:
        """The declared graph. Raises NetworkError before the block is left."""
        if self._graph is None:
            raise checks.fail(
                f"network {self.name!r} is not complete",
                "its graph is there after its `with` block",
            )
        return self._graph

    @cached_property
    def layers(self) -> tuple[LayerInfo, ...]:
        """Every use of a layer that leads to a loss or an output, in order."""
        used = {node.layer for node in self.graph}
        return tuple(layer for layer in self._builder.layers.values() if layer.name in used)

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """Every parameter by its name."""
        return {
            node.attrs.str("of"): Parameter(node.type, node.attrs.tuple("init"))
            for node in self.graph
            if node.op == "parameter"
        }

    @cached_property
    def inputs(self) -> Mapping[str, TensorType]:
        """The type of every input, the batch axis included."""
        return {n.attrs.str("of"): n.type for n in self.graph if n.op == "input"}

    @cached_property
    def outputs(self) -> Mapping[str, TensorType]:
        """The type of every output, the batch axis included."""
        results = [r for r in self.graph.results if r.kind == "output"]
        return {result.name: self.graph[result.value].type for result in results}

    @property
    def text(self) -> str:
        """The graph as text; `dbgraph.ir.text.parse_graph` gives it back."""
        return print_graph(self.graph)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of all that decides what is computed: the graph, batch, seed.

        Where the user's files lie, and the lines in them, are no part of it.
        """
        nodes = tuple(_anonymous(node) for node in self.graph)
        text = print_graph(replace(self.graph, nodes=nodes))
        text = f"batch {self.batch} seed {self.seed}\n{text}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def table(self) -> str:
        """What `summary` prints."""
        from dbgraph.dsl.summary import table

        return table(self)

    def summary(self) -> None:
        """Prints a table of the layers: shapes per example, parameters, FLOPs per batch."""
        print(self.table())

    def to_networkx(self) -> networkx.MultiDiGraph[Any]:
        """The graph for networkx: a node per value; an edge per read, its key the input's index."""
        from dbgraph.dsl.summary import to_networkx

        return to_networkx(self.graph)


def _anonymous(node: Node) -> Node:
    attrs = node.attrs
    if node.op == "custom":
        attrs = Attrs({k: v for k, v in attrs.items() if k not in ("file", "module")})
    return replace(node, source=None, attrs=attrs)
