"""Transfers and their reasons in words."""

from __future__ import annotations

from dbgraph.explain.crossing import Crossing, Edge, Ends
from dbgraph.explain.reasons import ELSEWHERE, GATHER, PARAMETER, SUM
from dbgraph.ir.region import Region
from dbgraph.plan.cuts import print_cuts
from dbgraph.plan.plan import Plan
from dbgraph.show.digest import layer_of
from dbgraph.show.words import describe_region
from dbgraph.units import bytes_


def ends_words(ends: Ends) -> str:
    """`hidden1 → hidden2`."""
    return f"{ends[0]} → {ends[1]}"


def why_words(edge: Edge) -> str:
    """`halo along rows, cols`."""
    joined = ", ".join(edge.axes)
    if not joined:
        return edge.kind
    return f"{edge.kind} {'over' if edge.kind == SUM else 'along'} {joined}"


def size_words(one: Crossing) -> str:
    """`64 KiB × 4`: of one, and times per step."""
    size = bytes_(one.cargo.transfer.type.size_bytes)
    return size if one.times == 1 else f"{size} × {one.times}"


def what_words(plan: Plan, one: Crossing) -> str:
    """Which part of the value crosses."""
    cargo = one.cargo
    region = region_words(plan, cargo.value, cargo.region)
    if cargo.part is None:
        return region
    part = f"part {cargo.part + 1} of {_parts(plan, cargo.value)}"
    return part if region == "all" else f"{part}, {region}"


def reason_words(plan: Plan, one: Crossing) -> str:
    """What the reader needs, and what it has."""
    cargo, reason = one.cargo, one.reason
    if reason.kind == PARAMETER:
        return f"partition {cargo.holder} holds it, partition {cargo.reader} reads it too"
    if reason.kind == SUM:
        return f"put together on partition {cargo.reader}"
    if reason.kind == ELSEWHERE or reason.holds is None:
        return f"partition {cargo.reader} holds nothing of it"
    needs = region_words(plan, cargo.value, reason.needs)
    if reason.kind == GATHER:
        needs = f"all of {', '.join(reason.axes)}"
    holds = region_words(plan, cargo.value, reason.holds)
    return f"partition {cargo.reader} reads {needs}; it holds {holds}"


def cut_lines(plan: Plan, layer: str) -> list[str]:
    """A layer's lines in the plan's file, under `cuts`."""
    named = plan.network.by_name
    mine = {n: c for n, c in plan.cuts.items() if n in named and layer_of(named[n]) == layer}
    return print_cuts(mine, plan.network, plan.batch).split("\n") if mine else []


def region_words(plan: Plan, value: str, region: Region) -> str:
    """A region of a node's value, of one microbatch."""
    node = plan.network.by_name.get(value)
    if node is None:
        return str(region) or "all"
    shape, size = node.type.shape, plan.microbatch_size
    if shape[:1] == (plan.batch,):
        shape = (size, *shape[1:])
    return describe_region(region, shape, size)


def _parts(plan: Plan, value: str) -> int:
    inner = plan.cuts[value].inner
    return len(inner.partials) if inner else 1
