"""Actors in processes: order, exactly once, large arrays, entering and leaving, faults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from theatre_actors import OTHER, SHARD, Heard, Make, Say, Script
from zmq_tools import alive, until

from dbgraph.actor import THEATRE, Address, Envelope, Hire
from dbgraph.backends.theatre import Cast
from dbgraph.backends.theatre_zmq import ZmqTheatre
from dbgraph.errors import RunError


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def theatre(log: list[str]) -> Iterator[ZmqTheatre]:
    """Afterwards no process is left."""
    theatre = ZmqTheatre(heartbeat_s=0.1, silence_s=1.5, log=log.append)
    yield theatre
    assert theatre.processes
    assert not [pid for pid in theatre.processes.values() if alive(pid)]


def cast(shards: int = 1, replicas: int = 0, partitions: int = 1, **make: str) -> Cast:
    return Cast(shards, tuple(range(replicas)), partitions, 0, Make(**make))


def replica(number: int, partition: int = 0) -> Address:
    return Address("replica", number, partition)


def test_messages_come_back_in_order_with_their_arrays(theatre: ZmqTheatre) -> None:
    sent = [
        Envelope(to, Say(i), (np.full(i, i), np.array(i, np.float32)))
        for i in range(300)
        for to in (SHARD, OTHER)
    ]

    def react(script: Script) -> None:
        script.is_over = len(script.heard) == len(sent)

    script = Script(react, sent)
    theatre.run(cast(shards=2), script)
    for shard in (SHARD, OTHER):
        came = [(m, arrays) for who, m, arrays in script.heard if who == shard]
        assert [m for m, _ in came] == [Say(i) for i in range(300)]
        for i, (many, one) in enumerate(arrays for _, arrays in came):
            assert many.tolist() == [i] * i
            assert one == i
            assert one.dtype == np.float32
    assert script.gone == []


@pytest.mark.slow
def test_large_arrays_arrive_and_a_partition_has_lines_to_its_shard_alone(
    theatre: ZmqTheatre,
) -> None:
    """Each of 2 × 2 senders says 5 × 40 MB and is over; nobody is lost."""
    lines: list[int] = []

    def react(script: Script) -> None:
        done = len(script.heard) == 4
        counters = theatre.counters()
        over = set(counters) == {SHARD, OTHER}
        if not done:
            lines.extend(
                c["lines"] for a, c in counters.items() if a.kind == "replica" and "lines" in c
            )
        script.is_over = done and over

    script = Script(react)
    theatre.run(cast(2, 2, 2, shard="Sum", replica="Sender"), script)
    assert script.texts() == ["5"] * 4
    totals = {
        shard: max(float(a) for who, _, (a,) in script.heard if who == shard)
        for shard in (SHARD, OTHER)
    }
    expected = 5_000_000.0 * sum(number + r for number in range(5) for r in range(2))
    assert totals == {SHARD: expected, OTHER: expected}
    assert max(lines) == 2, "to the driver and to one shard"
    assert script.gone == []


@pytest.mark.slow
def test_a_replica_may_enter_and_leave_while_others_work(theatre: ZmqTheatre) -> None:
    done: list[str] = []

    def react(script: Script) -> Iterable[Envelope]:
        said = [m.number for who, m, _ in script.heard if who == SHARD and isinstance(m, Heard)]
        if said.count(0) >= 20 and not done:
            done.append("hired")
            yield Envelope(THEATRE, Hire(5))
            yield Envelope(replica(5), Say(0, "not yet"))  # waits until it has entered
        if said.count(5) >= 20 and done == ["hired"]:
            done.append("ended")
            yield Envelope(replica(5), Say(0, "end"))
        ended = script.texts(replica(5)).count("ended") == 2
        script.is_over = ended and replica(5) not in theatre.counters() and said.count(0) > 100

    script = Script(react)
    theatre.run(cast(1, 1, shard="Sum", replica="Stream"), script)
    assert script.gone == []
    last = [m.number for who, m, _ in script.heard if who == replica(5) and isinstance(m, Say)][-1]
    counted = [m.text for _, m, _ in script.heard if isinstance(m, Heard) and m.number == 5]
    assert str(last) in counted, "all that it said before it left has arrived"


def _told_lost(script: Script) -> list[Address]:
    """Who told the coordinator that it was told of a loss."""
    return sorted(who for who, m, _ in script.heard if isinstance(m, Heard) and m.text == "lost")


def _pushes(script: Script, number: int) -> list[int]:
    """Where the shard reports what it got of a replica, in the order of all that was heard."""
    return [
        place
        for place, (who, m, _) in enumerate(script.heard)
        if who == SHARD and isinstance(m, Heard) and m.number == number and m.text != "lost"
    ]


@pytest.mark.slow
def test_a_killed_replica_is_told_to_all_and_the_others_go_on(
    theatre: ZmqTheatre, log: list[str]
) -> None:
    killed: list[int] = []
    noticed: list[int] = []

    def react(script: Script) -> None:
        if not killed and len(_pushes(script, 1)) >= 50:
            os.kill(theatre.processes[replica(1)], signal.SIGKILL)
            killed.append(1)
        if not noticed and _told_lost(script) == [replica(0), SHARD]:
            noticed.append(len(_pushes(script, 0)))
        script.is_over = bool(noticed) and len(_pushes(script, 0)) > noticed[0] + 50

    script = Script(react)
    theatre.run(cast(1, 2, shard="Sum", replica="Stream"), script)
    assert script.gone == [replica(1)]
    assert "replica 1, partition 0 (pid" in log[0]
    assert "SIGKILL" in log[0]
    _nothing_after_the_loss(script)


def _nothing_after_the_loss(script: Script) -> None:
    told = next(
        place
        for place, (who, m, _) in enumerate(script.heard)
        if who == SHARD and isinstance(m, Heard) and m.text == "lost"
    )
    assert max(_pushes(script, 1)) < told


@pytest.mark.slow
def test_a_stopped_replica_is_lost_and_when_it_wakes_up_it_is_refused_and_ends(
    theatre: ZmqTheatre, log: list[str]
) -> None:
    stopped: list[int] = []
    woken: list[int] = []

    def react(script: Script) -> None:
        if not stopped and len(_pushes(script, 1)) >= 50:
            stopped.append(theatre.processes[replica(1)])
            os.kill(stopped[0], signal.SIGSTOP)
        if not woken and _told_lost(script) == [replica(0), SHARD]:
            assert alive(stopped[0])
            os.kill(stopped[0], signal.SIGCONT)
            woken.append(len(_pushes(script, 0)))
        gone_on = woken and len(_pushes(script, 0)) > woken[0] + 50
        script.is_over = bool(gone_on) and not alive(stopped[0])

    script = Script(react)
    theatre.run(cast(1, 2, shard="Sum", replica="Stream"), script)
    assert script.gone == [replica(1)]
    assert "nothing was heard of it for" in log[0]
    _nothing_after_the_loss(script)


@pytest.mark.slow
def test_an_exception_names_the_actor(theatre: ZmqTheatre) -> None:
    script = Script(lambda _: None, [Envelope(OTHER, Say(0, "raise"))])
    with pytest.raises(RunError, match=r"^shard 1: ZeroDivisionError: one by nought") as caught:
        theatre.run(cast(2, shard="Moody"), script)
    assert "in receive\n" in caught.value.__notes__[0]
    script = Script(lambda _: None, [Envelope(OTHER, Say(0, "raise ours"))])
    with pytest.raises(RunError, match=r"^shard 1: bad data\n  look"):
        theatre.run(cast(2, shard="Moody"), script)


@pytest.mark.slow
def test_an_actor_that_can_not_be_made_ends_the_run(theatre: ZmqTheatre) -> None:
    with pytest.raises(RunError, match="replica 1, partition 0: no data"):
        theatre.run(cast(1, 2, replica="Picky"), Script(lambda _: None))


@pytest.mark.slow
def test_what_the_coordinator_raises_passes(theatre: ZmqTheatre) -> None:
    def react(script: Script) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        theatre.run(cast(2, 1), Script(react))


def test_a_process_that_exits_is_lost(theatre: ZmqTheatre, log: list[str]) -> None:
    def react(script: Script) -> None:
        script.is_over = bool(script.gone)

    script = Script(react, [Envelope(OTHER, Say(0, "exit"))])
    theatre.run(cast(2, shard="Moody"), script)
    assert script.gone == [OTHER]
    assert log[0].endswith("is lost: exit code 7")


@pytest.mark.slow
def test_who_computes_for_long_is_not_lost(theatre: ZmqTheatre) -> None:
    """Longer than the silence allowed."""

    def react(script: Script) -> None:
        script.is_over = script.texts() == ["done"]

    script = Script(react, [Envelope(SHARD, Say(2, "compute"))])
    theatre.run(cast(1, shard="Moody"), script)
    assert script.gone == []


@pytest.mark.slow
def test_who_is_at_one_thing_for_too_long_is_lost(log: list[str]) -> None:
    theatre = ZmqTheatre(heartbeat_s=0.1, stall_s=0.5, log=log.append)

    def react(script: Script) -> None:
        script.is_over = bool(script.gone)

    theatre.run(cast(1, shard="Moody"), Script(react, [Envelope(SHARD, Say(60, "sleep"))]))
    assert "it answers, but has been at " in log[0]
    assert not alive(theatre.processes[SHARD])


_DRIVER = """
import sys
from theatre_actors import Make, Script
from dbgraph.backends.theatre import Cast
from dbgraph.backends.theatre_zmq import ZmqTheatre
theatre = ZmqTheatre()
def react(script):
    if len(script.heard) == 20:
        print(*theatre.processes.values(), flush=True)
theatre.run(Cast(1, (0, 1), 1, 0, Make("Sum", "Stream")), Script(react, within_s=60))
"""


def test_all_end_when_the_coordinator_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _DRIVER],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as driver:
        assert driver.stdout is not None
        pids = [int(word) for word in driver.stdout.readline().split()]
        assert len(pids) == 3
        assert all(map(alive, pids))
        driver.kill()
        until(lambda: not any(map(alive, pids)))
