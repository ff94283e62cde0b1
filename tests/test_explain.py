"""`dbgraph explain`: why transfers exist, what bounds a step, what another cut would have cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cli_tools import Cli, compiled, net_file
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from strategies_networks import networks

import dbgraph as dbg
import dbgraph.explain.others
from dbgraph import layers as L
from dbgraph.cluster import Cluster
from dbgraph.compile import Options, forecast, make_plans
from dbgraph.errors import NoCutError
from dbgraph.explain.crossing import Crossing, crossings, edges, node_edges
from dbgraph.explain.loads import Loads
from dbgraph.explain.others import others
from dbgraph.explain.page import edge_page, layer_page, plan_page, transfer_page
from dbgraph.explain.reasons import (
    ELSEWHERE,
    GATHER,
    HALO,
    KINDS,
    OTHERWISE,
    PARAMETER,
    SUM,
)
from dbgraph.passes.partition.given import Given
from dbgraph.plan.cuts import parse_cuts
from dbgraph.plan.plan import Plan
from dbgraph.plan.text import save_plan
from dbgraph.show.compare import Candidate, compare_table
from dbgraph.show.digest import Digest
from dbgraph.userfile import call, load_function

Golden = Callable[[str, str], None]
ROOT = Path(__file__).parent.parent

# By hand, so that the pages below do not change with the strategies.
DIGITS = """\
locallyconnected2d1/local2d: batch 128, rows 0|4|8, cols 0|4|8, maps 16 -> 0 1 2 3
pool2d1/pool2d: batch 128, rows 0|2|4, cols 0|2|4, maps 16 -> 0 1 2 3
localcontrastnorm1/sum: batch 128, rows 0|2|4, cols 0|2|4, maps 1 -> 0 1 2 3
localcontrastnorm1/pool2d: batch 128, rows 0|2|4, cols 0|2|4, maps 1 -> 0 1 2 3
localcontrastnorm1/subtract: batch 128, rows 0|2|4, cols 0|2|4, maps 16 -> 0 1 2 3
localcontrastnorm1/sum2: batch 128, rows 0|2|4, cols 0|2|4, maps 1 -> 0 1 2 3
localcontrastnorm1/pool2d2: batch 128, rows 0|2|4, cols 0|2|4, maps 1 -> 0 1 2 3
dense1/contract: inner rows 0|2|4, cols 0|2|4; parts batch 128, units 128 -> 0 1 2 3; \
combined batch 128, units 128 -> 0
dense2/contract: batch 128, units 10 -> 0
softmaxcrossentropy1/logsumexp: batch 128 -> 0
softmaxcrossentropy1/pick: batch 128 -> 0
loss#softmaxcrossentropy1/sum: scalar -> 0
argmax1/argmax: batch 128 -> 0
"""
DENSE = """\
hidden1/contract: batch 16, units 0|32|64 -> 0 1
hidden2/contract: batch 16, units 0|16|48 -> 1 0
scores/contract: batch 16, units 10 -> 1
error/logsumexp error/pick: batch 16 -> 1
loss#error/sum: scalar -> 1
"""


def dense() -> dbg.Network:
    with dbg.Network("dense", batch=16) as net:
        x, label = dbg.input("x", (20,)), dbg.input("label", (), dtype="int32")
        h = L.Dense(64, "relu", name="hidden1")(x)
        h = L.Dense(48, "relu", name="hidden2")(h)
        scores = L.Dense(10, name="scores")(h)
        dbg.loss(L.SoftmaxCrossEntropy(name="error")(scores, label))
    return net


def digits() -> dbg.Network:
    found = call(load_function(f"{ROOT / 'examples' / 'digits.py'}:network"))
    assert isinstance(found, dbg.Network)
    return found


def by_hand(net: dbg.Network, lines: str, partitions: int, **more: object) -> Plan:
    """Nodes that the lines leave out are cut as their inputs."""
    choices = parse_cuts(lines.split("\n"), net.graph, net.batch)
    options = {"modes": ("training",), "microbatches": 1, **more}
    asked = Options(partitions, given=Given(choices, net.batch), **options)  # type: ignore[arg-type]
    return make_plans(net, asked)[asked.modes[0]]


def digest(plan: Plan) -> Digest:
    return Digest(plan, forecast(plan))


def plain(text: str) -> str:
    """Without the folders of files, and the lines of this one, which change with it."""
    text = re.sub(r"[^\s(]*/(\w+\.py:\d+)", r"\1", text)
    return re.sub(r"test_explain\.py:\d+", "test_explain.py", text)


def found(plan: Plan, *layers: str) -> list[Crossing]:
    return [one for one in crossings(plan) if one.ends == layers]


# Pages


@pytest.fixture(scope="module")
def of_digits() -> Digest:
    return digest(by_hand(digits(), DIGITS, 4))


@pytest.fixture(scope="module")
def of_dense() -> Digest:
    return digest(by_hand(dense(), DENSE, 2))


def test_digits(golden: Golden, of_digits: Digest) -> None:
    golden("explain/digits.txt", plain(plan_page(of_digits)))


def test_dense(golden: Golden, of_dense: Digest) -> None:
    golden("explain/dense.txt", plain(plan_page(of_dense)))


@pytest.mark.parametrize("layer", ["dense1", "localcontrastnorm1", "dense2"])
def test_layers_of_digits(golden: Golden, of_digits: Digest, layer: str) -> None:
    """Without the other cuts: which are tried is the strategies' business."""
    page = plain(layer_page(of_digits, layer))
    golden(f"explain/digits_{layer}.txt", page.split("cut otherwise")[0])


def test_layer_of_dense(golden: Golden, of_dense: Digest) -> None:
    golden("explain/dense_hidden2.txt", plain(layer_page(of_dense, "hidden2")))


def test_edges_and_transfers(golden: Golden, of_dense: Digest) -> None:
    pages = [edge_page(of_dense, ("hidden1", "hidden2")), edge_page(of_dense, ("x", "hidden1"))]
    pages += [transfer_page(of_dense, t.index) for t in of_dense.plan.transfers]
    golden("explain/dense_edges.txt", plain("\n\n".join(pages)))


def test_one_machine() -> None:
    page = plan_page(digest(make_plans(dense(), Options(1, 1, "stages"))["training"]))
    assert "nothing crosses between machines" in page


# Reasons


def test_a_halo_is_what_a_window_reaches_for() -> None:
    with dbg.Network("n", batch=4) as net:
        h = dbg.input("x", (8, 6, 2))
        h = L.Conv2D(2, (1, 1), name="first", cut={"rows": 2})(h)
        pool = L.Pool2D("max", (3, 3), (1, 1), "same", name="pool", cut={"rows": 2})
        dbg.output("y", pool(h))
    plan = make_plans(net, Options(2, 1, "tiles", ("inference",)))["inference"]
    halo = found(plan, "first", "pool")
    assert [(one.reason.kind, one.reason.axes) for one in halo] == [(HALO, ("rows",))] * 2
    assert {str(one.cargo.region) for one in halo} == {"0:4,3:4,0:6,0:2", "0:4,4:5,0:6,0:2"}
    assert {str(one.reason.needs) for one in halo} == {"0:4,0:5,0:6,0:2", "0:4,3:8,0:6,0:2"}
    assert sum(one.bytes_ for one in halo) == 2 * 4 * 6 * 2 * 4


def test_what_stands_elsewhere_has_no_axis() -> None:
    net = dense()
    plan = make_plans(net, Options(2, 2, "stages"))["training"]
    (edge,) = edges(crossings(plan))
    assert (edge.kind, edge.axes) == (ELSEWHERE, ())
    assert edge.messages == 4  # forward and back, two microbatches
    assert edge.forward.bytes_ == edge.backward.bytes_


def test_a_reader_that_is_cut_otherwise() -> None:
    lines = "a/contract: batch 4, units 0|4|8 -> 0 1\nb/relu: batch 0|2|4, units 8 -> 0 1"
    with dbg.Network("n", batch=4) as net:
        h = L.Dense(8, name="a", use_bias=False)(dbg.input("x", (3,)))
        dbg.output("y", L.Activation("relu", name="b")(h))
    plan = by_hand(net, lines, 2, modes=("inference",))
    kinds = [(one.reason.kind, one.reason.axes) for one in crossings(plan)]
    assert kinds == [(OTHERWISE, ("units",))] * 2


def test_a_reduced_axis_in_other_ranges_is_no_gather() -> None:
    """The reader needs its own range alone."""
    with dbg.Network("n", batch=4) as net:
        h = L.Dense(8, name="a", use_bias=False)(dbg.input("x", (3,)))
        dbg.output("y", L.Dense(2, name="b", use_bias=False)(h))
    lines = (
        "a/contract: batch 4, units 0|3|8 -> 0 1\n"
        "b/contract: inner inputs 0|4|8; parts batch 4, units 2 -> 0 1; "
        "combined batch 4, units 2 -> 0"
    )
    plan = by_hand(net, lines, 2, modes=("inference",))
    kinds = {one.ends: (one.reason.kind, one.reason.axes) for one in crossings(plan)}
    assert kinds == {("a", "b"): (OTHERWISE, ("units",)), ("b", "b"): (SUM, ("inputs",))}


def test_a_parameter_that_several_read() -> None:
    with dbg.Network("n", batch=4) as net:
        h = L.Conv2D(2, (1, 1), name="filters", cut={"rows": 2})(dbg.input("x", (4, 4, 1)))
        dbg.loss(L.MeanSquaredError(name="error")(h, dbg.input("t", (4, 4, 2))))
    plan = make_plans(net, Options(2, 1, "tiles"))["training"]
    mine = found(plan, "filters", "filters")
    assert {one.reason.kind for one in mine} == {PARAMETER}
    names = {one.cargo.value for one in mine}
    assert names == {"filters/weights", "filters/biases"}
    assert [one.cargo.backward for one in mine] == [False, False, True, True]


def test_a_gather_names_the_axis_and_both_lines() -> None:
    plan = by_hand(dense(), DENSE, 2)
    (edge,) = [e for e in node_edges(crossings(plan)) if e.ends == ("hidden1", "hidden2")]
    assert (edge.kind, edge.axes) == (GATHER, ("units",))
    lines = [source.line for source in edge.transfers[0].sources if source]
    assert lines[1] == lines[0] + 1
    assert edge.forward.messages == edge.backward.messages == 2
    assert edge.forward.bytes_ == edge.backward.bytes_ == 16 * 64 * 4


@given(
    net=networks(partitions=4),
    strategy=st.sampled_from(["tiles", "stages"]),
    partitions=st.integers(2, 6),
    microbatches=st.integers(1, 2),
    mode=st.sampled_from(["training", "evaluation", "inference"]),
)
@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
def test_every_transfer_has_a_reason(
    net: dbg.Network, strategy: str, partitions: int, microbatches: int, mode: str
) -> None:
    """One that fits what the plan's own graph says."""
    kinds = {r.kind for r in net.graph.results}
    assume(("loss" if mode == "training" else "output") in kinds)
    try:
        asked = Options(partitions, microbatches, strategy, (mode,))
        plan = make_plans(net, asked)[mode]
    except NoCutError:
        assume(False)
    one_digest = digest(plan)
    all_ = crossings(plan)
    assert [one.cargo.transfer for one in all_] == list(plan.transfers)
    assert sum(edge.bytes_ for edge in edges(all_)) == one_digest.traffic_bytes
    assert sum(edge.bytes_ for edge in node_edges(all_)) == one_digest.traffic_bytes
    for one in all_:
        _check(plan, one_digest, one)
    for ends in {one.ends for one in all_}:
        assert edge_page(one_digest, ends)
    assert plan_page(one_digest)


def _check(plan: Plan, one_digest: Digest, one: Crossing) -> None:
    cargo, reason = one.cargo, one.reason
    t, graph = cargo.transfer, plan.graph
    assert reason.kind in KINDS
    assert cargo.backward == ("'" in t.value)
    assert cargo.holder == (t.to if cargo.backward else t.source)
    assert cargo.backward or cargo.reader == t.to
    assert cargo.region.size == t.type.size
    declared = plan.network.by_name.get(cargo.value)
    assert (reason.kind == PARAMETER) == (declared is not None and declared.op == "parameter")
    assert (reason.kind == SUM) == (cargo.part is not None)
    if reason.kind in (HALO, GATHER, OTHERWISE, ELSEWHERE):
        held = {tile.node.partition for tile in one_digest.tiles.get(cargo.value, ())}
        assert cargo.holder in held
        assert (cargo.reader not in held) == (reason.kind == ELSEWHERE)
        assert reason.needs.contains(cargo.region)
    if reason.kind in (HALO, GATHER, SUM):
        assert reason.axes
    for reader in cargo.readers:
        assert any(
            node.partition == cargo.reader and node.name.startswith(reader) for node in graph
        )


# Where the time goes


@pytest.mark.parametrize("microbatches", [1, 4])
@pytest.mark.parametrize("strategy", ["tiles", "stages"])
def test_loads_are_the_step(strategy: str, microbatches: int) -> None:
    plan = make_plans(dense(), Options(3, microbatches, strategy))["training"]
    loads = Loads(plan, Cluster.equal(3))
    step_s = forecast(plan).step_s
    for p, machine in enumerate(loads.forecast.machines):
        mine = loads.of_machine(p)
        assert sum(load.seconds for load in mine) == pytest.approx(step_s)
        waits_s = sum(x.seconds for x in mine if x.what.startswith(("waits", "has ended")))
        assert waits_s == pytest.approx(machine.idle_s)
        sends_s = sum(load.seconds for load in mine if load.what == "sends")
        assert sends_s == pytest.approx(machine.send_s)
        assert {load.machines for load in mine} == {(p,)}
    assert sum(load.seconds for load in loads.critical()) == pytest.approx(step_s)


# Other cuts


def test_other_cuts_cost_what_their_plans_do() -> None:
    """The forecast of each is that of the plan compiled with it."""
    plan = by_hand(dense(), DENSE, 2)
    result = others(plan, "hidden2", Cluster.equal(2))
    assert result is not None
    assert result.node == "hidden2/contract"
    assert result.now.step_s == forecast(plan).step_s
    steps = [other.step_s for other in result.best]
    assert steps == sorted(steps, key=lambda s: s or 0.0)
    lines = DENSE.replace("units 0|16|48 -> 1 0", "units 48 -> 1")
    (whole,) = (other for other in result.best if other.cut == "whole on 1")
    cost = forecast(by_hand(dense(), lines, 2))
    assert whole.step_s == pytest.approx(cost.step_s)
    assert whole.traffic_bytes == sum(cost.link_bytes.values())


def test_the_other_cuts_of_a_large_plan_are_priced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dbgraph.explain.others, "_NODES", 10)
    plan = by_hand(dense(), DENSE, 2)
    result = others(plan, "hidden2", Cluster.equal(2))
    assert result is not None
    assert not result.simulated
    assert all(other.step_s is None for other in (result.now, *result.best))
    page = layer_page(digest(plan), "hidden2")
    assert "the plan is too large to simulate each: its price" in page


def test_what_computes_nothing_has_no_other_cut() -> None:
    with dbg.Network("n", batch=4) as net:
        x = dbg.input("x", (4,))
        dbg.output("y", L.Flatten(name="flat")(x) + dbg.parameter("p", (4,)))
    plan = make_plans(net, Options(1, 1, "stages", ("inference",)))["inference"]
    assert others(plan, "p", Cluster.equal(1)) is None


def test_others_leave_all_other_layers_as_they_are() -> None:
    plan = by_hand(digits(), DIGITS, 4)
    old = dict(plan.cuts)
    assert others(plan, "dense1", Cluster.equal(4)) is not None
    assert plan.cuts == old


# The command


@pytest.fixture
def small(cli: Cli, tmp_path: Path) -> Path:
    path = tmp_path / "dense.plan"
    save_plan(by_hand(dense(), DENSE, 2), path)
    return path


def test_explain_prints_the_pages(cli: Cli, small: Path, of_dense: Digest) -> None:
    assert cli("explain", small) == (0, plan_page(of_dense) + "\n", "")
    assert cli("explain", small, "hidden2").out == layer_page(of_dense, "hidden2") + "\n"
    assert cli("explain", small, "t1").out == transfer_page(of_dense, 1) + "\n"
    page = edge_page(of_dense, ("hidden1", "hidden2")) + "\n"
    for edge in ("hidden1->hidden2", "hidden1 -> hidden2", "hidden1→hidden2"):
        assert cli("explain", small, edge).out == page


@pytest.mark.parametrize(
    ("what", "texts"),
    [
        ("hiden1", ["the plan has no layer 'hiden1'", "did you mean 'hidden1'?"]),
        ("hidden1->scroes", ["no layer 'scroes'", "did you mean 'scores'?"]),
        ("zzz", ["the layers are: x, label, hidden1, hidden2, scores, error"]),
        ("t999", ["the plan has no transfer t999", "they are t0 to t"]),
        ("hidden1->hidden2->scores", ["is no edge"]),
    ],
)
def test_what_is_not_there(cli: Cli, small: Path, what: str, texts: list[str]) -> None:
    outcome = cli("explain", small, what)
    assert outcome.code == 2
    for text in texts:
        assert text in outcome.err


def test_json_without_a_layer(cli: Cli, small: Path) -> None:
    one = cli("explain", small, "--json").json
    assert list(one) == ["plan", "forecast", "busiest", "critical_path", "edges"]
    step_s = one["forecast"]["step_s"]
    assert sum(load["seconds"] for load in one["busiest"]) == pytest.approx(step_s)
    assert (
        sum(edge["forward_bytes"] + edge["backward_bytes"] for edge in one["edges"])
        == (one["forecast"]["traffic_bytes"])
    )
    gather = one["edges"][0]
    assert (gather["from"], gather["to"]) == ("hidden1", "hidden2")
    assert (gather["why"], gather["axes"]) == ("gather", ["units"])


def test_json_of_a_layer_an_edge_and_a_transfer(cli: Cli, small: Path) -> None:
    layer = cli("explain", small, "hidden2", "--json").json
    assert layer["layer"]["cut"][0].startswith("hidden2/contract hidden2/add hidden2/relu: ")
    assert layer["layer"]["others"]["node"] == "hidden2/contract"
    edge = cli("explain", small, "hidden1->hidden2", "--json").json["transfers"]
    assert edge == [t for t in layer["transfers"] if t["layers"] == ["hidden1", "hidden2"]]
    assert [t["gradient"] for t in edge] == [False, False, True, True]
    assert cli("explain", small, edge[0]["transfer"], "--json").json["transfers"] == edge[:1]
    assert edge[0]["bytes"] * edge[0]["times"] == 16 * 32 * 4


def test_a_cluster_of_ones_own(cli: Cli, small: Path, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[[machines]]\nname = "old"\ncount = 2\nflop_s = "1 GFLOP/s"\n')
    one = cli("explain", small, "--cluster", path)
    assert f"on the machines of {path}: 2 × old (1 GFLOP/s" in one.out
    path.write_text("[[machines]]\ncount = 1\n")
    one = cli("explain", small, "--cluster", path)
    assert one.code == 2
    assert "has 1 machines; 2 are asked for" in one.err


def test_a_plan_that_deadlocks_or_was_edited(cli: Cli, small: Path) -> None:
    plan = by_hand(dense(), DENSE, 2)
    save_plan(replace(plan, cuts={**plan.cuts, "hidden1/add": plan.cuts["hidden2/add"]}), small)
    one = cli("explain", small)
    assert one.code == 3
    assert "hidden1/add has other tiles in the graph than in the cuts" in one.err


def test_layers_that_are_called_like_transfers(cli: Cli, tmp_path: Path) -> None:
    with dbg.Network("n", batch=4) as net:
        h = L.Dense(4, name="t0")(dbg.input("x", (3,)))
        dbg.output("y", L.Dense(4, name="t1")(h))
    path = tmp_path / "a.plan"
    save_plan(make_plans(net, Options(2, 1, "stages", ("inference",)))["inference"], path)
    assert cli("explain", path, "t0").out.startswith("t0: contract, 4 per example")


def test_an_input_is_fed_to_every_machine(cli: Cli, small: Path) -> None:
    assert cli("explain", small, "x").out.startswith("x: an input; each machine is fed what it ")
    assert "nothing crosses; each machine holds" in cli("explain", small, "x->hidden1").out
    assert cli("explain", small, "x", "--json").json["layer"]["others"] is None


# Compared


def test_candidates_side_by_side(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "best.plan"
    options = ("-n", 2, "--compare", "stages,tiles", "-o", path)
    one = cli("compile", net_file(tmp_path), *options)
    assert one.code == 0, one.err
    best = re.findall(r"^\* (\w+)  ", one.out, re.MULTILINE)
    assert len(best) == 1
    assert f"strategy {best[0]}" in cli("show", path).out
    step_s = {
        name: cli("compile", net_file(tmp_path), "-n", 2, "--strategy", name, "--json").json[
            "forecast"
        ]["step_s"]
        for name in ("stages", "tiles")
    }
    found_ = cli("compile", net_file(tmp_path), *options, "--json").json
    assert {c["strategy"]: c["step_s"] for c in found_["candidates"]} == step_s
    assert [c["best"] for c in found_["candidates"]].count(True) == 1
    assert found_["plan"]["strategy"] == min(step_s, key=step_s.__getitem__) == best[0]


def test_compare(golden: Golden, of_digits: Digest) -> None:
    stages = make_plans(digits(), Options(4, 2, "stages"))["training"]
    one = Candidate("edited", 1, len(of_digits.plan.transfers), of_digits.forecast)
    messages = sum(t.times(2) for t in stages.transfers)
    two = Candidate("stages", 2, messages, forecast(stages))
    golden("explain/compare.txt", compare_table([two, Candidate("none", error="too few"), one]))


def test_a_candidate_that_cannot_be_cut_so(cli: Cli, tmp_path: Path) -> None:
    one = cli("compile", net_file(tmp_path), "-n", 12, "--compare", "stages,tiles")
    assert one.code == 0, one.err
    assert "stages: no cut: 12 stages need as many layers" in one.out
    assert "strategy tiles" in one.out
    one = cli("compile", net_file(tmp_path), "-n", 12, "--compare", "stages")
    assert one.code == 4


def test_edited_cuts_are_a_candidate_too(cli: Cli, tmp_path: Path) -> None:
    path = compiled(cli, tmp_path, "-n", 2, "--strategy", "stages")
    one = cli("compile", "--from", path, "--compare", "tiles", "--json").json
    assert [c["strategy"] for c in one["candidates"]] == ["as it is", "tiles"]
    assert one["plan"]["strategy"] in ("stages", "tiles")
