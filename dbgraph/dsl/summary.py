"""A network for the eye, and for networkx."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from dbgraph.ir.graph import Graph
from dbgraph.ops import flops_of
from dbgraph.units import count

if TYPE_CHECKING:
    import networkx

    from dbgraph.dsl.network import Network


class Row(NamedTuple):
    """One line of the table."""

    name: str
    kind: str
    shape: tuple[int, ...] | None
    parameters: int
    flops: int


def rows(network: Network) -> list[Row]:
    """Inputs, parameters of no layer, layers, and what the loss adds (penalties excepted, which
    count at the layer whose weights they are of)."""
    graph = network.graph
    flops: dict[str, int] = defaultdict(int)
    parameters: dict[str, int] = defaultdict(int)
    found = []
    for node in graph:
        flops[node.layer] += flops_of(node, graph.input_types(node))
        if node.op == "parameter":
            parameters[node.layer] += node.type.size
        if node.op == "input":
            found.append(Row(node.name, "input", node.type.shape[1:], 0, 0))
    layers = {layer.name: layer for layer in network.layers}
    for node in graph:
        if node.op == "parameter" and node.layer not in layers:
            found.append(
                Row(node.name, "parameter", node.type.shape, node.type.size, flops[node.layer])
            )
    for name, layer in layers.items():
        found.append(Row(name, layer.kind, layer.shape, parameters[name], flops[name]))
    rest = sum(flops.values()) - sum(row.flops for row in found)
    if rest:
        found.append(Row("total loss", "", (), 0, rest))
    return found


def table(network: Network) -> str:
    """The table as text, without colours."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    lines = rows(network)
    title = f"{network.name}: batch {network.batch}, {network.dtype}, seed {network.seed}"
    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_footer=True)
    total = sum(row.parameters for row in lines)
    drawn.add_column("layer", footer="total")
    drawn.add_column("kind")
    drawn.add_column("output per example")
    drawn.add_column("parameters", footer=f"{total:,}", justify="right")
    drawn.add_column(
        "FLOP per batch", footer=count(sum(row.flops for row in lines)), justify="right"
    )
    for row in lines:
        shape = "" if row.shape is None else " × ".join(map(str, row.shape)) or "scalar"
        parameters = f"{row.parameters:,}" if row.parameters else ""
        drawn.add_row(row.name, row.kind, shape, parameters, count(row.flops) if row.flops else "")
    text = io.StringIO()
    Console(file=text, width=160, color_system=None, emoji=False, markup=False).print(drawn)
    return "\n".join(line.rstrip() for line in text.getvalue().split("\n")).strip("\n")


def to_networkx(graph: Graph) -> networkx.MultiDiGraph[Any]:
    """See `Network.to_networkx`."""
    import networkx

    found: networkx.MultiDiGraph[Any] = networkx.MultiDiGraph()
    for node in graph:
        found.add_node(
            node.name,
            op=node.op,
            layer=node.layer,
            shape=node.type.shape,
            dtype=node.type.dtype,
            attrs=dict(node.attrs),
            source=str(node.source or ""),
            partition=node.partition,
        )
        for index, name in enumerate(node.inputs):
            found.add_edge(name, node.name, key=index)
    return found
