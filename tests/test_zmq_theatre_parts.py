"""The parts of the zmq theatre, one by one: letters, what travels, sockets' folders, turns."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from theatre_actors import SHARD, Say, Still
from zmq_tools import until

from dbgraph.actor import Actor, Address, Envelope
from dbgraph.backends.keys import new_key
from dbgraph.backends.turns import play
from dbgraph.backends.zeromq_cast import pack_make, unpack_make
from dbgraph.backends.zeromq_events import Arrived
from dbgraph.backends.zeromq_folder import JobFolder, remove_if_left
from dbgraph.backends.zeromq_link import Link
from dbgraph.coordinate.messages import Compute
from dbgraph.datasource import ArraySource, NpySource, Source
from dbgraph.errors import UsageError
from dbgraph.ir.region import Region
from dbgraph.ps.messages import Applied, Closed, Part, Push
from dbgraph.wire import Process, Refusal, WireError
from dbgraph.wire.connection import Connection, Limits
from dbgraph.wire.letter import read_letter, write_letter
from dbgraph.wire.messages import DRIVER, Enter, Gone, Letter

NUMBER = st.integers(0, 2**40)
PAIRS = st.lists(st.tuples(NUMBER, NUMBER), max_size=3).map(tuple)
PARTS = st.lists(st.builds(Part, st.text(max_size=5), PAIRS, st.booleans()), max_size=3).map(tuple)
MESSAGES = st.one_of(
    st.builds(Push, *[NUMBER] * 6, batches=PAIRS, parts=PARTS, codec=st.text(max_size=5)),
    st.builds(Compute, *[NUMBER] * 6, likely=st.none() | st.tuples(NUMBER, NUMBER)),
    st.builds(
        Closed, NUMBER, NUMBER, st.lists(st.builds(Applied, *[NUMBER] * 4, PAIRS)).map(tuple)
    ),
)


# --- letters ---


@given(MESSAGES)
@settings(max_examples=100, deadline=None)
def test_letters_come_back(message: msgspec.Struct) -> None:
    assert read_letter(write_letter(message)) == message


@pytest.mark.parametrize(
    "bad",
    [
        Letter("dbgraph.ps.messages:Push", b"\x80"),
        Letter("dbgraph.ps.messages:Push", b"\xc1"),
        Letter("dbgraph.ps.messages:Pairs", b"\x80"),
        Letter("dbgraph.ps.messages", b"\x80"),
        Letter("os:system", b"\x80"),
        Letter("pathlib:Path", b"\x80"),
        Letter("nowhere:Push", b"\x80"),
        Letter("", b""),
    ],
)
def test_what_is_no_letter_is_refused(bad: Letter) -> None:
    with pytest.raises(WireError):
        read_letter(bad)


# --- what travels ---


@dataclass(frozen=True)
class MakeWith:
    source: Source
    twin: Source

    def __call__(self, address: Address) -> Actor:
        return Still(address)


def test_arrays_are_mapped_on_this_host_and_travel_to_others(tmp_path: Path) -> None:
    array = np.arange(300_000.0)
    source = ArraySource({"x": array})
    here = pack_make(MakeWith(source, source), tmp_path)
    made = unpack_make(here)
    assert isinstance(made, MakeWith)
    assert isinstance(made.source, NpySource)
    assert made.source is made.twin, "written once"
    assert len(here) < 10_000
    there = pack_make(MakeWith(source, source), None)
    assert len(there) > array.nbytes
    for blob in (here, there):
        found = unpack_make(blob).source  # type: ignore[attr-defined]
        part = found.read("x", np.arange(2, 5), Region(()))
        np.testing.assert_array_equal(part, array[2:5])


def test_what_can_not_travel_is_a_usage_error(tmp_path: Path) -> None:
    lock = threading.Lock()
    with pytest.raises(UsageError, match="can't be sent"):
        pack_make(lambda address: lock, tmp_path)  # type: ignore[arg-type, return-value]


# --- folders ---


def test_a_folder_is_its_owners_alone_and_is_removed() -> None:
    folder = JobFolder()
    assert stat.S_IMODE(os.stat(folder.path).st_mode) == 0o700
    remove_if_left(folder.path)
    assert os.path.isdir(folder.path), "its driver lives"
    folder.remove()
    assert not os.path.exists(folder.path)
    remove_if_left(folder.path)


def test_a_folder_whose_driver_was_killed_is_removed() -> None:
    code = (
        "from dbgraph.backends.zeromq_folder import JobFolder; import time; "
        "folder = JobFolder(); print(folder.path, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        path = other.stdout.readline().strip()
        remove_if_left(path)
        assert os.path.isdir(path)
        other.kill()
    until(lambda: remove_if_left(path) or not os.path.exists(path))


def test_a_long_path_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder = JobFolder()
    assert len(folder.path) < 80
    assert list(long.iterdir()) == []
    folder.remove()


# --- acknowledgements that find no line ---


def test_an_acknowledgement_that_could_not_be_sent_stays_due() -> None:
    line: Connection[int] = Connection(1, 0.0, Limits(ack_s=0.05))
    line.judge(1, 1)
    line.accept(10, 0.0)
    assert not line.ack_due(0.01)
    assert line.ack_due(0.06)
    gap = line.ack_sent()
    assert not line.ack_due(1.0)
    line.ack_failed(gap, 1.0)
    assert not line.ack_due(1.01), "not at once: it would fail again"
    assert line.deadline() == pytest.approx(1.05)
    assert line.ack_due(1.06)


def test_who_is_given_up_holds_no_memory() -> None:
    from dbgraph.wire.connection import Event

    line: Connection[int] = Connection(1, 0.0)
    line.put(1, 100)
    line.sent(0.0)
    line.put(2, 100)
    line.happen(Event.SILENT)
    line.put(3, 100)
    assert line.idle
    assert line.peek() is None


# --- lines on demand ---

JOB = b"j" * 16


@pytest.fixture
def links() -> Iterator[tuple[Link, Link, Link]]:
    """The driver and two others, over files; nobody knows anybody."""
    folder, key = JobFolder(), new_key()
    found = [
        Link(key, folder.endpoint(str(n)), me=Process(JOB, n, 1), heartbeat_s=0.1)
        for n in (DRIVER, 0, 1)
    ]
    for link in found:
        link.start()
    driver, one, two = found
    for link in (one, two):
        assert link.me is not None
        link.connect(Process(JOB, DRIVER, 1), driver.endpoint)
        driver.connect(link.me, link.endpoint)
    yield driver, one, two
    for link in found:
        link.close()
    folder.remove()


def _enter(driver: Link, to: int, who: Link) -> None:
    assert who.me is not None
    driver.send(to, Enter(who.me.number, who.endpoint, 1, "shard", who.me.number, 0))


def _taken(link: Link) -> Any:
    happening = link.take(10)
    assert isinstance(happening, Arrived)
    return happening.parcel.message


def test_a_line_is_opened_by_the_first_message(links: tuple[Link, Link, Link]) -> None:
    driver, one, two = links
    for to, who in ((0, two), (1, one)):
        _enter(driver, to, who)
    assert isinstance(_taken(one), Enter)
    assert isinstance(_taken(two), Enter)
    assert (one.lines, two.lines) == (1, 1)
    one.send(1, letter(0))
    assert _taken(two) == letter(0)
    assert (one.lines, two.lines) == (2, 2)
    two.send(0, letter(1))
    assert _taken(one) == letter(1)
    assert one.drain(5)
    assert one.resent == two.resent == 0


def test_who_writes_before_being_introduced_is_heard_soon_after(
    links: tuple[Link, Link, Link],
) -> None:
    """Sooner than by sending again for want of an acknowledgement."""
    driver, one, two = links
    _enter(driver, 0, two)
    assert isinstance(_taken(one), Enter)
    for number in range(3):
        one.send(1, letter(number))
    until(lambda: two.counters[Refusal.SENDER.value])
    began = time.monotonic()
    _enter(driver, 1, one)
    assert isinstance(_taken(two), Enter)
    assert [_taken(two) for _ in range(3)] == [letter(n) for n in range(3)]
    assert time.monotonic() - began < 0.5


def test_who_is_gone_is_refused_at_once_and_what_waits_for_it_is_dropped(
    links: tuple[Link, Link, Link],
) -> None:
    driver, one, two = links
    for to, who in ((0, two), (1, one)):
        _enter(driver, to, who)
        assert isinstance(_taken(one if to == 0 else two), Enter)
    driver.send(1, Gone(0, lost=True))
    assert _taken(two) == Gone(0, lost=True)
    one.send(1, letter(0))
    until(lambda: two.counters[Refusal.LOST.value])
    two.send(0, letter(1))
    assert not two.pending
    assert two.take(0) is None
    assert one.take(0) is None


def letter(number: int) -> Letter:
    return write_letter(Say(number))


# --- turns ---


class Recorder(Still):
    """Remembers the order in which it was called."""

    def __init__(self, pieces: int) -> None:
        super().__init__(SHARD)
        self.pieces = pieces
        self.calls: list[str] = []

    def receive(self, *args: Any) -> Iterable[Envelope]:
        self.calls.append("receive")
        return ()

    def work(self) -> Iterable[Envelope] | None:
        self.calls.append("work")
        self.pieces -= 1
        return () if self.pieces >= 0 else None


def test_messages_go_before_work_and_without_either_it_waits() -> None:
    actor = Recorder(pieces=2)
    letters = ["a", "b", "", "c", "", "", "end"]

    def hear(patience_s: float | None) -> bool:
        happened = letters.pop(0)
        if happened:
            actor.receive()
            actor.is_over = happened == "end"
        return bool(happened)

    play(actor, hear, list)
    assert actor.calls == [
        "receive", "receive", "work", "receive", "work", "work", "receive",
    ]  # fmt: skip


def test_messages_are_pickled_by_name() -> None:
    """Where they are in an actor's state."""
    assert pickle.loads(pickle.dumps(Say(1))) == Say(1)
