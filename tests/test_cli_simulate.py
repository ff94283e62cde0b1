"""`dbgraph simulate`: tables, charts and JSON of plans, good and bad."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_tools import Cli, compiled

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cluster import Cluster, Link, MachineSpec
from dbgraph.clusterfile import cluster_toml
from dbgraph.compile import make_plan
from dbgraph.plan.plan import Plan
from dbgraph.plan.text import open_plan, save_plan
from dbgraph.show.simulation import link_table, machine_table
from dbgraph.show.timeline import chart, path_table
from dbgraph.simulate import Forecast, MachineForecast, ServerTraffic, Span, simulate

EXAMPLE = Path(__file__).parent.parent / "examples" / "cluster.toml"


@pytest.fixture
def small(cli: Cli, tmp_path: Path) -> Path:
    """A training plan on two partitions."""
    return compiled(cli, tmp_path, "-n", 2, "--strategy", "tiles")


def stages(count: int = 2, batch: int = 4) -> Plan:
    """A chain of dense layers, 5 by 5, one on each machine."""
    with dbg.Network("stages", batch=batch) as net:
        h = dbg.input("x", (5,))
        for k in range(count):
            with dbg.partition(k):
                h = L.Dense(5, use_bias=False, name=f"s{k}")(h)
        dbg.output("y", h)
    return make_plan(net, count, mode="inference", strategy="stages")


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "chain.plan"
    save_plan(stages(), path)
    return path


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """Two machines on which each stage takes 0.2 s, and 80 bytes 0.1 s after 0.05 s."""
    path = tmp_path / "slow.toml"
    path.write_text(cluster_toml(slow_cluster(2)))
    return path


def slow_cluster(count: int, memory_bytes: float = 1000) -> Cluster:
    machine = MachineSpec(1e3, float("inf"), memory_bytes, dispatch_s=0.0, name="slow")
    return Cluster((machine,) * count, Link(bytes_s=800.0, latency_s=0.05, message_s=0.0))


def test_the_table(cli: Cli, chain: Path, slow: Path) -> None:
    outcome = cli("simulate", chain, "--cluster", slow)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("stages: inference on 2 partitions, batch 4")
    assert f"\non the machines of {slow}: 2 × slow" in outcome.out
    assert re.search(r"0   200 ms       0 s  350 ms  nothing: it has ended, 350 ms", outcome.out)
    assert re.search(r"1   200 ms       0 s  350 ms  0: s0, 350 ms", outcome.out)
    assert "0 → 1   80 B         1  100 ms" in outcome.out
    assert "forecast: 550 ms a step, 7.27 examples/s, 80 B between machines" in outcome.out


def test_without_a_cluster_the_documented_machines(cli: Cli, chain: Path) -> None:
    outcome = cli("simulate", chain)
    assert "on equal machines of 50 GFLOP/s" in outcome.out


def test_quiet_says_nothing(cli: Cli, small: Path) -> None:
    assert cli("simulate", small, "--quiet") == (0, "", "")


def test_json_says_it_all(cli: Cli, chain: Path, slow: Path) -> None:
    found = cli("simulate", chain, "--cluster", slow, "--json").json
    assert found["plan"]["partitions"] == 2
    assert found["cluster"] == str(slow)
    assert found["step_s"] == pytest.approx(0.55)
    assert [m["compute_s"] for m in found["machines"]] == pytest.approx([0.2, 0.2])
    assert [m["limit_bytes"] for m in found["machines"]] == [1000, 1000]
    assert found["machines"][1]["causes"] == [
        {"peer": 0, "transfer": 0, "wait_s": pytest.approx(0.35)}
    ]
    assert found["links"] == [{"from": 0, "to": 1, "bytes": 80}]
    assert found["blocked"] == found["cycle"] == []
    assert "timeline" not in found


def test_json_with_the_timeline(cli: Cli, chain: Path, slow: Path) -> None:
    found = cli("simulate", chain, "--cluster", slow, "--json", "--timeline").json
    kinds = [(s["machine"], s["kind"]) for s in found["timeline"]]
    assert kinds == [(0, "compute"), (0, "wait"), (1, "wait"), (1, "compute")]
    path = found["critical_path"]
    assert [s["kind"] for s in path] == ["compute", "latency", "link", "compute"]
    assert path[-1]["stop_s"] == found["step_s"]


def test_json_of_unlimited_memory(cli: Cli, chain: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.toml"
    path.write_text("[[machines]]\ncount = 2\nmemory = inf\n")
    found = cli("simulate", chain, "--cluster", path, "--json").json
    assert [m["limit_bytes"] for m in found["machines"]] == [None, None]
    assert "none" in cli("simulate", chain, "--cluster", path).out


def test_the_chart(cli: Cli, chain: Path, slow: Path) -> None:
    """11 characters of 50 ms each: 4 of compute, then nothing; 7 of waiting, 4 of compute."""
    outcome = cli("simulate", chain, "--cluster", slow, "--timeline", "--width", 40)
    assert outcome.code == 0
    plan = open_plan(chain)
    found = simulate(plan.graph, plan.transfers, plan.programs, slow_cluster(2), timeline=True)
    assert chart(found, 13 + 11) == (
        "             0    550 ms\n"
        "partition 0  ████\n"
        "partition 1  ·······████\n"
        "             █ computes  ▒ sends or receives  · waits"
    )
    assert chart(found, 40) in outcome.out
    assert "critical path: compute 400 ms (73%), lines 100 ms (18%), latency 50 ms (9%)" in (
        outcome.out
    )
    assert re.search(r"200 ms   50 ms  partition 1  latency  s0, 80 B 0 → 1", outcome.out)


def test_a_cell_of_the_chart_shows_what_takes_most_of_it() -> None:
    spans = [("compute", 0, 12), ("send", 12, 19), ("compute", 19, 23), ("wait", 23, 100)]
    timeline = tuple(Span(0, kind, a, b, 0, 0, 0) for kind, a, b in spans)
    found = Forecast(100.0, (MachineForecast(0.0, 0, 0, 0, 0, 0),), timeline=timeline)
    assert chart(found, 23).split("\n")[1] == "partition 0  █▒········"


def test_an_empty_step_has_an_empty_chart() -> None:
    found = Forecast(0.0, (MachineForecast(0.0, 0, 0, 0, 0, 0),))
    assert chart(found, 40).startswith("             0")


def test_the_path_table_of_a_plan_with_microbatches() -> None:
    plan = make_plan(stages_for_training(), 2, microbatches=2, strategy="stages")
    cluster = Cluster.equal(2)
    found = simulate(plan.graph, plan.transfers, plan.programs, cluster, timeline=True)
    text = path_table(plan, found)
    assert text.startswith("critical path: ")
    shares = [int(share) for share in re.findall(r"\((\d+)%\)", text)]
    assert 98 <= sum(shares) <= 102
    assert len(text.split("\n")) <= 3 + 10
    assert "update" in text or "s0" in text


def stages_for_training() -> dbg.Network:
    with dbg.Network("stages", batch=4) as net:
        h, label = dbg.input("x", (5,)), dbg.input("label", (5,))
        for k in range(2):
            with dbg.partition(k):
                h = L.Dense(5, name=f"s{k}")(h)
        dbg.loss(L.MeanSquaredError()(h, label))
    return net


def test_the_tables_of_many_links() -> None:
    plan = stages(8)
    cluster = Cluster.equal(8)
    found = simulate(plan.graph, plan.transfers, plan.programs, cluster)
    text = link_table(plan, found, cluster)
    assert text.startswith("heaviest links")
    assert len(text.split("\n")) == 2 + 5
    assert link_table(plan, Forecast(0.0, ()), cluster) == ""
    assert len(machine_table(plan, found, cluster).split("\n")) == 2 + 8


def test_the_tables_name_servers() -> None:
    plan = stages(2)
    cluster = slow_cluster(2)
    traffic = ServerTraffic(1, (800, 800), (0, 0))
    found = simulate(plan.graph, plan.transfers, plan.programs, cluster, traffic=traffic)
    assert "server 0, 2.1 s" in machine_table(plan, found, cluster)
    text = link_table(plan, found, cluster).split("\n")
    assert text[2:] == [
        "server 0 → 0  800 B         1     1 s",
        "server 0 → 1  800 B         1     1 s",
        "0 → 1          80 B         1  100 ms",
    ]


# Memory


def test_what_does_not_fit_is_told(cli: Cli, chain: Path, tmp_path: Path) -> None:
    path = tmp_path / "narrow.toml"
    path.write_text(cluster_toml(slow_cluster(2, memory_bytes=200)))
    outcome = cli("simulate", chain, "--cluster", path)
    assert outcome.code == 0
    assert "! 260 B  200 B" in outcome.out
    assert "warning: 2 of 2 partitions need more memory" in outcome.err
    assert "partition 0 needs 260 B of 200 B" in outcome.err


# Deadlocks


def knot(tmp_path: Path) -> Path:
    """0 and 1 both receive before they send; 2 waits behind them."""
    with dbg.Network("knot", batch=8) as net:
        image = dbg.input("image", (6, 6, 1))
        h = L.LocallyConnected2D(2, (3, 3), name="local", cut={"rows": 2})(image)
        h = L.Pool2D("max", (3, 3), (1, 1), padding="same", name="pool", cut={"rows": 2})(h)
        with dbg.partition(2):
            h = L.Dense(3, name="last")(h)
        dbg.output("h", h)
    path = tmp_path / "knot.plan"
    save_plan(make_plan(net, 3, mode="inference", strategy="tiles"), path)
    text = path.read_text()
    for mine, theirs in (("t0", "t1"), ("t1", "t0")):
        old = f"SEND {mine}.0\nRECV {theirs}.0\n"
        assert old in text
        text = text.replace(old, f"RECV {theirs}.0\nSEND {mine}.0\n")
    path.write_text(text)
    return path


def test_a_deadlock_is_told_with_its_circle(cli: Cli, tmp_path: Path) -> None:
    path = knot(tmp_path)
    outcome = cli("simulate", path, "--timeline")
    assert outcome.code == 3
    assert "partition  compute" in outcome.out
    assert "forecast:" not in outcome.out
    assert "the programs of knot wait for each other for ever" in outcome.err
    assert "partition 0 waits for local→pool, microbatch 0, from partition 1" in outcome.err
    assert "partition 1 waits for local→pool, microbatch 0, from partition 0" in outcome.err
    assert "partition 2 waits" not in outcome.err
    assert "and 1 more wait behind them" in outcome.err


def test_a_deadlock_as_json(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("simulate", knot(tmp_path), "--json")
    assert outcome.code == 3
    assert sorted(outcome.json["cycle"]) == [0, 1]
    assert {(one["partition"], one["source"]) for one in outcome.json["blocked"]} >= {
        (0, 1),
        (1, 0),
    }


# Clusters that do not fit


def test_a_cluster_with_too_few_machines(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "three.plan"
    save_plan(stages(3), path)
    one = tmp_path / "one.toml"
    one.write_text("[[machines]]\n")
    outcome = cli("simulate", path, "--cluster", one)
    assert outcome.code == 2
    assert "1 machine" in outcome.err


def test_of_more_machines_the_first(cli: Cli, chain: Path) -> None:
    outcome = cli("simulate", chain, "--cluster", EXAMPLE, "--json")
    assert outcome.code == 0
    assert len(outcome.json["machines"]) == 2


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "can't read the cluster file"),
        ("[[machines]]\ncuont = 2", "did you mean 'count'?"),
        ("[machines", "is no TOML"),
    ],
)
def test_a_cluster_file_that_is_none(
    cli: Cli, chain: Path, tmp_path: Path, content: str | None, text: str
) -> None:
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_text(content)
    outcome = cli("simulate", chain, "--cluster", path)
    assert outcome.code == 2
    assert text in outcome.err
    assert outcome.out == ""


def test_a_chart_too_narrow(cli: Cli, chain: Path) -> None:
    assert cli("simulate", chain, "--timeline", "--width", 5).code == 2
