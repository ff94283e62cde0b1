"""The connection under a virtual clock: exactly once and in order, whatever the line does."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.wire import Channel, Process, Refusal, WireError, codec, messages
from dbgraph.wire.connection import TRANSITIONS, Connection, Event, Limits, Phase

LIMITS = Limits(window_items=6, window_bytes=6000, resend_s=1.0, ack_items=3, ack_s=0.2)
A, B = Process(b"j" * 16, 0, 1), Process(b"j" * 16, 1, 1)


class Line:
    """Carries frames one way, and may lose, repeat, delay and damage them."""

    def __init__(self, rng: random.Random, trouble: float) -> None:
        self.rng = rng
        self.trouble = trouble
        self.flying: list[tuple[float, bytes, bytes | None]] = []

    def put(self, header: bytes, payload: memoryview | None, now: float) -> None:
        data = None if payload is None else bytes(payload)
        for _ in range(1 + self._bad()):
            if self._bad():
                continue
            if self._bad():
                header = self._damaged(header)
            if data and self._bad():
                data = self._damaged(data)
            delay = self.rng.uniform(0, 0.5) if self._bad() else 0.01
            self.flying.append((now + delay, header, data))

    def _bad(self) -> bool:
        return self.rng.random() < self.trouble

    def _damaged(self, data: bytes) -> bytes:
        place = self.rng.randrange(len(data))
        kept = data[: self.rng.randrange(len(data))] if self._bad() else data
        return kept[:place] + bytes([(data[place] + 1) % 256]) + kept[place + 1 :]

    def take(self, now: float) -> list[tuple[bytes, bytes | None]]:
        self.flying.sort(key=lambda frame: frame[0])
        due = [frame[1:] for frame in self.flying if frame[0] <= now]
        self.flying = self.flying[len(due) :]
        return due


class End:
    """A process at one end of two lines, as a backend would be, but without I/O."""

    def __init__(self, me: Process, peer: Process, out: Line, into: Line) -> None:
        self.channel = Channel(me, peer, 0.0, LIMITS)
        self.out, self.into = out, into
        self.got: list[object] = []
        self.refused: list[Refusal] = []

    def turn(self, now: float) -> None:
        for header, payload in self.into.take(now):
            try:
                self.receive(header, payload, now)
            except WireError as error:
                self.refused.append(error.reason)
        self.channel.connection.tick(now)
        while frames := self.channel.next_frames():
            self.out.put(*frames, now)
            self.channel.sent(now)
        if ack := self.channel.ack(now):
            self.out.put(ack, None, now)

    def receive(self, header: bytes, payload: bytes | None, now: float) -> None:
        envelope = codec.decode(header)
        slot = self.channel.open_header(envelope, now)
        if slot is not None and payload is not None and len(payload) == len(slot):
            slot[:] = payload
            parcel = self.channel.close_payload(envelope, slot, now)
        else:
            data = None if payload is None else memoryview(payload)
            parcel = self.channel.close_payload(envelope, data, now)
        if parcel and not isinstance(parcel.message, messages.Ack):
            self.got.append((parcel.message.transfer, *(a.tolist() for a in parcel.arrays)))


def simulate(seed: int, trouble: float, counts: tuple[int, int]) -> tuple[End, End, float]:
    rng = random.Random(seed)
    there, back = Line(rng, trouble), Line(rng, trouble)
    ends = End(A, B, there, back), End(B, A, back, there)
    for end, count in zip(ends, counts, strict=True):
        for i in range(count):
            size = rng.choice((0, 1, 50, 400))
            end.channel.post(messages.Value(0, i, 0), [np.full(size, i, np.float64)])
    now = 0.0
    while not all(end.channel.connection.idle for end in ends):
        for end in ends:
            end.turn(now)
        now += 0.05
        assert now < 3000, "nothing moves any more"
    return *ends, now


def expected(end: End, count: int) -> bool:
    return [item[0] for item in end.got] == list(range(count)) and all(
        set(item[1]) <= {float(item[0])} for item in end.got
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from((0.0, 0.02, 0.1, 0.25)),
    st.tuples(st.integers(0, 25), st.integers(0, 25)),
)
def test_exactly_once_and_in_order(seed: int, trouble: float, counts: tuple[int, int]) -> None:
    a, b, _ = simulate(seed, trouble, counts)
    assert expected(b, counts[0])
    assert expected(a, counts[1])


def test_a_good_line_needs_no_resend_and_few_acks() -> None:
    a, b, now = simulate(1, 0.0, (25, 0))
    assert a.channel.connection.resent == 0
    assert not a.refused
    assert not b.refused
    assert now < 3


def test_refusals_are_named_on_a_bad_line() -> None:
    _, b, _ = simulate(3, 0.25, (25, 25))
    assert {Refusal.CHECKSUM, Refusal.DUPLICATE, Refusal.GAP} <= set(b.refused)


def connection(**more: float) -> Connection[str]:
    return Connection(1, 0.0, Limits(window_items=2, window_bytes=100, **more))  # type: ignore[arg-type]


def drain(line: Connection[str], now: float = 0.0) -> list[tuple[int, str]]:
    out = []
    while found := line.peek():
        out.append(found)
        line.sent(now)
    return out


def test_the_window_bounds_what_flies() -> None:
    line = connection()
    for item in "abc":
        line.put(item, 10)
    assert drain(line) == [(1, "a"), (2, "b")]
    line.acknowledged(1, gap=False, now=0.0)
    assert drain(line) == [(3, "c")]


def test_an_item_larger_than_the_window_still_goes() -> None:
    line = connection()
    line.put("huge", 10**9)
    line.put("next", 1)
    assert drain(line) == [(1, "huge")]


def test_without_acknowledgement_it_goes_back_ever_more_patiently() -> None:
    line = connection(resend_s=1.0)
    line.put("a", 1)
    assert drain(line) == [(1, "a")]
    times, now = [], 0.0
    while len(times) < 6:
        assert line.deadline() > now
        now = line.deadline()
        line.tick(now)
        if drain(line, now):
            times.append(now)
    assert times == [1, 3, 7, 15, 23, 31]
    assert line.resent == 6


def test_progress_keeps_it_from_going_back() -> None:
    line = connection(resend_s=1.0)
    line.put("a", 1)
    line.put("b", 1)
    drain(line)
    line.acknowledged(1, gap=False, now=0.9)
    line.tick(1.5)
    assert drain(line) == []


def test_nonsense_acknowledgements_change_nothing() -> None:
    line = connection()
    line.put("a", 1)
    for upto in (5, -1, 1):  # 1 is not sent yet
        line.acknowledged(upto, gap=False, now=0.0)
    assert drain(line) == [(1, "a")]


def test_a_late_acknowledgement_after_going_back() -> None:
    line = connection()
    for item in "ab":
        line.put(item, 1)
    drain(line)
    line.tick(1.0)
    assert line.peek() == (1, "a")
    line.acknowledged(2, gap=False, now=1.0)
    assert line.peek() is None
    assert line.idle


def test_a_gap_is_told_once() -> None:
    line = connection()
    line.missing(0.0)
    assert line.ack_due(0.0)
    assert line.ack_sent()
    line.missing(0.0)
    assert not line.ack_due(0.0)


def test_acknowledgements_wait_a_little_for_company() -> None:
    line = connection(ack_items=2, ack_s=0.1)
    line.accept(1, 5.0)
    assert not line.ack_due(5.05)
    assert line.deadline() == pytest.approx(5.1)
    assert line.ack_due(5.11)
    line.accept(1, 5.06)
    assert line.ack_due(5.06)
    line.piggybacked()
    assert not line.ack_due(9.0)


def test_the_table_is_total() -> None:
    assert set(TRANSITIONS) == set(product(Phase, Event))


def test_a_stale_epoch_is_refused() -> None:
    line = Connection[str](epoch=2, now=0.0)
    with pytest.raises(WireError) as caught:
        line.judge(1, 1)
    assert caught.value.reason is Refusal.EPOCH
    line.judge(2, 1)


def test_silence_then_waking_up() -> None:
    line = connection(silence_s=20.0)
    line.heard(5.0)
    assert line.phase is Phase.OPEN
    assert not line.silent(24.9)
    assert line.silent(25.0)
    line.put("a", 1)
    assert line.happen(Event.SILENT) is Phase.LOST
    assert line.peek() is None
    with pytest.raises(WireError) as caught:
        line.judge(1, 1)
    assert caught.value.reason is Refusal.LOST
    assert line.happen(Event.CLOSE) is Phase.CLOSED
