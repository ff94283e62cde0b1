"""What was measured, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isinf
from statistics import median

from dbgraph.calibrate.fit import Timed
from dbgraph.calibrate.layout import Layout
from dbgraph.calibrate.measure import MachineTimes, Measured
from dbgraph.cluster import Cluster, Link, MachineSpec, Rates
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Run
from dbgraph.profile import Profile
from dbgraph.show.columns import columns
from dbgraph.units import bytes_, count, seconds

_HEAD = ("kind of work", "dtype", "arithmetic", "memory", "start", "samples", "off by")
_LEFT = frozenset({"kind of work", "dtype"})


def measured_table(measured: Measured, cluster: Cluster, layout: Layout) -> str:
    """For each host its rates; then links, and what a step costs besides."""
    parts = [
        _machine(cluster.machines[p], measured[p], layout.hosts.count(host))
        for host, p in enumerate(layout.machines)
    ]
    hosts = set(layout.hosts)
    parts += [_link("within a host", cluster.local)] if len(hosts) < len(layout.hosts) else []
    parts += [_link("between hosts", cluster.link)] if len(hosts) > 1 else []
    parts.append(
        f"a step takes {seconds(cluster.driver_s)} besides, and {seconds(cluster.control_s)} for "
        f"each machine; a busy machine slows the others of its host by {cluster.crowding:.0%}"
    )
    return "\n\n".join(parts)


def profile_table(plan: Plan, profile: Profile) -> str:
    """For each partition its segments: what each computes, how often, and what it takes."""
    rows = []
    for program in plan.programs:
        runs = Counter(i.segment for i in program.instructions if isinstance(i, Run))
        for number, segment in enumerate(program.segments):
            layers = dict.fromkeys(plan.graph[n].layer for n in segment.nodes)
            names = [name for name in layers if name]
            took_s = profile.segment_s(plan.graph, segment) or 0.0
            place = f"{program.partition}", f"s{number}"
            about = " … ".join(dict.fromkeys((names[0], names[-1]))) if names else ""
            rows.append(
                [*place, about, str(len(segment.nodes)), str(runs[number]), seconds(took_s)]
            )
    head = ["partition", "segment", "layers", "nodes", "runs", "takes"]
    return columns(head, rows, left=frozenset({"partition", "segment", "layers"}))


def _machine(spec: MachineSpec, times: MachineTimes, partitions: int) -> str:
    rows = [
        _row(kind, dtype, rates, times.kinds.get((kind, dtype), (times.memory,)))
        for kind, dtype, rates in spec.kinds
    ]
    machines = "1 partition" if partitions == 1 else f"{partitions} partitions"
    return (
        f"{spec.name}: {machines}, {bytes_(spec.memory_bytes)} each, memory "
        f"{count(spec.memory_bytes_s)}B/s, {seconds(spec.dispatch_s)} to start a segment\n\n"
        + columns(_HEAD, rows, left=_LEFT)
    )


def _row(kind: str, dtype: str, rates: Rates, timed: Sequence[Timed]) -> list[str]:
    ratios = [_forecast_s(rates, t) / t.seconds for t in timed]
    off = median(abs(ratio / median(ratios) - 1) for ratio in ratios)  # in a step all are slower
    return [
        kind,
        dtype,
        "" if isinf(rates.flop_s) else f"{count(rates.flop_s)}FLOP/s",
        "" if isinf(rates.memory_bytes_s) else f"{count(rates.memory_bytes_s)}B/s",
        seconds(rates.start_s) if rates.start_s else "",
        str(len(timed)),
        f"{off:.0%}",
    ]


def _forecast_s(rates: Rates, timed: Timed) -> float:
    return rates.start_s + timed.flop / rates.flop_s + timed.traffic_bytes / rates.memory_bytes_s


def _link(where: str, link: Link) -> str:
    line = "" if isinf(link.bytes_s) else f"{count(link.bytes_s)}B/s, "
    return (
        f"{where}: {line}latency {seconds(link.latency_s)}; a message takes "
        f"{seconds(link.message_s)} and {seconds(link.byte_s * 2**20)} per MiB of a core at "
        "either end"
    )
