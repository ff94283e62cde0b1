"""A simulated step as a chart of characters, one row per machine, and its critical path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nlargest
from itertools import groupby

from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Run
from dbgraph.show.columns import columns
from dbgraph.show.digest import layer_of
from dbgraph.simulate import Forecast, Span
from dbgraph.units import bytes_, seconds

_CELLS = {"compute": "█", "send": "▒", "receive": "▒", "wait": "·", "orders": "·"}
_LEGEND = "█ computes  ▒ sends or receives  · waits"
_WORDS = {
    "compute": "compute",
    "send": "messages",
    "receive": "messages",
    "link": "lines",
    "latency": "latency",
    "orders": "orders",
}
_LONGEST = 10


def chart(forecast: Forecast, width: int) -> str:
    """A row per machine, from 0 to the end of the step; each character shows what takes most of
    its share of the time.

    Args:
        forecast: with a timeline.
        width: of the whole chart, in characters.
    """
    label = len(f"partition {len(forecast.machines) - 1}")
    cells = max(10, width - label - 2)
    by_machine = groupby(forecast.timeline, key=lambda span: span.machine)
    rows = [
        f"{f'partition {machine}':>{label}}  {_row(spans, cells, forecast.step_s)}".rstrip()
        for machine, spans in by_machine
    ]
    stop = seconds(forecast.step_s)
    axis = f"{'':{label}}  0{stop:>{cells - 1}}"
    return "\n".join([axis, *rows, f"{'':{label}}  {_LEGEND}"])


def _row(spans: Iterable[Span], cells: int, step_s: float) -> str:
    """Cell by cell the kind with the largest share."""
    shares: list[dict[str, float]] = [defaultdict(float) for _ in range(cells)]
    for span in spans:
        start, stop = span.start_s / step_s * cells, span.stop_s / step_s * cells
        kind = " " if span.kind == "wait" and span.transfer is None else _CELLS[span.kind]
        for cell in range(int(start), min(cells, int(stop) + 1)):
            shares[cell][kind] += min(stop, cell + 1) - max(start, cell)
    return "".join(max(share, key=share.__getitem__, default=" ") for share in shares)


@dataclass(frozen=True, slots=True)
class _Part:
    """Spans of the path that belong together: of one kind, on one machine, without a break."""

    kind: str
    machine: int
    spans: tuple[Span, ...]

    @property
    def seconds(self) -> float:
        return self.spans[-1].stop_s - self.spans[0].start_s


def path_table(plan: Plan, forecast: Forecast) -> str:
    """What the critical path consists of, and its longest parts in the order of time.

    Args:
        forecast: with a critical path.
    """
    parts = [
        _Part(kind, machine, tuple(spans))
        for (kind, machine), spans in groupby(
            forecast.critical_path, key=lambda span: (span.kind, span.machine)
        )
    ]
    longest = nlargest(_LONGEST, parts, key=lambda part: part.seconds)
    rows = [
        [
            seconds(part.spans[0].start_s),
            seconds(part.seconds),
            f"partition {part.machine}",
            _WORDS[part.kind],
            _about(plan, part),
        ]
        for part in sorted(longest, key=lambda part: part.spans[0].start_s)
    ]
    head = ["from", "takes", "where", "what", "of"]
    return _total(forecast) + "\n" + columns(head, rows, left=frozenset(head[2:]))


def _total(forecast: Forecast) -> str:
    """`critical path: compute 61 %, lines 30 %, latency 9 %`."""
    total: dict[str, float] = defaultdict(float)
    for span in forecast.critical_path:
        total[_WORDS[span.kind]] += span.seconds
    words = [
        f"{name} {seconds(total[name])} ({total[name] / forecast.step_s:.0%})"
        for name in sorted(total, key=lambda name: -total[name])
    ]
    return "critical path: " + ", ".join(words)


def _about(plan: Plan, part: _Part) -> str:
    """The layers that are computed, or the value that crosses."""
    if part.kind == "orders":
        return "the driver"
    layers = list(dict.fromkeys(layer for span in part.spans for layer in _layers(plan, span)))
    text = " … ".join(dict.fromkeys((layers[0], layers[-1]))) if layers else "update"
    transfers = {span.transfer for span in part.spans}
    if len(transfers) > 1 or (index := transfers.pop()) is None:
        return text
    t = plan.transfers[index]
    return f"{text}, {bytes_(t.type.size_bytes)} {t.source} → {t.to}"


def _layers(plan: Plan, span: Span) -> list[str]:
    if span.transfer is not None:
        return [layer_of(plan.graph[plan.transfers[span.transfer].value])]
    assert span.instruction is not None
    program = plan.programs[span.machine]
    instruction = program.instructions[span.instruction]
    if not isinstance(instruction, Run):
        return []
    nodes = program.segments[instruction.segment].nodes
    return [layer_of(plan.graph[name]) for name in nodes]
