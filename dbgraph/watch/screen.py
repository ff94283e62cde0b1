"""A run on a terminal: one calm screen, for the run's own terminal and for `dbgraph top`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dbgraph.units import bytes_, seconds
from dbgraph.watch.fold import RunView
from dbgraph.watch.plot import Points, Range, logarithms, plot
from dbgraph.watch.records import Machine, Replica, Shard

# Okabe and Ito's palette: told apart by the colour-blind too, and on dark and light.
_TRAINING, _HELD_OUT, _BAD, _GOOD = "#56B4E9", "#E69F00", "#D55E00", "#009E73"
_ROWS = 8
"""So many replicas, shards and machines are shown each."""
_PLOT_ROWS = 5
_LABEL = 8
_BESIDE = 76
"""Columns from which on two plots stand beside each other."""
_LONG_S = 5.0
_LOGARITHMIC = 30.0
"""A loss that spans more than this factor is drawn on a logarithmic scale."""
_PLOTS = {
    "loss": ("loss", "held_out_loss"),
    "accuracy": ("accuracy", "held_out_accuracy"),
}

One = TypeVar("One", Replica, Shard, Machine)


def screen(view: RunView, now_s: float, width: int, height: int | None = None) -> RenderableType:
    """What can be seen of a run at a glance; at most `width` columns, 30 or more.

    Args:
        now_s: seconds since 1970; what was heard last is so long ago.
        height: rows that there are: plots for which there is no room are left out. None: any.
    """
    at_s = now_s if view.state == "running" else view.time_s
    heard = _Heard(view.standing_s, at_s)
    tables = (_replicas(view, heard), _shards(view, heard), _machines(view, heard))
    above: list[RenderableType] = [_progress(view, width), *_numbers(view, width), *_alarms(view)]
    below: list[RenderableType] = [*(table for table in tables if table is not None), *_stale(view)]
    plots = _plots(view, width)
    if height is not None:
        free = height - 1 - len(above) - _rows(view) - len(list(_stale(view)))
        plots = plots[: max(free // (1 + _PLOT_ROWS), 0)]
    return Group(*above, *plots, *below)


def headline(view: RunView) -> str:
    """`digits on 4 partitions (tiles, zmq), downpour …`: a run in a line."""
    about = view.about
    if "network" not in about:
        return "a run that has not begun"
    count = about.get("partitions", 1)
    machines = "1 partition" if count == 1 else f"{count} partitions"
    how = ", ".join(str(about[name]) for name in ("strategy", "backend") if about.get(name))
    many = f", {about['algorithm']}" if about.get("algorithm") else ""
    return f"{about['network']} on {machines}{f' ({how})' if how else ''}{many}"


class _Heard:
    """How long ago something was heard, that was told at another time."""

    def __init__(self, told_s: float, now_s: float) -> None:
        self._since_s = max(now_s - told_s, 0.0)

    def ago(self, heard_s: float) -> Text:
        ago_s = max(heard_s, 0.0) + self._since_s
        text = f"{ago_s:.1f} s" if ago_s < 120 else seconds(ago_s)
        return Text(text, style=_BAD if ago_s >= _LONG_S else "")


# The first lines


def _progress(view: RunView, width: int) -> RenderableType:
    count = f"{view.step:,}/{view.steps:,}"
    bar = ProgressBar(
        total=max(view.steps, 1),
        completed=view.step,
        width=max(width - len(count) - 2, 4),
        style="bar.back",
        complete_style=_TRAINING,
        finished_style=_GOOD,
    )
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_row(bar, count)
    return line


def _numbers(view: RunView, width: int) -> list[Text]:
    """What is known by now, in one line or, where that is too narrow, several."""
    lines: list[Text] = []
    for part in _known(view):
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1].append("   ").append_text(part)
        else:
            lines.append(part)
    return lines or [Text("compiling", style="dim")]


def _known(view: RunView) -> Iterator[Text]:
    latest = view.latest
    if view.state not in ("running", "unknown"):
        said = f": {view.error}" if view.state == "failed" and view.error else ""
        yield Text(f"{view.state}{said}", style=_GOOD if view.state == "done" else _BAD)
    if "loss" in latest:
        yield Text(f"loss {latest['loss']:.4g}", style=_TRAINING)
    if "held_out_accuracy" in latest:
        yield Text(f"held out {latest['held_out_accuracy']:.2%}", style=_HELD_OUT)
    elif "held_out_loss" in latest:
        yield Text(f"held out {latest['held_out_loss']:.4g}", style=_HELD_OUT)
    elif "accuracy" in latest:
        yield Text(f"accuracy {latest['accuracy']:.1%}", style=_TRAINING)
    if latest.get("examples_per_s"):
        yield Text(f"{latest['examples_per_s']:,.0f} examples/s")
    if (left_s := view.left_s) is not None:
        yield Text(f"{seconds(left_s) if left_s >= 120 else f'{left_s:.0f} s'} left")


# Plots


def _plots(view: RunView, width: int) -> list[RenderableType]:
    there = [title for title, names in _PLOTS.items() if _drawn(view, names)]
    if len(there) < 2 or width < _BESIDE:
        return [_plot(view, title, width) for title in there]
    beside = Table.grid(padding=(0, 2, 0, 0))
    beside.add_row(*(_plot(view, title, width // 2 - 1) for title in there))
    return [beside]


def _drawn(view: RunView, names: Sequence[str]) -> bool:
    """A curve of one point is no curve."""
    return any(len(view.curves[name].points) > 1 for name in names if name in view.curves)


def _plot(view: RunView, title: str, width: int) -> Text:
    """Its title, and below it the curves with the ends of their scale."""
    curves = [_points(view, name) for name in _PLOTS[title]]
    scale: Callable[[float], float] = float
    if title == "loss" and _is_steep([y for points in curves for _, y in points]):
        curves, scale = [logarithms(points) for points in curves], lambda y: 10**y
        title = "loss (log)"
    lines, ys = plot(curves, width - _LABEL, _PLOT_ROWS)
    text = Text(" " * _LABEL + title, style="bold", no_wrap=True, overflow="crop")
    for name, points, style in zip(("training", "held out"), curves, _STYLES, strict=True):
        if points:
            text.append(f"  {name}", style=f"not bold {style}")
    for row, line in enumerate(lines):
        text.append(f"\n{_label(row, ys, scale):>{_LABEL - 1}} ", style="not bold dim")
        for cell in line:
            text.append(cell.text, style="" if cell.curve is None else _STYLES[cell.curve])
    return text


_STYLES = (f"not bold {_TRAINING}", f"not bold {_HELD_OUT}")


def _points(view: RunView, name: str) -> Points:
    curve = view.curves.get(name)
    return [(point.step, point.value) for point in curve.points] if curve is not None else []


def _is_steep(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) > _LOGARITHMIC * min(values)


def _label(row: int, ys: Range, scale: Callable[[float], float]) -> str:
    """The ends of the scale stand at its ends."""
    ends = {0: ys.high, _PLOT_ROWS - 1: ys.low}
    return f"{scale(ends[row]):.3g}" if row in ends else ""


# Tables


def _rows(view: RunView) -> int:
    """Of all tables, with their heads."""
    counts = (len(view.replicas), len(view.shards), len(view.machines))
    return sum(1 + min(count, _ROWS + 1) for count in counts if count)


def _replicas(view: RunView, heard: _Heard) -> RenderableType | None:
    table = _table("replica", "examples/s", "staleness", "heard", "doing")
    return _filled(
        table,
        view.replicas,
        lambda r: (
            Text(str(r.replica)),
            Text(
                "–" if view.state == "running" and r.doing == "gone" else f"{r.examples_per_s:,.0f}"
            ),
            Text("" if r.staleness is None else str(r.staleness)),
            heard.ago(r.heard_s),
            Text(r.doing),
        ),
    )


def _shards(view: RunView, heard: _Heard) -> RenderableType | None:
    table = _table("shard", "updates/s", "pushed/s", "fetched/s", "heard")
    return _filled(
        table,
        view.shards,
        lambda s: (
            Text(str(s.shard)),
            Text(f"{s.updates_per_s:,.0f}"),
            Text(bytes_(s.pushed_bytes_per_s)),
            Text(bytes_(s.fetched_bytes_per_s)),
            heard.ago(s.heard_s),
        ),
    )


def _machines(view: RunView, heard: _Heard) -> RenderableType | None:
    table = _table("machine", "heard", "doing")
    return _filled(
        table,
        view.machines,
        lambda m: (
            Text(m.name, style="" if m.alive else _BAD),
            heard.ago(m.heard_s),
            _doing(m),
        ),
    )


def _doing(machine: Machine) -> Text:
    if not machine.alive:
        return Text("nothing: its process is stopped or dead", style=_BAD)
    return Text(f"waits for {machine.waiting}" if machine.waiting else machine.doing)


_WORDS = "doing"


def _table(first: str, *columns: str) -> Table:
    """Numbers to the right; words come last, and are cut where there is no room for them."""
    words = _WORDS in columns
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, expand=words)
    table.add_column(first, no_wrap=True)
    for name in columns:
        if name == _WORDS:
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1)
        else:
            table.add_column(name, no_wrap=True, justify="right")
    return table


def _filled(
    table: Table, those: Sequence[One], row: Callable[[One], tuple[Text, ...]]
) -> RenderableType | None:
    """All of them, or those that were not heard for longest and how many more there are."""
    if not those:
        return None
    shown = set(sorted(range(len(those)), key=lambda i: -those[i].heard_s)[:_ROWS])
    for i, one in enumerate(those):
        if i in shown:
            table.add_row(*row(one))
    if len(those) <= _ROWS:
        return table
    return Group(table, Text(f"… and {len(those) - _ROWS} more that were heard since", style="dim"))


# The last lines


def _stale(view: RunView) -> Iterator[Text]:
    """How old the parameters were that pushes were computed with."""
    total = sum(count for _, count in view.staleness)
    if not total:
        return
    most = max(staleness for staleness, _ in view.staleness)
    half, nine = (_quantile(view.staleness, share * total) for share in (0.5, 0.9))
    yield Text(f"staleness of pushes: median {half}, 90 % at most {nine}, largest {most}")


def _quantile(pairs: Sequence[tuple[int, int]], rank: float) -> int:
    """The least staleness that so many pushes do not exceed."""
    seen = 0
    for staleness, count in sorted(pairs):
        seen += count
        if seen >= rank:
            return staleness
    raise ValueError("there are fewer pushes than that")


def _alarms(view: RunView) -> Iterator[Text]:
    """The last one, and how many there were."""
    if view.alarms:
        count = f" ({view.alarm_count} alarms)" if view.alarm_count > 1 else ""
        yield Text(f"alarm: {view.alarms[-1].rule}{count}", style=_BAD)
