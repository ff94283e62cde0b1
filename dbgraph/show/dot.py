"""A plan for Graphviz: a cluster per partition, its tiles, and each transfer with its bytes."""

from __future__ import annotations

from collections.abc import Iterator

from dbgraph.ir.graph import Node
from dbgraph.show.digest import Digest
from dbgraph.units import bytes_

_FORWARD, _BACKWARD, _LOCAL = "#0072B2", "#D55E00", "#777777"
_SHAPES = {"parameter": "cylinder", "input": "parallelogram", "clock": "parallelogram"}


def plan_dot(digest: Digest, partition: int | None = None) -> str:
    """DOT text; with a partition its cluster alone, and a node for each peer."""
    return "\n".join(_lines(digest, partition)) + "\n"


def _lines(digest: Digest, partition: int | None) -> Iterator[str]:
    plan = digest.plan
    yield f"digraph {_quoted(plan.name)} {{"
    yield "  rankdir=LR; compound=true;"
    yield '  node [shape=box, fontname="Helvetica", fontsize=10];'
    yield '  edge [fontname="Helvetica", fontsize=9];'
    shown = range(plan.partitions) if partition is None else (partition,)
    members: dict[int | None, list[Node]] = {p: [] for p in range(plan.partitions)}
    for node in plan.graph:
        members[node.partition].append(node)
    for p in shown:
        yield f"  subgraph cluster_{p} {{"
        yield f'    label="partition {p}"; style="rounded,filled"; color="#CCCCCC";'
        yield '    fillcolor="#F7F7F7"; fontname="Helvetica";'
        yield from (_node(digest, node) for node in members[p] if node.op != "send")
        yield "  }"
    for p in shown:
        yield from _local_edges(digest, members[p])
    yield from _transfers(digest, partition)
    yield "}"


def _node(digest: Digest, node: Node) -> str:
    name = _quoted(node.name)
    if node.op == "recv":
        return f'    {name} [shape=point, width=0.08, tooltip="{node.type}"];'
    op = f"vjp of {node.attrs.str('vjp_of')}" if node.op == "vjp" else node.op
    color = _BACKWARD if node.name in digest.backward else "#333333"
    label = f'"{_escaped(node.name)}\\n{op} {node.type}"'
    shape = _SHAPES.get(node.op, "box")
    tooltip = f', tooltip="{_escaped(str(node.source))}"' if node.source else ""
    return f'    {name} [label={label}, shape={shape}, color="{color}"{tooltip}];'


def _local_edges(digest: Digest, nodes: list[Node]) -> Iterator[str]:
    for node in nodes:
        if node.op in ("send", "recv"):
            continue
        for value in dict.fromkeys(node.inputs):
            yield f'  {_quoted(value)} -> {_quoted(node.name)} [color="{_LOCAL}"];'


def _transfers(digest: Digest, partition: int | None) -> Iterator[str]:
    peers: dict[int, None] = {}
    for t in digest.plan.transfers:
        if partition not in (None, t.source, t.to):
            continue
        source, to = _quoted(t.value), _quoted(t.recv)
        if partition is not None and t.source != partition:
            peers[t.source], source = None, f"peer_{t.source}"
        if partition is not None and t.to != partition:
            peers[t.to], to = None, f"peer_{t.to}"
        color = _BACKWARD if t.value in digest.backward else _FORWARD
        label = f"t{t.index}: {bytes_(t.type.size_bytes)}"
        yield f'  {source} -> {to} [label="{label}", color="{color}", penwidth=2];'
    for peer in peers:
        yield f'  peer_{peer} [label="partition {peer}", shape=folder];'


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
