"""The link alone: two of them in one process, with real sockets and threads."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from zmq_tools import until

from dbgraph.backends.keys import new_key
from dbgraph.backends.zeromq_events import Arrived, Lost
from dbgraph.backends.zeromq_link import Link
from dbgraph.wire import Parcel, Process, Refusal
from dbgraph.wire import messages as m
from dbgraph.wire.connection import Limits

JOB = b"j" * 16
Pair = tuple[Link, Link]


@pytest.fixture
def pair() -> Iterator[Pair]:
    key = new_key()
    limits = Limits(window_bytes=4 << 20, window_items=8, ack_items=4, ack_bytes=2 << 20)
    ends = [
        Link(key, "tcp://127.0.0.1:*", me=Process(JOB, i, 1), heartbeat_s=0.1, limits=limits)
        for i in (0, 1)
    ]
    for i, link in enumerate(ends):
        link.start()
        link.connect(Process(JOB, 1 - i, 1), ends[1 - i].endpoint)
    yield ends[0], ends[1]
    for link in ends:
        link.close()
        link.close()


def taken(link: Link) -> Parcel:
    happening = link.take(10)
    assert isinstance(happening, Arrived)
    return happening.parcel


def test_messages_arrive_in_order_both_ways(pair: Pair) -> None:
    for link in pair:
        peer = 1 - link.me.number if link.me else 0
        for i in range(200):
            link.send(peer, m.Value(0, i, 0), [np.full(i, i)])
    for link in pair:
        for i in range(200):
            parcel = taken(link)
            assert parcel.message == m.Value(0, i, 0)
            assert parcel.arrays[0].tolist() == [i] * i
        assert link.drain(5)
        assert link.resent == 0


def test_values_larger_than_the_window_arrive(pair: Pair) -> None:
    one, two = pair
    value = np.random.default_rng(0).normal(size=3 << 20)  # 24 MiB
    for link, peer in ((one, 1), (two, 0)):
        link.send(peer, m.Value(0, 0, 0), [value, value[:10]])
    for link in pair:
        large, small = taken(link).arrays
        np.testing.assert_array_equal(large, value)
        np.testing.assert_array_equal(small, value[:10])
        assert large.ctypes.data % 64 == 0
        assert link.resent == 0


def test_what_is_sent_before_the_peer_listens_arrives_later(pair: Pair) -> None:
    one, _ = pair
    late = Link(one._key, "tcp://127.0.0.1:*", me=Process(JOB, 7, 1))
    one.connect(Process(JOB, 7, 1), late.endpoint)
    one.send(7, m.Collect())
    late.connect(Process(JOB, 0, 1), one.endpoint)
    late.start()
    assert taken(late).message == m.Collect()
    late.close()


def test_what_comes_before_the_orders_is_no_refusal(pair: Pair) -> None:
    one, _ = pair
    worker = Link(one._key, "tcp://127.0.0.1:*", job=JOB)
    worker.start()
    one.connect(Process(JOB, 7, 1), worker.endpoint)
    one.send(7, m.Collect())
    until(lambda: one.resent)
    other = Link(one._key, "tcp://127.0.0.1:*", me=Process(JOB, m.DRIVER, 1))
    other.start()
    other.connect(Process(JOB, 7, 1), worker.endpoint)
    peers = (m.Address(0, one.endpoint, 1),)
    assign = m.Assign(7, other.endpoint, 1, peers, heartbeat_s=0.1, silence_s=60.0)
    other.send(7, assign)
    assert taken(worker).message == assign
    assert taken(worker).message == m.Collect()
    assert not worker.counters[Refusal.JOB.value]
    for link in (worker, other):
        link.close()


def test_heartbeats_come_while_nobody_takes_anything(pair: Pair) -> None:
    one, _ = pair
    until(
        lambda: (
            0 < one.beat_of(1)[1] < 0.3 and one._lines[1].channel.connection.phase.name == "OPEN"
        )
    )
    assert one.last_heard_s(1) < 1


def test_silence_ends_a_line_once(pair: Pair) -> None:
    one, two = pair
    one.connect(Process(JOB, 9, 1), "tcp://127.0.0.1:1", silence_s=0.3)
    happening = one.take(5)
    assert isinstance(happening, Lost)
    assert happening.peer == 9
    one.give_up(9, "again")
    assert one.take(0) is None
    one.send(1, m.Stop())  # the other line is not touched
    assert taken(two).message == m.Stop()


def test_who_was_given_up_is_not_heard_any_more(pair: Pair) -> None:
    one, two = pair
    one.give_up(1, "it seemed dead")
    assert isinstance(one.take(1), Lost)
    two.send(0, m.Stop())
    until(lambda: one.counters[Refusal.LOST.value])
    assert one.take(0) is None


def test_another_incarnation_is_refused(pair: Pair) -> None:
    one, _ = pair
    old = Link(one._key, "tcp://127.0.0.1:*", me=Process(JOB, 1, 0))
    old.start()
    old.connect(Process(JOB, 0, 1), one.endpoint)
    old.send(0, m.Stop())
    until(lambda: one.counters[Refusal.EPOCH.value])
    old.close()
    assert one.take(0) is None


def test_who_waits_for_the_first_message_rests() -> None:
    """A worker may listen for days before a driver comes."""
    link = Link(new_key(), "tcp://127.0.0.1:*", me=Process(JOB, 0, 1))
    link.start()
    try:
        began_s = time.process_time()
        assert link.take(1.0) is None
        assert time.process_time() - began_s < 0.3
    finally:
        link.close()
