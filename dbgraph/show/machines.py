"""A cluster in words: what a forecast assumes."""

from __future__ import annotations

from itertools import groupby

from dbgraph.cluster import Cluster, Link, MachineSpec
from dbgraph.units import count, seconds


def machines_words(cluster: Cluster, name: str = "") -> str:
    """`equal machines of 50 GFLOP/s, memory 10 GB/s, links 1 GB/s and 100 µs`.

    Args:
        name: of the cluster's file.
    """
    groups = [(spec, len(list(some))) for spec, some in groupby(cluster.machines)]
    if name:
        kinds = ", ".join(f"{n} × {_kind(spec)}" for spec, n in groups)
        text = f"the machines of {name}: {kinds}"
    elif cluster.is_equal:
        text = f"equal machines of {_rates(cluster.machines[0])}"
    else:
        text = ", ".join(f"{n} × {_kind(spec)}" for spec, n in groups)
    return text + (_links(cluster) if len(cluster.machines) > 1 else "")


def _kind(spec: MachineSpec) -> str:
    return f"{spec.name} ({_rates(spec)})" if spec.name else f"({_rates(spec)})"


def _rates(spec: MachineSpec) -> str:
    return f"{count(spec.flop_s)}FLOP/s, memory {count(spec.memory_bytes_s)}B/s"


def _links(cluster: Cluster) -> str:
    hosts = len({cluster.host(p) for p in range(len(cluster.machines))})
    if hosts == 1 and cluster.hosts:
        return f", on one host: {_link(cluster.local)}"
    text = f", links {_link(cluster.link)}"
    if hosts < len(cluster.machines):
        text += f", on {hosts} hosts: {_link(cluster.local)} within one"
    if cluster.racks:
        text += f", racks of {cluster.racks.hosts} hosts with {count(cluster.racks.bytes_s)}B/s"
    return text


def _link(link: Link) -> str:
    return f"{count(link.bytes_s)}B/s and {seconds(link.latency_s)}"
