"""Machines and links as columns.

machines  tiles, parameters, parameter_bytes, memory_bytes (at the peak), limit_bytes (0: none),
          flop, in_bytes, out_bytes, busy_s, compute_s, send_s, receive_s, idle_s, end_s, out_s,
          in_s (its line), name (its kind), waits (in words), peers: all of one step
links     source, to, bytes, messages: pairs that exchange something
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from dbgraph.show.digest import Digest, layer_of
from dbgraph.simulate import MachineForecast
from dbgraph.units import seconds

_ROW = ("tiles", "parameters", "parameter_bytes", "memory_bytes", "flop", "in_bytes", "out_bytes")
_TIMES = ("busy_s", "compute_s", "send_s", "receive_s", "idle_s", "end_s", "out_s", "in_s")


def figure_columns(digest: Digest) -> dict[str, Any]:
    """Both tables."""
    forecast, rows = digest.forecast, digest.partitions
    links = sorted(forecast.link_bytes)
    specs = digest.cluster.machines[: len(rows)]
    return {
        "machines": {
            **{key: [getattr(row, key) for row in rows] for key in _ROW},
            **{key: [_short(getattr(one, key)) for one in forecast.machines] for key in _TIMES},
            "limit_bytes": [_limit(spec.memory_bytes) for spec in specs],
            "name": [spec.name for spec in specs],
            "waits": [_waits(digest, one) for one in forecast.machines],
        },
        "links": {
            "source": [a for a, _ in links],
            "to": [b for _, b in links],
            "bytes": [forecast.link_bytes[pair] for pair in links],
            "messages": [forecast.link_messages.get(pair, 0) for pair in links],
        },
    }


def _short(value: float) -> float:
    """Six digits: enough for every drawing, and half the size."""
    return float(f"{value:.6g}")


def _limit(memory_bytes: float) -> int:
    return int(memory_bytes) if isfinite(memory_bytes) else 0


def _waits(digest: Digest, one: MachineForecast) -> str:
    """For whom it waits longest."""
    if not one.causes:
        return ""
    cause = one.causes[0]
    value = digest.plan.transfers[cause.transfer].value
    return f"{cause.peer}: {layer_of(digest.plan.graph[value])}, {seconds(cause.wait_s)}"
