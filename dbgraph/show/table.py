"""A plan as text: per partition its share, per layer its cut, the forecast."""

from __future__ import annotations

from dbgraph.plan.program import Recv, Run, Send
from dbgraph.show.columns import columns
from dbgraph.show.digest import (
    Digest,
    LayerRow,
    PartitionRow,
)
from dbgraph.show.machines import machines_words
from dbgraph.show.words import example_shape, ranges
from dbgraph.units import bytes_, count, seconds

_LEFT = frozenset({"layer", "output per example", "cut", "partitions", "tile", "region", "value"})


def plan_table(digest: Digest) -> str:
    """What `dbgraph compile` and `dbgraph show` print."""
    parts = [headline(digest), partition_table(digest), layer_table(digest), outlook(digest)]
    return "\n\n".join(parts)


def headline(digest: Digest) -> str:
    """The plan in one line."""
    plan = digest.plan
    batch = f"batch {plan.batch}"
    if plan.microbatches > 1:
        batch += f" in {plan.microbatches} microbatches of {plan.microbatch_size}"
    machines = "1 partition" if plan.partitions == 1 else f"{plan.partitions} partitions"
    return f"{plan.name}: {plan.mode} on {machines}, {batch}, strategy {plan.strategy}"


def partition_table(digest: Digest) -> str:
    """One line per machine; sums below."""
    rows = digest.partitions
    busiest = digest.forecast.busiest
    head = ["partition", "tiles", "parameters", "memory", "FLOP", "bytes in", "bytes out", "busy"]
    body = [_partition(row, row.partition == busiest and len(rows) > 1) for row in rows]
    foot = [
        "total",
        f"{sum(r.tiles for r in rows):,}",
        f"{sum(r.parameters for r in rows):,}",
        bytes_(sum(r.memory_bytes for r in rows)),
        count(sum(r.flop for r in rows)),
        bytes_(sum(r.in_bytes for r in rows)),
        bytes_(sum(r.out_bytes for r in rows)),
        "",
    ]
    return columns(head, body, foot=foot)


def _partition(row: PartitionRow, busiest: bool) -> list[str]:
    return [
        f"* {row.partition}" if busiest else str(row.partition),
        f"{row.tiles:,}",
        f"{row.parameters:,}",
        bytes_(row.memory_bytes),
        count(row.flop),
        bytes_(row.in_bytes),
        bytes_(row.out_bytes),
        seconds(row.busy_s),
    ]


def layer_table(digest: Digest) -> str:
    """One line per layer."""
    training = digest.plan.mode == "training"
    head = ["layer", "output per example", "cut", "partitions", "parameters", "FLOP", "sends"]
    if training:
        head.append("sends back")
    body = [_layer(row, digest.plan.batch, training) for row in digest.layers]
    return columns(head, body, left=_LEFT)


def _layer(row: LayerRow, batch: int, training: bool) -> list[str]:
    found = [
        row.name,
        example_shape(row.shape, batch),
        "; ".join(map(str, row.cuts)) or "whole",
        ranges(row.partitions),
        f"{row.parameters:,}" if row.parameters else "",
        count(row.flop) if row.flop else "",
        bytes_(row.forward_bytes) if row.forward_bytes else "",
    ]
    if training:
        found.append(bytes_(row.backward_bytes) if row.backward_bytes else "")
    return found


def outlook(digest: Digest) -> str:
    """The busiest machine, and the forecast with what it assumes."""
    forecast, plan = digest.forecast, digest.plan
    most = forecast.machines[forecast.busiest]
    lines = []
    if plan.partitions > 1:
        mean = sum(m.busy_s for m in forecast.machines) / len(forecast.machines)
        lines.append(
            f"* busiest machine: partition {forecast.busiest}, busy {seconds(most.busy_s)} a step"
            f" (the mean is {seconds(mean)})"
        )
    rate = count(float(f"{plan.batch / forecast.step_s:.3g}")) if forecast.step_s else "0"
    between = f", {bytes_(digest.traffic_bytes)} between machines" if plan.partitions > 1 else ""
    lines.append(f"forecast: {seconds(forecast.step_s)} a step, {rate} examples/s{between}")
    lines.append(f"          on {machines_words(digest.cluster, digest.cluster_name)}")
    return "\n".join(lines)


def partition_page(digest: Digest, partition: int) -> str:
    """One machine in full: its share, its tiles, what it holds, whom it talks to, its program."""
    row = digest.partitions[partition]
    head = ["partition", "tiles", "parameters", "memory", "FLOP", "bytes in", "bytes out", "busy"]
    parts = [
        headline(digest),
        columns(head, [_partition(row, False)]),
        _tiles(digest, partition),
        _held(digest, partition),
        _peers(digest, partition),
        _program(digest, partition),
    ]
    return "\n\n".join(part for part in parts if part)


def _tiles(digest: Digest, partition: int) -> str:
    rows = [
        [tile.node.name, tile.node.op, digest.words(tile)]
        for tiles in digest.tiles.values()
        for tile in tiles
        if tile.node.partition == partition
    ]
    return columns(["tile", "op", "region"], rows, left=_LEFT | {"op"})


def _held(digest: Digest, partition: int) -> str:
    types = digest.plan.parameter_types
    rows = [
        [leaf.of, str(leaf.region), f"{leaf.region.size:,}"]
        for leaf in digest.plan.leaves("parameter", partition)
        if leaf.of in types
    ]
    head = ["parameter", "held", "elements"]
    return columns(head, rows, left=frozenset(head[:2])) if rows else ""


def _peers(digest: Digest, partition: int) -> str:
    links = digest.forecast.link_bytes
    peers = sorted({p for pair in links if partition in pair for p in pair} - {partition})
    rows = [
        [
            str(peer),
            bytes_(links.get((peer, partition), 0)),
            bytes_(links.get((partition, peer), 0)),
        ]
        for peer in peers
    ]
    return columns(["partition", "bytes in", "bytes out"], rows) if rows else ""


def _program(digest: Digest, partition: int) -> str:
    """The instructions in order, each with what it is about."""
    plan = digest.plan
    program = plan.programs[partition]
    rows = []
    for instruction in program.instructions:
        about = ""
        if isinstance(instruction, Run):
            nodes = program.segments[instruction.segment].nodes
            about = f"{len(nodes)} nodes: {nodes[0]}" + (f" … {nodes[-1]}" if nodes[1:] else "")
        elif isinstance(instruction, Send | Recv):
            t = plan.transfers[instruction.transfer]
            sends = isinstance(instruction, Send)
            peer = f"to partition {t.to}" if sends else f"from partition {t.source}"
            about = f"{t.value}, {bytes_(t.type.size_bytes)}, {peer}"
        rows.append([str(instruction), about])
    head = ["program", "what"]
    return columns(head, rows, left=frozenset(head))
