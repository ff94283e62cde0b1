"""Timelines: what a simulated step becomes, and what a page is given of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cluster import Cluster, Link
from dbgraph.compile import make_plan
from dbgraph.errors import UsageError
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Send
from dbgraph.show.forecasted import forecast_timeline
from dbgraph.show.page.timeline import timeline_data
from dbgraph.show.tracks import KINDS, Arrow, Block, Timeline, Track
from dbgraph.simulate import Forecast, ServerTraffic, simulate


@lru_cache
def plan(strategy: str = "tiles", microbatches: int = 1) -> Plan:
    with dbg.Network("small", batch=8) as net:
        x, label = dbg.input("x", (12,)), dbg.input("label", (), dtype="int32")
        h = L.Dense(16, "relu", name="first")(x)
        h = L.Dense(16, "relu", name="second")(h)
        dbg.loss(L.SoftmaxCrossEntropy(name="error")(L.Dense(4, name="third")(h), label))
    return make_plan(net, 3, strategy=strategy, microbatches=microbatches)


def simulated(one: Plan, cluster: Cluster | None = None, **options: Any) -> Forecast:
    machines = cluster or Cluster.equal(one.partitions)
    return simulate(one.graph, one.transfers, one.programs, machines, timeline=True, **options)


INSTANT = replace(Cluster.equal(3), link=Link(message_s=0.0))
PLANS = pytest.mark.parametrize(
    ("one", "cluster"),
    [
        (plan(), None),
        (plan("stages", 4), None),
        (plan(), INSTANT),
        (plan("stages", 4), INSTANT),
    ],
    ids=["tiles", "stages", "tiles, instant messages", "stages, instant messages"],
)


@PLANS
def test_blocks_of_a_track_touch_from_the_beginning_to_the_end(
    one: Plan, cluster: Cluster | None
) -> None:
    forecast = simulated(one, cluster)
    timeline = forecast_timeline(one, forecast)
    assert [track.machine for track in timeline.tracks] == [0, 1, 2]
    for track in range(3):
        blocks = [block for block in timeline.blocks if block.track == track]
        assert blocks[0].start_s == 0.0
        assert blocks[-1].stop_s == forecast.step_s
        for before, after in pairwise(blocks):
            assert before.stop_s == after.start_s


@PLANS
def test_each_receive_is_tied_to_its_send(one: Plan, cluster: Cluster | None) -> None:
    timeline = forecast_timeline(one, simulated(one, cluster))
    messages = sum(t.times(one.microbatches) for t in one.transfers)
    assert messages == len(timeline.arrows)
    for kind, end in (("send", "source"), ("receive", "to")):
        ends = [getattr(arrow, end) for arrow in timeline.arrows]
        assert sorted(ends) == [i for i, b in enumerate(timeline.blocks) if b.kind == kind]
    for arrow in timeline.arrows:
        source, to = timeline.blocks[arrow.source], timeline.blocks[arrow.to]
        assert source.bytes == to.bytes > 0
        assert source.about == to.about
        assert source.stop_s <= to.start_s
        assert f"to {to.track}" in source.name
        assert f"from {source.track}" in to.name


@PLANS
def test_the_critical_path_is_marked(one: Plan, cluster: Cluster | None) -> None:
    """It fills the step, but for the time that messages are under way."""
    forecast = simulated(one, cluster)
    timeline = forecast_timeline(one, forecast)
    marked = [block for block in timeline.blocks if block.critical]
    on_machines = sum(
        span.seconds for span in forecast.critical_path if span.kind not in ("link", "latency")
    )
    assert sum(b.stop_s - b.start_s for b in marked) == pytest.approx(on_machines)
    assert 0.0 < on_machines < forecast.step_s
    assert not any(block.kind == "wait" for block in marked)
    crossed = {(s.transfer, s.microbatch) for s in forecast.critical_path if s.kind == "link"}
    assert sum(arrow.critical for arrow in timeline.arrows) == len(crossed) > 0


def test_time_by_kind_is_that_of_the_forecast() -> None:
    one = plan("stages", 4)
    forecast = simulated(one)
    timeline = forecast_timeline(one, forecast)

    def total_s(track: int, *kinds: str) -> float:
        blocks = (b for b in timeline.blocks if b.track == track and b.kind in kinds)
        return sum(b.stop_s - b.start_s for b in blocks)

    for p, machine in enumerate(forecast.machines):
        assert total_s(p, "compute", "update") == pytest.approx(machine.compute_s)
        assert total_s(p, "send") == pytest.approx(machine.send_s)
        assert total_s(p, "receive") == pytest.approx(machine.receive_s)
        assert total_s(p, "wait", "orders") == pytest.approx(machine.idle_s)


def test_names_say_layers_peers_and_microbatches() -> None:
    one = plan("stages", 4)
    names = {block.name for block in forecast_timeline(one, simulated(one)).blocks}
    assert "first, microbatch 0" in names
    assert "first to 1, microbatch 3" in names
    assert "first from 0, microbatch 3" in names
    assert any("backward" in name for name in names)
    assert "update" in names


def test_traffic_with_the_parameter_server() -> None:
    one = plan()
    traffic = ServerTraffic(2, (1000,) * 3, (1000,) * 3)
    timeline = forecast_timeline(one, simulated(one, traffic=traffic))
    names = [block.name for block in timeline.blocks]
    assert "the parameter server" in names
    assert len(timeline.arrows) == len(one.transfers)


def test_a_deadlock_has_a_timeline_too() -> None:
    one = plan()
    program = one.programs[0]
    stuck = replace(
        program, instructions=tuple(i for i in program.instructions if not isinstance(i, Send))
    )
    broken = replace(one, programs=(stuck, *one.programs[1:]))
    forecast = simulated(broken)
    assert forecast.blocked
    timeline = forecast_timeline(broken, forecast)
    assert 0 < len(timeline.arrows) < len(one.transfers)
    assert any(block.kind == "wait" for block in timeline.blocks)


def test_a_forecast_without_a_timeline_is_refused() -> None:
    one = plan()
    machines = Cluster.equal(3)
    bare = simulate(one.graph, one.transfers, one.programs, machines)
    with pytest.raises(UsageError, match="has no timeline"):
        forecast_timeline(one, bare)


# What a page is given

_TIMES = st.floats(0, 1e3, allow_nan=False)


@st.composite
def timelines(draw: Callable[..., Any]) -> Timeline:
    tracks = draw(
        st.lists(
            st.builds(
                Track, st.text(max_size=5), st.text(max_size=3), st.none() | st.integers(0, 9)
            ),
            min_size=1,
            max_size=4,
        )
    )
    blocks = []
    for _ in range(draw(st.integers(0, 12))):
        start, stop = sorted((draw(_TIMES), draw(_TIMES)))
        blocks.append(
            Block(
                track=draw(st.integers(0, len(tracks) - 1)),
                kind=draw(st.sampled_from(KINDS)),
                start_s=start,
                stop_s=stop,
                name=draw(st.text(max_size=4)),
                about=draw(st.sampled_from(["", "a", "b"])),
                bytes=draw(st.integers(0, 10**9)),
                critical=draw(st.booleans()),
            )
        )
    ends = st.integers(0, len(blocks) - 1)
    arrows = draw(st.lists(st.builds(Arrow, ends, ends, st.booleans()))) if blocks else []
    return Timeline("t", tuple(tracks), tuple(blocks), tuple(arrows), "note")


def unpacked(data: dict[str, Any]) -> Timeline:
    """As timeline_model.js reads it."""
    tracks, columns, words = data["tracks"], data["blocks"], data["words"]
    blocks: list[Block] = []
    for number, count in enumerate(tracks["count"]):
        now = 0
        for _ in range(count):
            i = len(blocks)
            start = now + columns["gap"][i]
            now = start + columns["length"][i]
            blocks.append(
                Block(
                    number,
                    data["kinds"][columns["kind"][i]],
                    start * data["unit_s"],
                    now * data["unit_s"],
                    words[columns["name"][i]],
                    words[columns["about"][i]],
                    columns["bytes"][i],
                    i in columns["critical"],
                )
            )
    arrows = data["arrows"]
    return Timeline(
        data["title"],
        tuple(map(Track, tracks["name"], tracks["group"], tracks["machine"])),
        tuple(blocks),
        tuple(
            Arrow(source, to, i in arrows["critical"])
            for i, (source, to) in enumerate(zip(arrows["source"], arrows["to"], strict=True))
        ),
        data["note"],
    )


@settings(deadline=None, max_examples=60)
@given(timelines())
def test_what_a_page_is_given_says_all(timeline: Timeline) -> None:
    found = unpacked(json.loads(json.dumps(timeline_data(timeline))))
    assert (found.title, found.note, found.tracks) == ("t", "note", timeline.tracks)
    order = sorted(timeline.blocks, key=lambda block: (block.track, block.start_s))
    for block, expected in zip(found.blocks, order, strict=True):
        assert block.start_s == pytest.approx(expected.start_s, abs=1e-8)
        assert block.stop_s == pytest.approx(expected.stop_s, abs=1e-8)
        same = {"start_s": 0.0, "stop_s": 0.0}
        assert replace(block, **same) == replace(expected, **same)
    for arrow, was in zip(found.arrows, timeline.arrows, strict=True):
        assert arrow.critical == was.critical
        assert found.blocks[arrow.source].name == timeline.blocks[was.source].name
        assert found.blocks[arrow.to].bytes == timeline.blocks[was.to].bytes


def test_blocks_that_touch_still_touch() -> None:
    one = plan("stages", 4)
    data = timeline_data(forecast_timeline(one, simulated(one)))
    assert set(data["blocks"]["gap"]) == {0}
