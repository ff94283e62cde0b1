"""A comparison of forecast and measurement as text, and for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dbgraph.show.columns import columns
from dbgraph.trace.against import Comparison
from dbgraph.trace.gap import Gap
from dbgraph.trace.model import Trace
from dbgraph.units import bytes_, seconds

_MOST = 12  # segments, and links, that are listed


def comparison_page(found: Comparison, trace: Trace) -> str:
    """Segments, links and machines, and the step."""
    parts = [
        _table("segment", found.segments, _segment_cells, ("partition",)),
        _table("link", found.links, _link_cells, ("messages", "bytes")),
        _table(
            "parameter server message", found.served.gaps, _link_cells, ("count", "bytes of one")
        ),
        _machines(found),
        _verdict(found, trace),
        _served(found),
    ]
    return "\n\n".join(part for part in parts if part)


def comparison_json(found: Comparison) -> dict[str, Any]:
    """Units are in the names."""
    return {
        "steps": found.steps,
        "left_out": found.left_out,
        "replicas": found.replicas,
        "step": _figures(found.step),
        "segments": [
            {"partition": g.partition, "segment": g.segment, "name": g.name, **_figures(g)}
            for g in found.segments
        ],
        "links": [
            {
                "from": g.link[0],
                "to": g.link[1],
                "bytes": g.size_bytes,
                "messages": g.messages,
                **_figures(g),
            }
            for g in found.links
            if g.link is not None
        ],
        "machines": [
            {"partition": gaps[0].partition, **{g.name: _figures(g) for g in gaps}}
            for gaps in found.machines
        ],
        "servers": [
            {
                "partition": g.partition,
                "shard": g.shard,
                "name": g.name,
                "bytes": g.size_bytes,
                "messages": g.messages,
                **_figures(g),
            }
            for g in found.served.gaps
        ],
        "dealing_s": found.served.dealing_s,
    }


def _figures(gap: Gap) -> dict[str, float]:
    return {"forecast_s": gap.forecast_s, "measured_s": gap.measured_s}


def _segment_cells(gap: Gap) -> list[str]:
    return [str(gap.partition)]


def _link_cells(gap: Gap) -> list[str]:
    return [f"{gap.messages:,}", bytes_(gap.size_bytes)]


def _table(kind: str, gaps: Sequence[Gap], cells: Any, heads: tuple[str, ...]) -> str:
    if not gaps:
        return ""
    shown = gaps[:_MOST]
    more = f", {_MOST} of {len(gaps)}" if len(gaps) > _MOST else ""
    head = [f"{kind}s, worst first{more}", *heads, "forecast", "measured", "off", "×"]
    rows = [[gap.name, *cells(gap), *_cells(gap)] for gap in shown]
    return columns(head, rows, left=frozenset({head[0]}))


def _cells(gap: Gap) -> list[str]:
    sign = "+" if gap.off_s >= 0 else "-"
    return [
        seconds(gap.forecast_s),
        seconds(gap.measured_s),
        f"{sign}{seconds(abs(gap.off_s))}",
        f"{gap.measured_s / gap.forecast_s:.2f}" if gap.forecast_s > 0.0 else "",
    ]


def _machines(found: Comparison) -> str:
    head = ["partition"]
    for name in ("compute", "send", "wait"):
        head += [f"{name}: forecast", "measured"]
    rows = [
        [
            str(gaps[0].partition),
            *(text for g in gaps for text in (seconds(g.forecast_s), seconds(g.measured_s))),
        ]
        for gaps in found.machines
    ]
    return columns(head, rows)


def _verdict(found: Comparison, trace: Trace) -> str:
    forecast, measured, off, ratio = _cells(found.step)
    of = f" of {found.replicas} replicas" if found.replicas > 1 else ""
    times = f" (× {ratio})" if ratio else ""
    return (
        f"step: forecast {forecast}, measured {measured}, {off}{times}\n"
        f"medians of {found.steps} steps{of}; the first {found.left_out}, which compile, are "
        f"left out; {trace.note}"
    )


def _served(found: Comparison) -> str:
    """What is said of the traffic with the parameter server; "" where there is none."""
    if not found.served.gaps:
        return ""
    dealing = seconds(found.served.dealing_s)
    return (
        "pushes to shards and fetches from them go on beside the steps: they are in no step's "
        f"time\nabove; each is one message, from hand-over to arrival. A shard's work on a push, "
        f"{dealing} as\nmeasured, is in no forecast; nor are the other replicas' messages"
    )
