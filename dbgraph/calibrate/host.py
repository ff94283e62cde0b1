"""Calibrating through the zmq backend's own workers: this host's, or those of a hosts file."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dbgraph.backends.base import Backend, make_backend
from dbgraph.backends.hosts import read_hosts, split_endpoint
from dbgraph.calibrate.context import context_of, in_context
from dbgraph.calibrate.layout import Layout
from dbgraph.calibrate.machines import cluster_of
from dbgraph.calibrate.measure import ROUNDS, Measured, measure
from dbgraph.calibrate.rehearse import rehearse
from dbgraph.calibrate.stopwatch import Say
from dbgraph.cluster import Cluster, MachineSpec


def calibrate_here(
    partitions: int, pin: bool, say: Say, rounds: int = ROUNDS
) -> tuple[Measured, Cluster]:
    """So many workers on this host; they share its cores and its memory.

    Args:
        rounds: how often each thing is timed.
    """
    layout = Layout((0,) * partitions, cores_here(), pin)
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    make = partial(make_backend, "zmq", pin=pin)
    return _calibrated(make, layout, memory_bytes // partitions, say, rounds)


def calibrate_hosts(hosts: str | Path, key: str | Path, say: Say) -> tuple[Measured, Cluster]:
    """The workers of a hosts file; how much memory and how many cores their hosts have is not
    measured.

    Raises UsageError for a file that is not good, ClusterLostError for workers out of reach.
    """
    names = [split_endpoint(worker)[0] for worker in read_hosts(hosts).workers]
    make = partial(make_backend, "zmq", hosts=hosts, key=key)
    return _calibrated(make, Layout.of(names), MachineSpec().memory_bytes, say, ROUNDS)


def cores_here() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def _calibrated(
    make: Callable[[], Backend], layout: Layout, memory_bytes: float, say: Say, rounds: int
) -> tuple[Measured, Cluster]:
    """Kinds of work alone first, then all together."""
    backend = make()
    try:
        measured = measure(backend, layout, lambda done: say(done / 2), rounds=rounds)
    finally:
        backend.stop()
    alone = cluster_of(measured, layout, memory_bytes)
    rehearsals = rehearse(make, layout, lambda done: say((1 + done) / 2))
    return measured, in_context(alone, context_of(rehearsals, alone))
