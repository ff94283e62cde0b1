"""`/metrics` and the Grafana dashboard over them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Cli
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from replica_tools import train

from dbgraph.metrics import make_record
from dbgraph.watch.fold import RunView, fold
from dbgraph.watch.grafana import dashboard
from dbgraph.watch.prometheus import STALENESS, exposition

REPLICAS = [
    {"replica": 0, "doing": "training", "examples": 640, "staleness": 3, "heard_s": 0.5},
    {"replica": 1, "doing": "gone", "examples": 80, "staleness": None, "heard_s": 9.0},
]
SHARDS = [
    {
        "shard": 0, "updates": 90, "pushed_bytes": 1000, "fetched_bytes": 3000,
        "saved_bytes": 500, "heard_s": 0.25,
    }
]  # fmt: skip
MACHINES = [
    {"name": "partition 0", "doing": "RUN s0.0", "waiting": "h→s", "heard_s": 0.1},
    {"name": "partition 1", "alive": False, "doing": "RUN s1.0", "waiting": "", "heard_s": 0.2},
]


def view() -> RunView:
    start = {"network": 'di"gi\nts', "partitions": 2, "rule": "sgd", "steps": 100}
    more = {"examples_per_step": 8, "backend": "zmq", "algorithm": None}
    standing = {"replicas": REPLICAS, "shards": SHARDS, "machines": MACHINES}
    return fold(
        [
            make_record("start", step=0, elapsed_s=0, **start, **more),
            make_record("train", step=10, elapsed_s=1.5, loss=0.5, accuracy=0.75),
            make_record("eval", step=20, elapsed_s=2.0, loss=0.25, accuracy=0.9),
            make_record("alarm", step=20, elapsed_s=2.5, rule="loss grows", replica=1),
            make_record("standing", step=20, **standing, staleness=[[0, 5], [3, 2], [999, 1]]),
        ]
    )


def families(of: RunView) -> dict[str, Metric]:
    return {f.name: f for f in text_string_to_metric_families(exposition(of).decode())}


def values(of: RunView) -> dict[tuple[str, Any], float]:
    """By (name, labels' values)."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(of).values()
        for sample in family.samples
    }  # type: ignore[return-value]


def test_numbers_are_those_of_the_view() -> None:
    seen, found = view(), values(view())
    assert found["dbgraph_train_loss",] == 0.5
    assert found["dbgraph_train_accuracy_ratio",] == 0.75
    assert found["dbgraph_held_out_loss",] == found["dbgraph_held_out_best_loss",] == 0.25
    assert found["dbgraph_train_steps_total",] == 20
    assert found["dbgraph_train_examples_total",] == 160
    assert found["dbgraph_run_alarms_total",] == 1
    assert found["dbgraph_run_state", "running"] == 1
    assert found["dbgraph_run_state", "failed"] == 0
    assert found["dbgraph_replica_examples_total", "1"] == 80
    assert found["dbgraph_replica_staleness_updates", "0"] == 3
    assert ("dbgraph_replica_staleness_updates", "1") not in found
    assert found["dbgraph_shard_received_bytes_total", "0"] == 1000
    assert found["dbgraph_shard_sent_bytes_total", "0"] == 3000
    assert found["dbgraph_machine_waiting", "partition 0"] == 1
    assert found["dbgraph_machine_waiting", "partition 1"] == 0
    assert found["dbgraph_machine_alive", "partition 1"] == 0
    heard = found["dbgraph_machine_last_heard_timestamp_seconds", "partition 1"]
    assert heard == pytest.approx(seen.standing_s - 0.2)


def test_the_network_s_name_may_hold_anything() -> None:
    (sample,) = families(view())["dbgraph_run_info"].samples
    assert sample.labels["network"] == 'di"gi\nts'
    assert "algorithm" not in sample.labels


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.integers(0, 600), st.integers(1, 50)))
def test_staleness_is_a_histogram(pairs: Mapping[int, int]) -> None:
    seen = RunView(staleness=tuple(sorted(pairs.items())))
    found = families(seen)["dbgraph_push_staleness_updates"]
    buckets = {s.labels["le"]: s.value for s in found.samples if s.name.endswith("_bucket")}
    for end in STALENESS:
        assert buckets[str(float(end))] == sum(n for stale, n in pairs.items() if stale <= end)
    total = sum(pairs.values())
    assert buckets["+Inf"] == total
    rest = {s.name: s.value for s in found.samples if not s.name.endswith("_bucket")}
    assert rest == {
        "dbgraph_push_staleness_updates_count": total,
        "dbgraph_push_staleness_updates_sum": sum(s * n for s, n in pairs.items()),
    }


UNITS = ("seconds", "bytes", "ratio", "updates", "steps")
ABBREVIATED = re.compile(r"_(s|ms|us|kb|mb|b|sec|milliseconds|minutes|kilobytes|percent)(_|$)")


@pytest.mark.parametrize("seen", [view(), RunView()], ids=["full", "empty"])
def test_names_keep_the_conventions(seen: RunView) -> None:
    """What `promtool check metrics` would say, and base units."""
    text = exposition(seen).decode()
    for name, family in families(seen).items():
        full = f"{name}_total" if family.type == "counter" else name
        assert re.fullmatch(r"dbgraph(_[a-z]+)+", name)
        assert f"# HELP {full} " in text, "no help"
        assert f"# TYPE {full} {family.type}" in text
        assert family.documentation.endswith(".")
        assert not ABBREVIATED.search(name), "a base unit, written out"
        assert (family.type == "counter") == (f"{name}_total" == full)
        assert not (family.type != "counter" and name.endswith("_total"))
        assert not name.endswith(("_count", "_sum", "_bucket"))
        assert family.type not in name.split("_"), "the type is no part of a name"
        for sample in family.samples:
            labels = set(sample.labels) - {"le"}
            assert family.type == "gauge" or labels <= {"replica", "shard", "machine"}
            assert "__" not in "".join(labels)


def test_before_the_first_record_there_are_names_and_no_guesses() -> None:
    assert set(families(RunView())) == set(families(view()))
    found = values(RunView())
    assert ("dbgraph_train_loss",) not in found
    assert found["dbgraph_run_state", "running"] == 0


# --- Grafana ---

_METRIC = re.compile(r"\bdbgraph_\w+")


def test_every_expression_uses_metrics_that_exist() -> None:
    there = {sample.name for family in families(view()).values() for sample in family.samples}
    board = dashboard()
    expressions = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    assert len(expressions) > 15
    for expression in expressions:
        used = _METRIC.findall(expression)
        assert used
        assert set(used) <= there, expression
        assert "HERE" not in expression
        assert "NOW" not in expression
        assert expression.count("(") == expression.count(")")
        for name in used:  # rates of what grows alone
            grows = name.endswith(("_total", "_bucket"))
            assert not (f"rate({name}" in expression and not grows)
    queries = [v["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    assert set(_METRIC.findall(" ".join(queries))) <= there


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


# --- the command ---


def test_metrics_of_a_run_and_the_dashboard(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cli = Cli(capsys)
    train(algorithm="downpour", replicas=2, shards=2, steps=30, checkpoint=tmp_path / "run")
    outcome = cli("metrics", tmp_path / "run")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert "dbgraph_train_steps_total 30.0" in lines
    assert 'dbgraph_run_state{state="done"} 1.0' in lines
    (received,) = (x for x in lines if x.startswith('dbgraph_shard_received_bytes_total{shard="1"'))
    assert float(received.split()[1]) > 0
    board = cli("metrics", "--grafana", "-o", tmp_path / "board.json")
    assert board.code == 0
    assert json.loads((tmp_path / "board.json").read_text()) == dashboard()


def test_metrics_of_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cli = Cli(capsys)
    assert cli("metrics").code == 2
    assert cli("metrics", tmp_path, "--grafana").code == 2
    missing = cli("metrics", tmp_path)
    assert missing.code == 2
    assert "there is no log of a run" in missing.err
    assert cli("metrics", "--grafana", "-o", tmp_path / "no" / "file.json").code == 2
