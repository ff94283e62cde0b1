"""The difference of two plans as text, as JSON, and as what a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any, NamedTuple

from dbgraph.show.columns import columns
from dbgraph.show.diff import Diff, Figure, Machine, Setting, Traffic
from dbgraph.show.words import ranges
from dbgraph.simulate import MachineForecast
from dbgraph.units import bytes_, seconds

_FIGURES = {
    "step_s": "forecast, a step",
    "busiest_s": "busiest machine",
    "traffic_bytes": "between machines, a step",
    "messages": "messages, a step",
    "most_memory_bytes": "most memory of a machine",
    "memory_bytes": "memory of all machines",
}
_LEFT = frozenset({"", "what", "layer", "cut", "tile", "partitions", "moves", "change", "sends"})
_MOST = 12


class Table(NamedTuple):
    """Attributes:
    title: what its rows are.
    rows: of texts, as many in each as in the head.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def diff_text(found: Diff, most: int = _MOST) -> str:
    """What `dbgraph diff` prints.

    Args:
        most: rows of a table; of more it is said how many there are.
    """
    texts = []
    for table in diff_tables(found):
        more = len(table.rows) - most
        text = columns(table.head, table.rows[:most], left=_LEFT)
        texts.append(f"{text}\nand {more:,} more" if more > 0 else text)
    if found.same:
        texts.append("both plans do the same on the same machines")
    return "\n\n".join(texts)


def diff_tables(found: Diff) -> tuple[Table, ...]:
    """What it costs, then what differs, each in a table; without those that have no rows."""
    tables = (
        Table(
            "What it costs",
            ("", "before", "after", "difference"),
            [*map(_setting, found.settings), *map(_figure, found.figures)],
        ),
        Table(
            "Layers cut or placed otherwise",
            ("layer", "cut", "partitions"),
            [
                (
                    one.layer,
                    _arrow(one.cut_before, one.cut_after),
                    _arrow(ranges(one.partitions_before), ranges(one.partitions_after)),
                )
                for one in found.layers
            ],
        ),
        Table(
            "Tiles that stand on another machine",
            ("layer", "tile", "moves"),
            [(one.layer, one.region, f"{one.source} → {one.to}") for one in found.moves],
        ),
        Table(
            "What crosses",
            ("layer", "sends", "change", "before", "after"),
            list(map(_traffic, found.traffic)),
        ),
        Table(
            "Machines",
            ("partition", "busy", "memory", "bytes in", "bytes out"),
            list(map(_machine, found.machines)),
        ),
    )
    return tuple(table for table in tables if table.rows)


def _setting(one: Setting) -> Sequence[str]:
    return one.name, one.before[:16], one.after[:16], ""


def _figure(one: Figure) -> Sequence[str]:
    written = f"{one.before:,.0f}", f"{one.after:,.0f}"
    if one.name.endswith("_s"):
        written = seconds(one.before), seconds(one.after)
    elif one.name.endswith("_bytes"):
        written = bytes_(one.before), bytes_(one.after)
    return _FIGURES[one.name], *written, _change(one.before, one.after)


def _change(before: float, after: float) -> str:
    if before == after:
        return "same"
    return f"{after / before - 1:+.1%}" if before else "new"


def _traffic(one: Traffic) -> Sequence[str]:
    back = "back " if one.backward else ""
    sends = f"{back}{one.source} → {one.to}"
    return one.layer, sends, one.change, bytes_(one.before_bytes), bytes_(one.after_bytes)


def _machine(one: Machine) -> Sequence[str]:
    a, b = _loads(one.before), _loads(one.after)
    return str(one.partition), *(_arrow(x, y) for x, y in zip(a, b, strict=True))


def _loads(machine: MachineForecast | None) -> tuple[str, ...]:
    if machine is None:
        return ("",) * 4
    return (
        seconds(machine.busy_s),
        *map(bytes_, (machine.peak_bytes, machine.in_bytes, machine.out_bytes)),
    )


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before or 'none'} → {after or 'none'}"


def diff_json(found: Diff) -> dict[str, Any]:
    """settings, figures: name → before, after. layers, moves, traffic: as the dataclasses of
    dbgraph/show/diff.py say. machines: partition, and before and after (null where a plan has
    it not): busy_s, peak_bytes, in_bytes, out_bytes."""
    return {
        "same": found.same,
        **{
            key: {one.name: {"before": one.before, "after": one.after} for one in ones}
            for key, ones in (("settings", found.settings), ("figures", found.figures))
        },
        "layers": [asdict(one) for one in found.layers],
        "moves": [asdict(one) for one in found.moves],
        "traffic": [{**asdict(one), "change": one.change} for one in found.traffic],
        "machines": [
            {
                "partition": one.partition,
                "before": _machine_json(one.before),
                "after": _machine_json(one.after),
            }
            for one in found.machines
        ],
    }


def _machine_json(machine: MachineForecast | None) -> dict[str, Any] | None:
    if machine is None:
        return None
    return {key: getattr(machine, key) for key in ("busy_s", "peak_bytes", "in_bytes", "out_bytes")}


def diff_data(found: Diff) -> dict[str, Any]:
    """For a page: the tables, and how busy the machines are."""
    changed = list(chain.from_iterable((one.before, one.after) for one in found.machines))
    return {
        "same": found.same,
        "tables": [table._asdict() for table in diff_tables(found)],
        "machines": [one.partition for one in found.machines],
        "before_s": [machine.busy_s if machine else 0.0 for machine in changed[::2]],
        "after_s": [machine.busy_s if machine else 0.0 for machine in changed[1::2]],
    }
