"""A Grafana dashboard over the metrics of `watch.prometheus`, as Grafana imports it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_ROWS_PER_PANEL, _COLUMNS = 8, 24
_SCHEMA = 39  # Grafana 10 and later
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_HERE = '{instance=~"$instance"}'
_NOW = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot, or one number.

    Attributes:
        lines: (expression, legend); HERE stands for the chosen runs, NOW for the rates' window.
        unit: Grafana's name.
        kind: "timeseries" or "stat".
        width: of 24 columns.
    """

    title: str
    lines: tuple[tuple[str, str], ...]
    unit: str = "none"
    kind: str = "timeseries"
    width: int = 12


PANELS = (
    Panel(
        "Progress",
        (("dbgraph_train_steps_totalHERE / dbgraph_train_planned_stepsHERE", "{{instance}}"),),
        "percentunit",
        "stat",
        6,
    ),
    Panel(
        "Running",
        (('dbgraph_run_state{state="running", instance=~"$instance"}', "{{instance}}"),),
        kind="stat",
        width=6,
    ),
    Panel(
        "Last heard of",
        (("time() - dbgraph_run_last_record_timestamp_secondsHERE", "{{instance}}"),),
        "s",
        "stat",
        6,
    ),
    Panel("Alarms", (("dbgraph_run_alarms_totalHERE", "{{instance}}"),), kind="stat", width=6),
    Panel(
        "Loss",
        (
            ("dbgraph_train_lossHERE", "training {{instance}}"),
            ("dbgraph_held_out_lossHERE", "held out {{instance}}"),
            ("dbgraph_held_out_best_lossHERE", "best held out {{instance}}"),
        ),
    ),
    Panel(
        "Accuracy",
        (
            ("dbgraph_train_accuracy_ratioHERE", "training {{instance}}"),
            ("dbgraph_held_out_accuracy_ratioHERE", "held out {{instance}}"),
        ),
        "percentunit",
    ),
    Panel(
        "Examples per second",
        (("rate(dbgraph_train_examples_totalHERE[NOW])", "{{instance}}"),),
        "cps",
    ),
    Panel(
        "Examples per second and replica",
        (("rate(dbgraph_replica_examples_totalHERE[NOW])", "replica {{replica}}"),),
        "cps",
    ),
    Panel(
        "Pushed to shards",
        (("rate(dbgraph_shard_received_bytes_totalHERE[NOW])", "shard {{shard}}"),),
        "Bps",
    ),
    Panel(
        "Fetched from shards",
        (("rate(dbgraph_shard_sent_bytes_totalHERE[NOW])", "shard {{shard}}"),),
        "Bps",
    ),
    Panel(
        "Updates per second and shard",
        (("rate(dbgraph_shard_updates_totalHERE[NOW])", "shard {{shard}}"),),
        "cps",
    ),
    Panel(
        "Staleness of pushes, in updates",
        tuple(
            (
                f"histogram_quantile({share}, sum by (le) "
                "(rate(dbgraph_push_staleness_updates_bucketHERE[NOW])))",
                name,
            )
            for share, name in ((0.5, "median"), (0.9, "90 %"), (0.99, "99 %"))
        ),
    ),
    Panel(
        "Not heard for",
        (
            ("time() - dbgraph_replica_last_heard_timestamp_secondsHERE", "replica {{replica}}"),
            ("time() - dbgraph_shard_last_heard_timestamp_secondsHERE", "shard {{shard}}"),
            ("time() - dbgraph_machine_last_heard_timestamp_secondsHERE", "{{machine}}"),
        ),
        "s",
    ),
    Panel(
        "Share of time that a machine waits",
        (("avg_over_time(dbgraph_machine_waitingHERE[NOW])", "{{machine}}"),),
        "percentunit",
    ),
)


def dashboard() -> dict[str, Any]:
    """As JSON is made of it."""
    return {
        "title": "dbgraph training",
        "uid": "dbgraph-training",
        "schemaVersion": _SCHEMA,
        "tags": ["dbgraph"],
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_source_variable(), _instance_variable()]},
        "panels": list(_panels()),
    }


def _panels() -> Iterator[dict[str, Any]]:
    """From left to right, and then down."""
    x = y = 0
    for number, panel in enumerate(PANELS, start=1):
        if x + panel.width > _COLUMNS:
            x, y = 0, y + _ROWS_PER_PANEL
        place = {"h": _ROWS_PER_PANEL, "w": panel.width, "x": x, "y": y}
        x += panel.width
        yield {
            "id": number,
            "type": panel.kind,
            "title": panel.title,
            "gridPos": place,
            "datasource": _SOURCE,
            "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
            "targets": [_target(*line, i) for i, line in enumerate(panel.lines)],
        }


def _target(expression: str, legend: str, index: int) -> dict[str, Any]:
    expression = expression.replace("HERE", _HERE).replace("NOW", _NOW)
    name = chr(ord("A") + index)
    return {"refId": name, "datasource": _SOURCE, "expr": expression, "legendFormat": legend}


def _source_variable() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}


def _instance_variable() -> dict[str, Any]:
    return {
        "name": "instance",
        "label": "Run",
        "type": "query",
        "datasource": _SOURCE,
        "query": "label_values(dbgraph_train_steps_total, instance)",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }
