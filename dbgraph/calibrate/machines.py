"""What was measured, as machines and links that plans are made for."""

from __future__ import annotations

from math import inf
from statistics import median

from dbgraph.calibrate.fit import fit_rates, rounded
from dbgraph.calibrate.layout import Layout
from dbgraph.calibrate.measure import GENERAL, MachineTimes, Measured
from dbgraph.cluster import Cluster, MachineSpec, Rates


def cluster_of(measured: Measured, layout: Layout, memory_bytes: float) -> Cluster:
    """All machines of a host are as the one that was measured.

    Args:
        memory_bytes: of each machine.
    """
    cores = 1 if layout.pinned else layout.cores or 1
    specs = [
        _machine(measured[p], memory_bytes, f"host{host}", cores)
        for host, p in enumerate(layout.machines)
    ]
    together = len(set(layout.hosts)) < len(layout.hosts)
    return Cluster(
        machines=tuple(specs[host] for host in layout.hosts),
        hosts=layout.hosts if together else (),
        host_cores=(layout.cores,) * len(specs) if layout.cores else (),
        pinned=layout.pinned,
    )


def _machine(times: MachineTimes, memory_bytes: float, name: str, cores: int) -> MachineSpec:
    """Rates for each kind of work; for what is of none, those of products and of memory."""
    kinds = {key: fit_rates(timed) for key, timed in times.kinds.items()}
    memory_bytes_s = times.memory.traffic_bytes / times.memory.seconds
    kinds["update", ""] = Rates(inf, memory_bytes_s)
    return MachineSpec(
        flop_s=rounded(median(t.flop / t.seconds for t in times.kinds[GENERAL])),
        memory_bytes_s=rounded(memory_bytes_s),
        memory_bytes=memory_bytes,
        dispatch_s=rounded(times.dispatch_s),
        cores=cores,
        kinds=tuple((*key, _rounded_rates(rates)) for key, rates in kinds.items()),
        name=name,
    )


def _rounded_rates(rates: Rates) -> Rates:
    return Rates(*map(rounded, (rates.flop_s, rates.memory_bytes_s, rates.start_s)))
