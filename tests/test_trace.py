"""Traces without a run: notes, clocks, files, comparisons."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from cli_tools import Cli
from hypothesis import given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace as PerfettoTrace
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TracePacket, TrackEvent
from zmq_tools import toy_plan

from dbgraph.cluster import Cluster, Link
from dbgraph.errors import PlanError, UsageError
from dbgraph.ir.types import TensorType
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Instruction, Program, Recv, Run, Segment, Send, Transfer, Update
from dbgraph.plan.text import save_plan
from dbgraph.simulate.work import work_of
from dbgraph.trace.against import compare
from dbgraph.trace.assemble import assemble
from dbgraph.trace.clock import Sample, align
from dbgraph.trace.collect import Collector
from dbgraph.trace.events import HANDLE, KINDS, MOST_ROWS, POST, Recorder, Row, run_number
from dbgraph.trace.model import Clock, Event, PlanMark, Process, Trace, in_order
from dbgraph.trace.pftrace import open_trace, parse_trace, pieces, save_trace
from dbgraph.trace.program import ProgramLog, sent_at_once
from dbgraph.trace.recording import Recording
from dbgraph.trace.served import compare_servers
from dbgraph.trace.timeline import timeline

# --- clocks ---


class _World:
    """Two clocks, and messages between them that take their time."""

    def __init__(self, ahead: int, drift: float, seed: int) -> None:
        self._ahead, self._drift = ahead, drift
        self._random = random.Random(seed)

    def there(self, now: int) -> int:
        """What the peer's clock shows."""
        return now + self._ahead + int(now * self._drift)

    def sample(self, now: int) -> Sample:
        heard = now + self._way()
        answered = heard + self._random.randrange(20_000)
        return Sample(now, self.there(heard), self.there(answered), answered + self._way())

    def _way(self) -> int:
        return 30_000 + int(self._random.expovariate(1 / 100_000))


@settings(deadline=None, max_examples=60)
@given(
    ahead=st.integers(10**6, 10**15) | st.integers(-(10**15), -(10**6)),
    drift=st.floats(-40e-6, 40e-6),
    seed=st.integers(0, 2**32),
    bursts=st.integers(1, 20),
)
def test_an_offset_is_found_within_what_is_stated(
    ahead: int, drift: float, seed: int, bursts: int
) -> None:
    world = _World(ahead, drift, seed)
    begins = [10**9 + burst * 2 * 10**9 for burst in range(bursts)]
    found = align(world.sample(at + k * 10**6) for at in begins for k in range(8))
    begin, end = world.there(begins[0] - 10**9), world.there(begins[-1] + 10**9)
    stated = found.uncertainty(begin, end)
    for now in range(begins[0] - 10**9, begins[-1] + 10**9, 10**8):
        there = world.there(now)
        assert abs(there - found.ahead(there) - now) <= stated + 1
    assert stated < 500_000 + 0.0001 * 2 * 10**9
    assert found.samples == 8 * bursts


def test_a_drift_is_followed() -> None:
    world = _World(10**9, 40e-6, 1)
    found = align(world.sample(k * 10**9) for k in range(100))
    assert found.drift == pytest.approx(40e-6, rel=0.2)
    late = world.there(95 * 10**9)
    assert abs(late - found.ahead(late) - 95 * 10**9) < 300_000  # it has drifted by 3.8 ms


def test_a_clock_that_may_be_shared_is_taken_as_shared() -> None:
    world = _World(0, 0.0, 3)
    found = align(world.sample(k * 10**8) for k in range(20))
    assert found.ahead(10**9) == 0
    assert found.estimated[1] > 0
    assert abs(found.estimated[0]) <= found.estimated[1]


def test_without_exchanges_nothing_is_known() -> None:
    assert not align([]).known


# --- notes ---


class _Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1
        return self.now


class _Computed:
    """A JAX array that is there at a time."""

    def __init__(self, clock: _Clock, at: int) -> None:
        self._clock, self._at = clock, at

    def is_deleted(self) -> bool:
        return False

    def is_ready(self) -> bool:
        return self._clock.now >= self._at

    def block_until_ready(self) -> None:
        self._clock.now = max(self._clock.now, self._at)


class _Playing:
    """Stands where it is put."""

    def __init__(self, *instructions: Instruction) -> None:
        self.program = Program(0, (), instructions)
        self.position = 0


def _rows(recorder: Recorder, *, last: bool = False) -> list[Row]:
    numbers = recorder.take(last=last).rows
    return [Row(*numbers[i : i + 10]) for i in range(0, len(numbers), 10)]


def _begun(
    *instructions: Instruction, run: int = 1
) -> tuple[_Clock, Recorder, ProgramLog, _Playing]:
    clock = _Clock()
    log = ProgramLog(recorder := Recorder(clock))
    recorder.begin(run, "train")
    log.begin(playing := _Playing(*instructions))
    log.resumes(0)
    return clock, recorder, log, playing


def test_a_run_lasts_until_its_values_are_there() -> None:
    clock, recorder, log, playing = _begun(Run(0), Send(0), Recv(1), Run(1), Update())
    log.launched(0, value := _Computed(clock, 1000))
    playing.position = 2
    value.block_until_ready()
    log.look()
    clock.now = 1500
    log.resumes(2)
    log.waits = True
    clock.now = 3000
    log.arrived(1, 1, 0, 2900)
    log.resumes(2)
    log.launched(3, _Computed(clock, 4000))
    playing.position = 5
    log.look()
    assert not _rows(recorder)  # it computes
    log.settle()
    rows = _rows(recorder)
    assert [KINDS[row.kind] for row in rows] == ["run", "send", "receive", "run", "update"]
    run, send, receive, second, update = rows
    assert run.stop in range(1000, 1010)  # seen before the SEND, which needs its value
    assert send.start == run.stop
    assert send.stop in range(1500, 1510)
    assert (receive.start, receive.arrived) == (send.stop, 2900)
    assert second.start == receive.stop in range(3000, 3010)
    assert update.start == update.stop == second.stop in range(4000, 4010)


def test_instructions_follow_each_other() -> None:
    clock, recorder, log, playing = _begun(Run(0), Recv(0), Run(1), Send(1), run=7)
    log.launched(0, _Computed(clock, 500))
    log.arrived(7, 0, 0, 5)  # while it computes
    log.look()
    log.launched(2, _Computed(clock, 900))
    log.settle()
    playing.position = 4
    log.resumes(4)
    rows = _rows(recorder)
    assert [KINDS[row.kind] for row in rows] == ["run", "receive", "run", "send"]
    assert all(a.stop <= b.start for a, b in pairwise(rows))
    assert {row.run for row in rows} == {7}
    assert rows[1].arrived == 5
    assert rows[2].stop >= 900


def test_a_run_whose_value_is_sent_at_once_lasts_until_that_is_there() -> None:
    segments = (Segment(("a",), (), ("a",)), Segment(("b", "c"), (), ("b", "c")))
    transfers = [Transfer(i, name, "r", 0, 1, TensorType((1,))) for i, name in enumerate("acx")]
    instructions = (Run(0), Send(0), Run(1), Send(1), Run(0), Send(2), Run(1), Recv(0))
    found = sent_at_once(Program(0, segments, instructions), transfers)
    assert found == {0, 2}  # "x" is of no segment, and after a RECV nothing is shown
    clock, recorder, log, playing = _begun(*instructions[:2])
    log.launched(0, None)
    clock.now = 700  # its value is there
    log.look()
    playing.position = 2
    log.sent(800)
    log.sent(900)  # something else
    clock.now = 1000
    log.resumes(2)
    run, send = _rows(recorder)
    assert run.stop in range(700, 710)
    assert (send.start, send.stop) == (run.stop, 800)


def test_of_a_run_that_is_broken_off_what_has_ended_is_known() -> None:
    clock, recorder, log, playing = _begun(Send(0), Send(1), Run(0), Recv(0))
    for place in (1, 2):
        playing.position = place
        assert len(_rows(recorder)) == 0
        log.resumes(place)
    log.launched(2, _Computed(clock, 700))
    playing.position = 3
    recorder.begin(2, "train")
    log.begin(playing)
    playing.position = 0
    assert not _rows(recorder)  # what was begun may yet end
    log.settle()
    assert [row.run for row in _rows(recorder)] == [1, 1, 1]
    log.resumes(0)
    playing.position = 1
    assert not _rows(recorder, last=True)  # whether it was handed over, nobody knows


def test_values_that_come_before_their_run_begins_are_known_there() -> None:
    _, recorder, log, playing = _begun(Recv(0), run=5)
    log.arrived(6, 0, 0, 40)
    log.arrived(4, 0, 0, 41)  # of a run that was called off
    playing.position = 1
    assert [row.arrived for row in _rows(recorder)] == [0]
    recorder.begin(6, "train")
    log.begin(playing)
    assert [(row.run, row.arrived) for row in _rows(recorder)] == [(6, 40)]


def test_a_recorder_that_nobody_takes_from_drops_the_older_half() -> None:
    recorder = Recorder()
    for k in range(MOST_ROWS + 10):
        recorder.note_message(POST, "Push", "shard 0", k, k)
    noted = recorder.take()
    assert noted.lost == MOST_ROWS // 2
    assert len(noted.rows) // 10 == MOST_ROWS + 10 - MOST_ROWS // 2
    assert noted.rows[2] == noted.lost  # the start of the oldest that is left


def test_runs_have_numbers_in_order() -> None:
    ordinals = [(0, 0), (0, 1), (0, 7), (1, 0), (1, 3), (2, 0)]
    numbers = [run_number(ordinal) for ordinal in ordinals]
    assert numbers == sorted(numbers)
    assert numbers[0] > 0


def test_full_collectors_drop_the_oldest_steps_of_all() -> None:
    collector = Collector(most_rows=40)
    for run in range(1, 11):
        for p in range(2):
            clock = _Clock()
            clock.now = run * 1000
            recorder = Recorder(clock)
            recorder.begin(run, "train")
            log = ProgramLog(recorder)
            log.begin(playing := _Playing(*(Run(0),) * 4))
            log.resumes(0)
            for k in range(4):
                log.launched(k, None)
                log.look()
            playing.position = 4
            collector.add(f"partition {p}", recorder.take())
    # The toy's plan has no such programs: rows are looked at as they are.
    trace = assemble(collector, {"train": _toy()}, "zmq")
    runs = {p.name: [e.run for e in p.events] for p in trace.processes}
    assert trace.lost == 40
    assert runs["partition 0"] == runs["partition 1"]
    assert all(runs["partition 0"].count(run) == 4 for run in set(runs["partition 0"]))
    assert "dropped" in trace.note


def _toy() -> Plan:
    return toy_plan(2)


# --- files ---

_TEXT = st.text(max_size=8)
_NS = st.integers(0, 2**45)


@st.composite
def _traces(draw: st.DrawFn) -> Trace:
    processes = []
    for number in range(draw(st.integers(0, 3))):
        events = []
        for lane in (("run", "update", "send", "receive"), ("post", "handle", "work"), ("order",)):
            now = 0
            for _ in range(draw(st.integers(0, 4))):
                start = now + draw(_NS)
                now = start + draw(_NS)
                events.append(
                    Event(
                        kind=draw(st.sampled_from(lane)),
                        name=draw(_TEXT),
                        start_ns=start,
                        stop_ns=now,
                        arrived_ns=draw(st.none() | st.integers(-(2**40), 2**45)),
                        plan=draw(_TEXT),
                        run=draw(st.integers(0, 2**60)),
                        step=draw(st.integers(-1, 2**30)),
                        number=draw(st.integers(0, 2**30)),
                        microbatch=draw(st.integers(0, 64)),
                        peer=draw(st.sampled_from(["", "p 0", "p 1", "p 2"])),
                        size_bytes=draw(st.integers(0, 2**50)),
                        layers=draw(_TEXT),
                    )
                )
        clock = Clock(draw(_NS), draw(_NS), draw(st.integers(-1, 100)), draw(st.floats(-1, 1)))
        processes.append(Process(f"p {number}", clock, in_order(events)))
    mark = PlanMark(draw(_TEXT), "f", "training", 2, "d")
    return Trace("zmq", {"train": mark}, tuple(processes), draw(_NS), draw(_TEXT))


@settings(deadline=None, max_examples=80)
@given(_traces())
def test_what_is_written_is_read(trace: Trace) -> None:
    assert parse_trace(b"".join(pieces(trace))) == trace


def _two() -> Trace:
    """A value is sent, and waited for; orders come from the driver."""
    sends = (
        Event("run", "hidden", 0, 100, plan="train", run=1, step=0, layers="hidden"),
        Event("send", "hidden to 1", 100, 120, None, "train", 1, 0, 3, 0, "partition 1", 64),
    )
    waits = (
        Event("receive", "hidden from 0", 10, 200, 180, "train", 1, 0, 3, 0, "partition 0", 64),
    )
    processes = (Process("partition 0", events=sends), Process("partition 1", events=waits))
    return Trace("zmq", {"train": PlanMark("toy", "f", "training", 2, "d")}, processes)


def test_perfettos_own_library_reads_it_with_a_flow_from_send_to_receive() -> None:
    read = PerfettoTrace.FromString(b"".join(pieces(_two())))
    tracks = [p.track_descriptor for p in read.packet if p.HasField("track_descriptor")]
    processes = [t.process.process_name for t in tracks if t.HasField("process")]
    assert processes == ["partition 0", "partition 1"]
    threads = {t.uuid: t for t in tracks if t.HasField("thread")}
    assert {t.thread.thread_name for t in threads.values()} == {"program"}
    begun = [p for p in read.packet if p.track_event.type == TrackEvent.TYPE_SLICE_BEGIN]
    ended = [p for p in read.packet if p.track_event.type == TrackEvent.TYPE_SLICE_END]
    assert len(begun) == len(ended) == 4  # the RECV's wait, and the value in it
    (source,) = [p for p in begun if p.track_event.flow_ids]
    (to,) = [p for p in begun if p.track_event.terminating_flow_ids]
    assert list(source.track_event.flow_ids) == list(to.track_event.terminating_flow_ids)
    assert (source.timestamp, to.timestamp) == (100, 180)
    assert threads[to.track_event.track_uuid].thread.pid == 2


def test_no_packet_comes_before_the_one_that_begins_the_sequence() -> None:
    """Perfetto would pass over it."""
    packets = PerfettoTrace.FromString(b"".join(pieces(_two()))).packet
    flags = [packet.sequence_flags for packet in packets]
    assert flags[0] == TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
    assert set(flags[1:]) == {TracePacket.SEQ_NEEDS_INCREMENTAL_STATE}


def test_every_name_is_said_before_it_is_used() -> None:
    known: dict[str, set[int]] = {"names": set(), "arguments": set()}
    for packet in PerfettoTrace.FromString(b"".join(pieces(_two()))).packet:
        known["names"] |= {entry.iid for entry in packet.interned_data.event_names}
        data = packet.interned_data
        known["arguments"] |= {entry.iid for entry in data.debug_annotation_names}
        event = packet.track_event
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            assert event.name_iid in known["names"]
            assert {a.name_iid for a in event.debug_annotations} <= known["arguments"]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    data = b"".join(pieces(_two()))
    ends = [len(data) - 1, len(data) // 2]
    boundary = sum(len(piece) for piece in list(pieces(_two()))[:-1])
    for end in (*ends, boundary):
        path = tmp_path / "cut.pftrace"
        path.write_bytes(data[:end])
        with pytest.raises(UsageError, match=r"cut\.pftrace: it is"):
            open_trace(path)


@pytest.mark.parametrize("data", [b"", b"dbgraph plan 2\n", b"\x00" * 64])
def test_what_is_no_trace_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"no trace|no Perfetto trace") as found:
        parse_trace(data)
    assert "--trace" in found.value.hint


def test_saving_leaves_no_other_file(tmp_path: Path) -> None:
    save_trace(_two(), tmp_path / "run.pftrace")
    assert [path.name for path in tmp_path.iterdir()] == ["run.pftrace"]
    assert open_trace(tmp_path / "run.pftrace") == _two()


# --- timelines and comparisons ---


def test_a_timeline_shows_waits_and_arrows() -> None:
    found = timeline(_two())
    assert [track.machine for track in found.tracks] == [0, 1]
    by_kind = {block.kind: block for block in found.blocks}
    assert set(by_kind) == {"compute", "send", "wait", "receive"}
    assert by_kind["wait"].stop_s == by_kind["receive"].start_s == pytest.approx(180e-9)
    (arrow,) = found.arrows
    assert found.blocks[arrow.source].kind == "send"
    assert found.blocks[arrow.to].kind == "receive"


def test_a_long_run_is_shown_from_the_beginning_of_a_step() -> None:
    events = [
        Event("run", "h", k * 10, k * 10 + 5, plan="train", run=1 + k // 4, step=k // 4)
        for k in range(100)
    ]
    process = Process("partition 0", events=tuple(events))
    found = timeline(Trace("local", {}, (process,)), most=30)
    assert len(found.blocks) == 28
    assert found.blocks[0].start_s == 0.0
    assert "the last" in found.note


def test_a_trace_of_another_plan_is_refused() -> None:
    with pytest.raises(PlanError, match="another network") as found:
        compare(_toy(), _two(), Cluster.equal(2))
    assert "dbgraph train --plan" in found.value.hint


def test_commands_say_what_is_wrong_with_a_trace(cli: Cli, tmp_path: Path) -> None:
    plan, bad = tmp_path / "toy.plan", tmp_path / "bad.pftrace"
    save_plan(_toy(), plan)
    bad.write_bytes(b"nothing")
    code, _, said = cli("simulate", str(plan), "--against", str(bad))
    assert code == 2
    assert "no Perfetto trace" in said
    for option in ("--timeline", f"--svg={tmp_path / 'step.svg'}"):
        code, _, said = cli("simulate", str(plan), "--against", str(bad), option)
        assert code == 2
        assert "it takes no --timeline and no --svg" in said
    code, _, said = cli("diff", str(plan), str(bad))
    assert code == 2
    assert "is the trace of a run, and no plan" in said
    bad.write_bytes(b"")
    code, _, said = cli("simulate", str(plan), "--against", str(bad))
    assert code == 2
    assert "it is empty" in said
    save_trace(_two(), bad)
    code, _, said = cli("simulate", str(plan), "--against", str(bad))
    assert code == 3
    assert "another network" in said


def test_where_no_trace_can_be_written_is_said_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        Recording(tmp_path / "none" / "x.pftrace", {}, "zmq", print)
    with pytest.raises(UsageError, match="it is a folder"):
        Recording(tmp_path, {}, "zmq", print)
    with pytest.raises(UsageError, match="name too long"):
        Recording(tmp_path / ("x" * 300), {}, "zmq", print)
    Recording(tmp_path / "x.pftrace", {}, "zmq", print)
    assert not list(tmp_path.iterdir())


def test_a_trace_goes_into_a_pipe_and_behind_a_link(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    save_trace(_two(), pipe)
    assert parse_trace(os.read(reader, 1 << 16)) == _two()
    os.close(reader)
    link.symlink_to(tmp_path / "real")
    save_trace(_two(), link)
    assert link.is_symlink()
    assert open_trace(tmp_path / "real") == _two()


def test_traffic_with_shards_stands_beside_its_forecast() -> None:
    plan, machine = _toy(), "replica 0, partition 1"
    work = work_of(plan.graph, plan.transfers, plan.programs, Cluster.equal(2))
    posted, dealt = (
        [_about(kind, "shard 1" if kind == "post" else machine, k) for k in range(3)]
        for kind in ("post", "handle")
    )
    trace = Trace(
        "zmq", {}, (Process(machine, events=tuple(posted)), Process("shard 1", events=tuple(dealt)))
    )
    found = compare_servers(work, trace)
    (gap,) = found.gaps
    assert (gap.partition, gap.shard, gap.size_bytes, gap.messages) == (1, 1, 1_000_000, 3)
    assert gap.measured_s == pytest.approx(200e-9)
    assert found.dealing_s == pytest.approx(50e-9)
    fast = replace(Cluster.equal(2), link=Link(bytes_s=1e9))
    slow = replace(Cluster.equal(2), link=Link(bytes_s=1e6))
    times = [
        compare_servers(work_of(plan.graph, plan.transfers, plan.programs, c), trace).gaps[0]
        for c in (fast, slow)
    ]
    assert times[0].forecast_s == pytest.approx(1e-3, rel=0.6)
    assert times[1].forecast_s == pytest.approx(1.0, rel=0.6)
    assert compare_servers(work, _two()).gaps == ()


def _about(kind: str, peer: str, k: int) -> Event:
    """The end of a push that takes 200 ns, and then 50 ns to deal with."""
    start, stop, arrived = (0, 100, None) if kind == "post" else (220, 270, 200)
    at = 1000 * k
    came = None if arrived is None else at + arrived
    return Event(
        kind, "Push", at + start, at + stop, came, number=k + 1, peer=peer, size_bytes=10**6
    )


def test_messages_are_counted_alike_on_both_sides() -> None:
    a, b = Recorder(), Recorder()
    for _ in range(3):
        a.note_message(POST, "Push", "shard 0", 1, 2)
        b.note_message(HANDLE, "Push", "replica 0, partition 0", 3, 4, 3)
    collector = Collector()
    collector.add("replica 0, partition 0", a.take())
    collector.add("shard 0", b.take())
    trace = assemble(collector, {}, "zmq")
    assert len(trace.messages) == 3
    assert not a.take().rows
