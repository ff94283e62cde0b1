"""What `dbgraph explain` prints."""

from __future__ import annotations

from collections.abc import Sequence

from dbgraph.explain.crossing import Crossing, Edge, Ends, crossings, edges, node_edges
from dbgraph.explain.loads import Load, Loads
from dbgraph.explain.others import Other, Others, others
from dbgraph.explain.reasons import KINDS
from dbgraph.explain.words import (
    cut_lines,
    ends_words,
    reason_words,
    size_words,
    what_words,
    why_words,
)
from dbgraph.plan.plan import Plan
from dbgraph.show.columns import columns
from dbgraph.show.digest import Digest, LayerRow, layer_of
from dbgraph.show.table import headline, outlook
from dbgraph.show.words import example_shape, ranges
from dbgraph.units import bytes_, seconds

# Longer lists are cut short; --json holds them whole.
_LINES, _TRANSFERS = 24, 6
_LEAST = 0.01
_LEFT = frozenset({"what", "layer", "partitions", "edge", "why", "cut"})


# The plan


def plan_page(digest: Digest) -> str:
    """What bounds the step, and what crosses."""
    loads = Loads(digest.plan, digest.cluster)
    parts = [headline(digest), _busiest(digest, loads), _critical(digest, loads), _edges(digest)]
    return "\n\n".join([*(part for part in parts if part), outlook(digest)])


def _busiest(digest: Digest, loads: Loads) -> str:
    p, step = digest.forecast.busiest, seconds(digest.forecast.step_s)
    title = f"partition {p} is the busiest; so it spends a step of {step}"
    return f"{title}\n\n{_shares(loads.of_machine(p), one=True)}"


def _critical(digest: Digest, loads: Loads) -> str:
    """On one machine it is the same again."""
    found = loads.critical()
    if digest.plan.partitions == 1 or not found:
        return ""
    title = "the chain of work and messages that makes the step no shorter"
    return f"{title}\n\n{_shares(found)}"


def _shares(found: Sequence[Load], one: bool = False) -> str:
    """What takes less than 1 % is summed up.

    Args:
        one: whether all are of one machine.
    """
    total = sum(load.seconds for load in found)
    shown = [load for load in found if load.seconds >= _LEAST * total][:_LINES]
    rest_s = total - sum(load.seconds for load in shown)
    if rest_s > _LEAST * _LEAST * total:
        shown.append(Load("all else", "", rest_s, ()))
    rows = [
        [
            load.what,
            load.layer,
            *([] if one else [ranges(load.machines)]),
            seconds(load.seconds),
            f"{load.seconds / total:.0%}",
        ]
        for load in shown
        if total
    ]
    where = [] if one else ["partitions"]
    return columns(["what", "layer", *where, "in a step", "share"], rows, left=_LEFT)


def _edges(digest: Digest) -> str:
    found = edges(crossings(digest.plan))
    if not found:
        return "nothing crosses between machines"
    rows = [
        [
            ends_words(edge.ends),
            why_words(edge),
            _bytes(edge.forward),
            _bytes(edge.backward),
            f"{edge.messages:,}",
        ]
        for edge in found[:_LINES]
    ]
    table = columns(["edge", "why", "forward", "back", "messages"], rows, left=_LEFT)
    kinds = [f"{kind}: {KINDS[kind]}" for kind in dict.fromkeys(e.kind for e in found[:_LINES])]
    title = "what crosses between machines in a step, the heaviest first"
    return f"{title}\n\n{table}\n{_more(len(found) - _LINES)}\n" + "\n".join(kinds)


# One layer, one edge, one transfer


def layer_page(digest: Digest, layer: str) -> str:
    """How a layer is cut, what crosses to and from it, what another cut would have cost."""
    plan = digest.plan
    row = next((row for row in digest.layers if row.name == layer), None)
    if row is None:
        return f"{layer}: an input; each machine is fed what it reads of it, and nothing crosses"
    found = node_edges(one for one in crossings(plan) if layer in one.ends)
    others_ = others(plan, layer, digest.cluster)
    parts = [_layer(digest, row), _cuts(plan, layer), *_crossing(plan, found, layer)]
    return "\n\n".join([*(part for part in parts if part), _others(layer, others_)])


def edge_page(digest: Digest, ends: Ends) -> str:
    """What crosses from one layer to another, and back."""
    found = node_edges(one for one in crossings(digest.plan) if one.ends == ends)
    if not found:
        return f"{ends_words(ends)}: nothing crosses; each machine holds what it reads"
    return "\n\n".join([ends_words(ends), *_crossing(digest.plan, found)])


def transfer_page(digest: Digest, index: int) -> str:
    """One transfer."""
    plan = digest.plan
    one = crossings(plan)[index]
    cargo, t = one.cargo, one.cargo.transfer
    gradient = "gradient of " if cargo.backward else ""
    rows = {
        "value": f"{gradient}{cargo.value}, {what_words(plan, one)}",
        "edge": _edge_words(one),
        "why": f"{why_words(Edge((one,)))}: {reason_words(plan, one)}",
        "size": f"{size_words(one)} a step, {t.type}",
        "way": f"partition {t.source} → partition {t.to}",
    }
    return f"t{index}\n" + "\n".join(f"  {name:<5}  {text}" for name, text in rows.items())


def _layer(digest: Digest, row: LayerRow) -> str:
    source = next((n.source for n in digest.plan.network if layer_of(n) == row.name), None)
    cut = "; ".join(map(str, row.cuts)) or "whole"
    shape = example_shape(row.shape, digest.plan.batch)
    return (
        f"{row.name}: {row.op}, {shape} per example{f', {source}' if source else ''}\n"
        f"cut: {cut}, on partition{'s'[: len(row.partitions) - 1]} {ranges(row.partitions)}"
    )


def _cuts(plan: Plan, layer: str) -> str:
    lines = cut_lines(plan, layer)
    return "in the plan's file, under cuts:\n" + _indented(lines) if lines else ""


def _crossing(plan: Plan, found: Sequence[Edge], layer: str = "") -> list[str]:
    """A paragraph for each edge between nodes: first what comes in."""
    if not found:
        return ["nothing crosses to it or from it: each machine holds what it reads"]
    ordered = sorted(found, key=lambda edge: (_way(edge, layer), -edge.bytes_))
    return [_edge(plan, edge) for edge in ordered[:_LINES]]


def _way(edge: Edge, layer: str) -> int:
    """In, within, out."""
    source, to = edge.ends
    return 1 if source == to else 0 if to == layer else 2


def _edge(plan: Plan, edge: Edge) -> str:
    forward, backward = edge.forward, edge.backward
    one = edge.transfers[0]
    lines = [f"{_edge_words(one)}: {why_words(edge)}"]
    rows = [
        [
            f"t{one.cargo.transfer.index}",
            f"{one.cargo.transfer.source} → {one.cargo.transfer.to}",
            size_words(one),
            what_words(plan, one),
            reason_words(plan, one),
        ]
        for one in sorted(forward.transfers, key=lambda one: -one.bytes_)[:_TRANSFERS]
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)] if rows else []
    lines += ["  ".join([*map(str.ljust, row[:4], widths), row[4]]) for row in rows]
    total = f"{_transfers(forward)} forward, {bytes_(forward.bytes_)} a step"
    if backward.transfers:
        first = backward.transfers[0].cargo.transfer.index
        total += f"; {_transfers(backward)} back (t{first}, …), {bytes_(backward.bytes_)}"
    return lines[0] + "\n" + _indented([*lines[1:], total])


def _transfers(edge: Edge) -> str:
    count = len(edge.transfers)
    return "1 transfer" if count == 1 else f"{count:,} transfers"


def _edge_words(one: Crossing) -> str:
    """The nodes, and the lines of the user's file."""
    value, reader = one.cargo.value, one.reason.reader
    a, b = one.sources
    lines = "" if a is None or b is None else f" ({a})" if a == b else f" ({a} → {b})"
    return f"{value}{lines}" if value == reader else f"{value} → {reader}{lines}"


def _others(layer: str, found: Others | None) -> str:
    if found is None:
        return f"{layer} can be cut in no other way"
    rows = [_other(other, found.now) for other in (found.now, *found.best)]
    if found.simulated:
        title, figure = f"{found.node} cut otherwise, all other layers as they are", "a step"
    else:
        title = f"{found.node} cut otherwise; the plan is too large to simulate each: its price"
        figure = "by itself"
    head = ["cut", figure, "", "between machines"]
    return f"{title}\n\n{columns(head, rows, left=_LEFT)}"


def _other(other: Other, now: Other) -> list[str]:
    if other.step_s is None or now.step_s is None or other.traffic_bytes is None:
        times, against = seconds(other.price_s), other.price_s / now.price_s - 1
    else:
        times, against = seconds(other.step_s), other.step_s / now.step_s - 1
    traffic = bytes_(other.traffic_bytes) if other.traffic_bytes is not None else ""
    return [other.cut, times, "as it is" if other is now else f"{against:+.1%}", traffic]


def _bytes(edge: Edge) -> str:
    return bytes_(edge.bytes_) if edge.transfers else ""


def _more(count: int) -> str:
    return f"and {count:,} lighter ones, see --json\n" if count > 0 else ""


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"  {line}" for line in lines)
