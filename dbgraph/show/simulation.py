"""A simulated step as text: what each machine does and waits for, the heaviest links."""

from __future__ import annotations

from heapq import nlargest
from math import inf

from dbgraph.cluster import Cluster, Link
from dbgraph.plan.plan import Plan
from dbgraph.show.columns import columns
from dbgraph.show.digest import layer_of
from dbgraph.simulate import Cause, Forecast, MachineForecast
from dbgraph.units import bytes_, seconds

_HEAD = (
    *("partition", "compute", "messages", "idle", "waits most for", "line out", "line in"),
    *("memory", "limit"),
)
_LINKS = 5


def machine_table(plan: Plan, forecast: Forecast, cluster: Cluster) -> str:
    """One line per machine; * marks the busiest, ! what does not fit."""
    rows = [
        _machine(plan, forecast, p, cluster.machines[p].memory_bytes)
        for p in range(plan.partitions)
    ]
    return columns(_HEAD, rows, left=frozenset({"waits most for"}))


def _machine(plan: Plan, forecast: Forecast, partition: int, limit_bytes: float) -> list[str]:
    one = forecast.machines[partition]
    busiest = partition == forecast.busiest and plan.partitions > 1
    return [
        f"* {partition}" if busiest else str(partition),
        seconds(one.compute_s),
        seconds(one.send_s + one.receive_s),
        seconds(one.idle_s),
        _reason(plan, forecast, one),
        seconds(one.out_s),
        seconds(one.in_s),
        f"! {bytes_(one.peak_bytes)}" if one.peak_bytes > limit_bytes else bytes_(one.peak_bytes),
        bytes_(limit_bytes) if limit_bytes < inf else "none",
    ]


def _reason(plan: Plan, forecast: Forecast, one: MachineForecast) -> str:
    """What most of its idle time is spent on."""
    over_s = forecast.step_s - one.end_s
    if one.causes and one.causes[0].wait_s >= over_s:
        return _cause(plan, one.causes[0])
    return f"nothing: it has ended, {seconds(over_s)}" if over_s > 0.0 else ""


def _cause(plan: Plan, cause: Cause) -> str:
    if cause.peer >= plan.partitions:
        return f"{_name(plan, cause.peer)}, {seconds(cause.wait_s)}"
    layer = layer_of(plan.graph[plan.transfers[cause.transfer].value])
    return f"{cause.peer}: {layer}, {seconds(cause.wait_s)}"


def link_table(plan: Plan, forecast: Forecast, cluster: Cluster) -> str:
    """The pairs of machines between which most bytes cross; "" where none do."""
    links = forecast.link_bytes
    if not links:
        return ""
    most = nlargest(_LINKS, links, key=lambda pair: (links[pair], -pair[0], -pair[1]))
    rows = [
        [
            f"{_name(plan, a)} → {_name(plan, b)}",
            bytes_(links[a, b]),
            f"{forecast.link_messages[a, b]:,}",
            seconds(links[a, b] / _link(cluster, a, b).bytes_s),
        ]
        for a, b in most
    ]
    heads = ["heaviest links" if len(links) > _LINKS else "links", "bytes", "messages", "line"]
    return columns(heads, rows, left=frozenset({heads[0]}))


def _name(plan: Plan, machine: int) -> str:
    """Behind the partitions stand the shards of a parameter server."""
    return f"server {machine - plan.partitions}" if machine >= plan.partitions else str(machine)


def _link(cluster: Cluster, a: int, b: int) -> Link:
    """The shards are no machines of the cluster; they have hosts of their own."""
    return cluster.between(a, b) if max(a, b) < len(cluster.machines) else cluster.link
