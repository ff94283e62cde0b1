"""Profiles: what identifies a segment, the file, and what a forecast makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_tools import Cli, compiled

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.calibrate.segments import profile_plan
from dbgraph.cluster import Cluster
from dbgraph.errors import UsageError
from dbgraph.ir.graph import Graph
from dbgraph.kernels.segment import structure_of
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Run, Segment
from dbgraph.profile import Profile, read_profile, signature
from dbgraph.simulate import simulate


def network(batch: int = 8) -> dbg.Network:
    """Tiles alike in the middle, others at the border; dropout has dynamic attributes."""
    with dbg.Network("small", batch=batch) as net:
        image = dbg.input("image", (12, 8, 1))
        label = dbg.input("label", (), dtype="int32")
        h = L.LocallyConnected2D(4, (3, 3), padding="same", cut={"rows": 4})(image)
        h = L.Dropout(0.5)(h)
        h = L.Pool2D("l2", (2, 2))(h)
        dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(10)(h), label))
    return net


def plans() -> Iterator[Plan]:
    for partitions in (1, 2, 4):
        for batch in (4, 8):
            yield dbg.make_plan(network(batch), partitions, strategy="tiles")


def segments() -> Iterator[tuple[Graph, Segment]]:
    for plan in plans():
        for program in plan.programs:
            for segment in program.segments:
                yield plan.graph, segment


def test_segments_have_one_signature_if_and_only_if_they_share_a_compilation() -> None:
    found = [(signature(*s), structure_of(*s)[0]) for s in segments()]
    by_name = dict(found)
    assert all(by_name[name] == structure for name, structure in found)
    assert len(by_name) == len({structure for _, structure in found})
    assert 1 < len(by_name) < len(found)


def runs(plan: Plan, partition: int = 0) -> list[Segment]:
    program = plan.programs[partition]
    return [program.segments[i.segment] for i in program.instructions if isinstance(i, Run)]


def test_a_forecast_takes_the_seconds_that_were_measured() -> None:
    """One partition without training: the step is its segments."""
    plan = dbg.make_plan(network(), 1, mode="evaluation")
    (segment,) = runs(plan)
    profile = Profile({signature(plan.graph, segment): 12.5})
    graph, transfers, programs = plan.graph, plan.transfers, plan.programs
    found = simulate(graph, transfers, programs, Cluster.equal(1), profile=profile)
    assert found.step_s == pytest.approx(12.5)


def test_a_segment_that_was_not_measured_costs_what_its_ops_do() -> None:
    plan = dbg.make_plan(network(), 2)
    parts = plan.graph, plan.transfers, plan.programs
    without = simulate(*parts, Cluster.equal(2))
    assert simulate(*parts, Cluster.equal(2), profile=Profile({"0" * 16: 5.0})) == without


def test_a_profile_is_what_its_file_says(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    profile = Profile({"00ff": 1.25e-5, "1234": 3.0})
    path.write_text(profile.text())
    assert read_profile(path) == profile


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no profile"),
        ("[1, 2]", "is no profile"),
        ('{"segments": {}}', "is no profile"),
        ('{"dbgraph profile": 2, "segments": {}}', "version 2; this dbgraph reads version 1"),
        ('{"dbgraph profile": 1}', "`segments` must give seconds"),
        ('{"dbgraph profile": 1, "segments": {"a": "1"}}', "`segments` must give seconds"),
        ('{"dbgraph profile": 1, "segments": {"a": true}}', "`segments` must give seconds"),
        ('{"dbgraph profile": 1, "segments": {"a": -1}}', "`segments` must give seconds"),
        ('{"dbgraph profile": 1, "segments": {"a": NaN}}', "`segments` must give seconds"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        read_profile(path)
    assert "profile.json" in refused.value.rule
    assert says in refused.value.rule


def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_profile(tmp_path / "profile.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="it is no text"):
        read_profile(tmp_path / "binary")


# The command line


def test_wrong_input_is_said_before_anything_is_timed(cli: Cli, tmp_path: Path) -> None:
    plan = compiled(cli, tmp_path, "--partitions", 2)
    for args, says in (
        (["profile"], "Missing argument"),
        (["profile", tmp_path / "other.plan"], "there is no file"),
        (["profile", plan, "-o", tmp_path / "nowhere" / "p.json"], "there is no folder"),
        (["simulate", plan, "--profile", tmp_path / "other.json"], "can't read the profile"),
        (["simulate", plan, "--profile", plan], "is no profile"),
    ):
        outcome = cli(*args)
        assert outcome.code == 2, args
        assert says in outcome.err
        assert not outcome.out


@pytest.mark.slow
def test_a_plan_is_profiled_and_simulated_with_what_was_measured(cli: Cli, tmp_path: Path) -> None:
    plan = compiled(cli, tmp_path, "--partitions", 2)
    path = tmp_path / "profile.json"
    outcome = cli("profile", plan, "-o", path, "--json")
    assert outcome.code == 0, outcome.err
    found = read_profile(path)
    assert outcome.json == {"segments": dict(found.seconds)}
    assert all(1e-7 < seconds < 1.0 for seconds in found.seconds.values())
    with_it = cli("simulate", plan, "--profile", path, "--json").json
    path.write_text(Profile(dict.fromkeys(found.seconds, 10.0)).text())
    slower = cli("simulate", plan, "--profile", path, "--json").json
    assert slower["step_s"] > 10.0 > with_it["step_s"]


@pytest.mark.slow
def test_all_segments_of_a_plan_are_timed() -> None:
    plan = dbg.make_plan(network(), 2, strategy="tiles")
    told: list[float] = []
    profile = profile_plan(plan, False, told.append)
    for program in plan.programs:
        for segment in program.segments:
            assert profile.segment_s(plan.graph, segment)
    assert told == sorted(told)
