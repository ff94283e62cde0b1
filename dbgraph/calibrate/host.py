"""Calibrating through the zmq backend's own workers: this host's, or those of a hosts file."""

from __future__ import annotations

import os
from pathlib import Path

from dbgraph.backends.base import make_backend
from dbgraph.backends.hosts import read_hosts, split_endpoint
from dbgraph.calibrate.layout import Layout
from dbgraph.calibrate.machines import cluster_of
from dbgraph.calibrate.measure import ROUNDS, Measured, measure
from dbgraph.calibrate.stopwatch import Say
from dbgraph.cluster import Cluster, MachineSpec


def calibrate_here(
    partitions: int, pin: bool, say: Say, rounds: int = ROUNDS
) -> tuple[Measured, Cluster]:
    """So many workers on this host; they share its cores and its memory.

    Args:
        rounds: how often each thing is timed.
    """
    layout = Layout((0,) * partitions)
    measured = _measured(layout, say, rounds, pin=pin)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return measured, cluster_of(measured, layout, memory_bytes // partitions, cores_here())


def calibrate_hosts(hosts: str | Path, key: str | Path, say: Say) -> tuple[Measured, Cluster]:
    """The workers of a hosts file; how much memory and how many cores their hosts have is not
    measured.

    Raises UsageError for a file that is not good, ClusterLostError for workers out of reach.
    """
    names = [split_endpoint(worker)[0] for worker in read_hosts(hosts).workers]
    layout = Layout.of(names)
    measured = _measured(layout, say, ROUNDS, hosts=hosts, key=key)
    return measured, cluster_of(measured, layout, MachineSpec().memory_bytes, None)


def cores_here() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def _measured(layout: Layout, say: Say, rounds: int, **options: object) -> Measured:
    backend = make_backend("zmq", **options)
    try:
        return measure(backend, layout, say, rounds=rounds)
    finally:
        backend.stop()
