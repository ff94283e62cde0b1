"""What was measured, as machines and links that plans are made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from statistics import median

from dbgraph.calibrate.fit import Message, fit_link, fit_rates
from dbgraph.calibrate.layout import Layout
from dbgraph.calibrate.measure import GENERAL, MachineTimes, Measured
from dbgraph.cluster import Cluster, Link, MachineSpec, Rates
from dbgraph.cost import Work, work_s
from dbgraph.ops.schema import POINTWISE


def cluster_of(
    measured: Measured, layout: Layout, memory_bytes: float, host_cores: int | None
) -> Cluster:
    """All machines of a host are as the one that was measured, and all links of a kind.

    Args:
        memory_bytes: of each machine.
        host_cores: of each host; None: not known.
    """
    specs = [
        _machine(measured.machines[p], memory_bytes, f"host{host}")
        for host, p in enumerate(layout.machines)
    ]
    links = {
        layout.hosts[a] == layout.hosts[b]: _link(messages, specs[layout.hosts[a]])
        for (a, b), messages in measured.messages.items()
    }
    together = len(set(layout.hosts)) < len(layout.hosts)
    blank = Cluster(())
    return Cluster(
        machines=tuple(specs[host] for host in layout.hosts),
        link=links.get(False, blank.link),
        hosts=layout.hosts if together else (),
        host_cores=(host_cores,) * len(specs) if host_cores else (),
        local=links.get(True, blank.local),
        control_s=_rounded(measured.control_s),
    )


def _link(messages: Sequence[Message], spec: MachineSpec) -> Link:
    """What a link adds to its ends; bytes go no faster than through memory.

    Args:
        spec: the machine that ran a segment after each hop (`hop_ladder`).
    """
    hops = []
    for message in messages:
        work = Work(POINTWISE, 2 * message.size_bytes // 4, 2 * message.size_bytes)
        run_s = spec.dispatch_s + work_s(work, "float32", spec)
        hops.append(replace(message, hop_s=message.hop_s - run_s))
    found = fit_link(hops)
    return Link(
        bytes_s=_rounded(min(found.bytes_s, spec.memory_bytes_s)),
        latency_s=_rounded(found.latency_s),
        message_s=_rounded(found.message_s),
        byte_s=_rounded(found.byte_s),
    )


def _machine(times: MachineTimes, memory_bytes: float, name: str) -> MachineSpec:
    """Rates for each kind of work; for what is of none, those of products and of memory."""
    kinds = {key: fit_rates(timed) for key, timed in times.kinds.items()}
    kinds["update", ""] = Rates(inf, times.update.traffic_bytes / times.update.seconds)
    return MachineSpec(
        flop_s=_rounded(median(t.flop / t.seconds for t in times.kinds[GENERAL])),
        memory_bytes_s=_rounded(times.memory.traffic_bytes / times.memory.seconds),
        memory_bytes=memory_bytes,
        dispatch_s=_rounded(times.dispatch_s),
        kinds=tuple((*key, _rounded_rates(rates)) for key, rates in kinds.items()),
        name=name,
    )


def _rounded_rates(rates: Rates) -> Rates:
    return Rates(*map(_rounded, (rates.flop_s, rates.memory_bytes_s, rates.start_s)))


def _rounded(value: float) -> float:
    """To four digits: nobody can measure more, and the file is for people."""
    return float(f"{value:.4g}")
