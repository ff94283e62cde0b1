"""`dbgraph doctor`: who holds a run up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Cli, Outcome
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as but
from replica_tools import arrays as replica_arrays
from replica_tools import network as replica_network
from test_ps_shard import fetch, gradient, push, shard_of
from zmq_tools import arrays, network, until

import dbgraph as dbg
from dbgraph.actor import Address, Awaited, awaited
from dbgraph.actors.shard import ShardActor
from dbgraph.backends.control import FILE
from dbgraph.backends.processes import look_at
from dbgraph.backends.progress import Progress
from dbgraph.backends.states import MachineState, beat_of
from dbgraph.backends.theatre_zmq import ZmqTheatre
from dbgraph.backends.zeromq import ZmqBackend
from dbgraph.ps.messages import Admit
from dbgraph.state import State
from dbgraph.train import replicas
from dbgraph.train.progress import Silent
from dbgraph.watch.diagnosis import Finding, Limits, diagnose

LIMITS = Limits.of(sign_s=1.0, stuck_s=120.0)


def waits(name: str, *of: str, since_s: float = 12.0, **more: object) -> MachineState:
    what = f"a value from {', '.join(of)}"
    return MachineState(name, "RECV t0.0", what, of, since_s, **more)  # type: ignore[arg-type]


def works(name: str, since_s: float = 12.0, **more: object) -> MachineState:
    return MachineState(name, "RUN s0.0 (hidden)", since_s=since_s, **more)  # type: ignore[arg-type]


def found(*machines: MachineState) -> tuple[Finding, ...]:
    return diagnose(machines, LIMITS)


def only(*machines: MachineState) -> Finding:
    (one,) = found(*machines)
    return one


def test_short_waits_are_no_news() -> None:
    assert found(waits("a", "b", since_s=1.0), waits("b", "a", since_s=4.0), works("c")) == ()
    assert found() == ()


def test_waits_are_followed_to_their_end() -> None:
    one = only(waits("c", "b"), waits("b", "a"), works("a"), works("other"))
    assert (one.kind, one.machines, one.waiting) == ("busy", ("a",), ("b", "c"))
    assert not one.is_stall
    assert one.text == "a has been at RUN s0.0 (hidden) for 12.0 s"
    assert one.behind == (
        "b waits for a value from a, for 12.0 s",
        "c waits for a value from b, for 12.0 s",
    )


def test_who_computes_for_too_long_is_stuck_if_somebody_waits() -> None:
    one = only(waits("b", "a", since_s=200.0), works("a", since_s=200.0))
    assert (one.kind, one.machines, one.is_stall) == ("stuck", ("a",), True)
    assert found(works("a", since_s=200.0)) == ()


def test_who_is_silent_is_blamed_and_not_what_it_said_last() -> None:
    silent = but(waits("b", "a"), heard_s=14.0, process="pid 7 on far")
    one = only(waits("a", "b"), silent)
    assert (one.kind, one.machines, one.waiting) == ("silent", ("b",), ("a",))
    assert one.text == "b has not been heard for 14.0 s (pid 7 on far)"
    assert found(waits("a", "b"), but(silent, heard_s=3.9))[0].kind == "ring"


def test_a_stopped_process_is_known_at_once() -> None:
    stopped = works("b", alive=False, process="pid 7 on this host: stopped", heard_s=0.5)
    one = only(waits("a", "b", since_s=0.6), stopped)
    assert (one.kind, one.machines, one.waiting) == ("gone", ("b",), ("a",))
    assert one.text == "b can't go on (pid 7 on this host: stopped), heard 0.5 s ago"


def test_who_is_not_there_any_more_is_waited_for_in_vain() -> None:
    one = only(waits("a", "shard 3"))
    assert (one.kind, one.machines, one.waiting) == ("gone", ("shard 3",), ("a",))


def test_who_waits_for_one_that_waits_in_vain_is_told_at_once() -> None:
    gone = works("a", alive=False, process="pid 7 on this host: dead")
    one = only(waits("c", "b", since_s=0.1), waits("b", "a", since_s=0.2), gone)
    assert (one.machines, one.waiting) == (("a",), ("b", "c"))


def test_a_ring_is_named_and_those_behind_it() -> None:
    one = only(waits("c", "b"), waits("b", "a"), waits("a", "c"), waits("d", "b"), works("e"))
    assert (one.kind, one.machines, one.waiting) == ("ring", ("a", "c", "b"), ("d",))
    assert one.text.startswith("a ring of waits: a waits for a value from c, for 12.0 s; c waits")


def test_the_shortest_ring_of_a_knot_is_named_and_each_knot() -> None:
    knot = [waits("a", "b"), waits("b", "c"), waits("c", "a", "b"), waits("z", "z")]
    kinds = {(one.kind, one.machines) for one in found(*knot)}
    assert kinds == {("ring", ("b", "c")), ("ring", ("z",))}


def test_many_who_wait_are_counted() -> None:
    crowd = [waits(f"m{i}", "a") for i in range(143)]
    one = only(works("a"), *crowd)
    assert len(one.waiting) == 143
    assert one.behind[-1] == "and 139 more wait behind them"


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sets(st.integers(0, 7), max_size=3), min_size=1, max_size=8))
def test_a_ring_is_found_where_there_is_one(awaits: list[set[int]]) -> None:
    """Against taking away, again and again, those who wait for nobody that is left."""
    names = range(len(awaits))
    of = {n: {to for to in awaits[n] if to in names} for n in names}
    machines = [waits(str(n), *map(str, of[n])) if of[n] else works(str(n)) for n in names]
    left = set(names)
    while free := {n for n in left if not of[n] & left}:
        left -= free
    rings = [one.machines for one in found(*machines) if one.kind == "ring"]
    assert bool(rings) == bool(left)
    for ring in rings:
        for one, then in zip(ring, (*ring[1:], ring[0]), strict=True):
            assert int(then) in of[int(one)]


@settings(deadline=None, max_examples=100)
@given(st.permutations(range(6)))
def test_findings_do_not_hang_on_the_order_of_machines(order: list[int]) -> None:
    machines = [waits("a", "b"), waits("b", "c", "e"), works("c"), waits("d", "e"), waits("e", "d")]
    machines.append(works("f", heard_s=9.0))
    kinds = {(one.kind, one.machines) for one in found(*(machines[i] for i in order))}
    assert kinds == {("silent", ("f",)), ("ring", ("d", "e")), ("busy", ("c",))}


def test_limits_follow_the_signs_of_life() -> None:
    assert Limits.of(0.0, 1.0) == Limits(5.0, 1.0, 2.0)
    assert Limits.of(5.0, 1.0) == Limits(20.0, 1.0, 20.0)
    assert replace(LIMITS, patience_s=9.0).silence_s == 4.0


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc here")
def test_what_the_system_says_of_a_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert look_at(child.pid)[1]
    child.send_signal(signal.SIGSTOP)
    until(lambda: look_at(child.pid) == ("stopped", False))
    child.send_signal(signal.SIGCONT)
    child.kill()
    until(lambda: look_at(child.pid) == ("dead", False))  # not reaped yet
    child.communicate()
    assert look_at(child.pid) == ("dead", False)


def test_a_shard_says_whose_push_holds_a_fetch_up() -> None:
    actor = ShardActor(shard_of(max_staleness=1), State())
    slow, fast, sender = Address("replica", 1), Address("replica", 0), Address("coordinator")
    for replica in (0, 1):
        actor.receive(sender, Admit(replica, 1, (0,)), (), 0.0)
    assert awaited(actor).of == ()
    for sequence in (1, 2):
        actor.receive(fast, push(sequence), gradient(), 1.0)
    actor.receive(fast, fetch(1), (), 5.0)
    actor.receive(fast, push(3), gradient(), 9.0)
    held = awaited(actor)
    assert (held.of, held.since) == ((slow,), 5.0)
    assert held.what == (
        "a push of replica 1, partition 0, to answer the fetch of replica 0, partition 0"
    )
    beat = beat_of(waiting(held), {})
    assert beat.awaits == ("replica 1, partition 0",)
    assert beat.since_s == pytest.approx(time.monotonic() - 5.0, abs=60.0)
    actor.receive(slow, push(1, replica=1), gradient(), 10.0)
    assert awaited(actor).of == (slow,)  # one push ahead are allowed, not two
    actor.receive(slow, push(2, replica=1), gradient(), 11.0)
    assert awaited(actor).of == ()


def waiting(of: Awaited) -> Progress:
    progress = Progress()
    progress.moved("work", of)
    return progress


# --- runs ---


class Elsewhere(Silent):
    """Another terminal: after a step it asks, and the run waits for its answer."""

    def __init__(self, at: int, ask: Callable[[], None]) -> None:
        self.at, self.ask = at, ask

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        if done == self.at:
            thread = threading.Thread(target=self.ask)
            thread.start()
            thread.join()


def test_a_run_in_one_process_says_how_its_machines_are(cli: Cli, tmp_path: Path) -> None:
    said: list[Outcome] = []

    def ask() -> None:
        said.extend([cli("doctor", tmp_path), cli("doctor", tmp_path, "--json")])
        said.append(cli("replicas", tmp_path))

    dbg.Trainer(
        network(), dbg.Data(arrays()), partitions=2, strategy="tiles", steps=6,
        checkpoint=tmp_path, progress=Elsewhere(3, ask),
    ).train()  # fmt: skip
    text, shown, replicas = said
    assert (text.code, shown.code) == (0, 0)
    assert "step 2 of 6" in text.out  # the third is being told of
    assert "partition 1: idle for" in text.out
    assert "the run goes on: nobody waits for long" in text.out
    record = json.loads(shown.out)
    assert not record["stalled"]
    names = [machine["name"] for machine in record["machines"]]
    assert names == ["driver", "partition 0", "partition 1"]
    assert record["machines"][1]["place"]["step"] == 2
    assert replicas.code == 2
    assert "the run can't be asked for 'show'" in replicas.err
    assert not (tmp_path / FILE).exists()


def test_a_run_with_replicas_says_how_they_are(cli: Cli, tmp_path: Path) -> None:
    said: list[Outcome] = []
    dbg.Trainer(
        replica_network(), dbg.Data(replica_arrays(160)), algorithm="downpour", replicas=2,
        shards=2, steps=200, checkpoint=tmp_path,
        progress=Elsewhere(20, lambda: said.append(cli("doctor", tmp_path, "--json"))),
    ).train()  # fmt: skip
    (outcome,) = said
    assert outcome.code == 0
    names = {machine["name"] for machine in json.loads(outcome.out)["machines"]}
    assert {"coordinator", "shard 0", "shard 1", "replica 0, partition 0"} <= names


def test_no_run(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("doctor", tmp_path)
    assert outcome.code == 2
    assert "no run goes on in" in outcome.err
    missing = cli("doctor", tmp_path / "nowhere")
    assert missing.code == 2
    assert "there is no such folder" in missing.err
    (tmp_path / FILE).write_text('{"socket": "/nowhere", "pid": 4711, "host": "far"}')
    away = cli("doctor", tmp_path)
    assert away.code == 2
    assert "it was begun on far: ask it there" in away.err


@pytest.mark.slow
def test_a_worker_that_was_stopped_is_named(cli: Cli, tmp_path: Path) -> None:
    """A real run: the driver waits in a step while another thread asks."""
    said: list[tuple[Outcome, Outcome]] = []
    asking: list[threading.Thread] = []

    def stop_and_ask() -> None:
        backend = trainer._backend
        assert isinstance(backend, ZmqBackend)
        pid = backend.processes[1]
        os.kill(pid, signal.SIGSTOP)

        def look() -> None:
            try:
                until(lambda: backend.machines()[1].waiting and backend.machines()[0].waiting)
                said.append((cli("doctor", tmp_path), cli("doctor", tmp_path, "--json")))
            finally:
                os.kill(pid, signal.SIGCONT)

        asking.append(threading.Thread(target=look))
        asking[0].start()

    trainer = dbg.Trainer(
        network(), dbg.Data(arrays()), partitions=2, strategy="tiles", backend="zmq",
        backend_options={"heartbeat_s": 0.1, "log": lambda line: None}, steps=30,
        checkpoint=tmp_path, progress=Elsewhere(5, stop_and_ask),
    )  # fmt: skip
    assert trainer.train().step == 30  # it went on
    asking[0].join()
    ((text, shown),) = said
    assert (text.code, shown.code) == (1, 1)
    assert "stalled: partition 1 can't go on (pid" in text.out
    assert "this host: stopped)" in text.out
    assert "  partition 0 waits for hidden→scores, microbatch 0, from partition 1" in text.out
    (finding,) = json.loads(shown.out)["findings"]
    assert (finding["kind"], finding["machines"]) == ("gone", ["partition 1"])
    assert finding["waiting"] == ["driver", "partition 0"]


@pytest.mark.slow
def test_a_replica_s_partition_that_was_stopped_is_named(cli: Cli, tmp_path: Path) -> None:
    said: list[Outcome] = []

    def stop_and_ask() -> None:
        state = json.loads(cli("doctor", tmp_path, "--json").out)
        named = {machine["name"]: machine["process"] for machine in state["machines"]}
        pid = int(named["replica 1, partition 1"].split()[1])
        os.kill(pid, signal.SIGSTOP)
        try:
            until(lambda: look_at(pid) == ("stopped", False))
            said.append(cli("doctor", tmp_path, "--json"))
        finally:
            os.kill(pid, signal.SIGCONT)

    dbg.Trainer(
        replica_network(), dbg.Data(replica_arrays(160)), algorithm="downpour", replicas=2,
        partitions=2, backend="zmq", backend_options={"heartbeat_s": 0.1, "log": lambda line: None},
        steps=60, checkpoint=tmp_path, progress=Elsewhere(20, stop_and_ask),
    ).train()  # fmt: skip
    assert said[0].code == 1
    record = json.loads(said[0].out)
    (gone,) = [one for one in record["findings"] if one["kind"] == "gone"]
    assert gone["machines"] == ["replica 1, partition 1"]
    names = {machine["name"] for machine in record["machines"]}
    assert {"coordinator", "shard 0", "replica 0, partition 0", "replica 0, partition 1"} <= names


def stopped_at_its_start(
    cli: Cli, folder: Path, start: Callable[[], object], process: Callable[[], int | None]
) -> tuple[Outcome, Outcome]:
    """Stops a process of a run as soon as it is there, asks how the run is, and lets it go on."""
    run = threading.Thread(target=start)
    run.start()
    until(lambda: process() is not None and (folder / FILE).exists())
    pid = process()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: look_at(pid) == ("stopped", False))
        return cli("doctor", folder), cli("doctor", folder, "--json")
    finally:
        os.kill(pid, signal.SIGCONT)
        run.join()


@pytest.mark.slow
def test_a_worker_that_was_stopped_at_its_start_is_named(cli: Cli, tmp_path: Path) -> None:
    trainer = dbg.Trainer(
        network(), dbg.Data(arrays()), partitions=2, strategy="tiles", backend="zmq",
        backend_options={"log": lambda line: None}, steps=2, checkpoint=tmp_path, progress=Silent(),
    )  # fmt: skip

    def second() -> int | None:
        backend = trainer._backend
        processes = backend.processes if isinstance(backend, ZmqBackend) else ()
        return processes[1] if len(processes) > 1 else None

    text, shown = stopped_at_its_start(cli, tmp_path, trainer.train, second)
    assert (text.code, shown.code) == (1, 1)
    assert "step 0 of 2, it began" in text.out
    assert "stalled: partition 1 can't go on (pid" in text.out
    assert "driver waits for the processes to start" in text.out
    (gone,) = json.loads(shown.out)["findings"]
    assert (gone["machines"], gone["waiting"]) == (["partition 1"], ["driver"])


@pytest.mark.slow
def test_a_shard_that_was_stopped_at_its_start_is_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theatres: list[ZmqTheatre] = []
    make = replicas.make_theatre

    def made(*args: Any, **options: Any) -> ZmqTheatre:
        theatres.append(make(*args, **options))
        return theatres[0]

    monkeypatch.setattr(replicas, "make_theatre", made)
    trainer = dbg.Trainer(
        replica_network(), dbg.Data(replica_arrays(160)), algorithm="downpour", replicas=1,
        shards=2, backend="zmq", backend_options={"log": lambda line: None}, steps=4,
        checkpoint=tmp_path, progress=Silent(),
    )  # fmt: skip
    shard = Address("shard", 1)
    text, shown = stopped_at_its_start(
        cli, tmp_path, trainer.train, lambda: next((t.processes.get(shard) for t in theatres), None)
    )
    assert text.code == 1
    assert "coordinator waits for the processes to start" in text.out
    (gone,) = json.loads(shown.out)["findings"]
    assert (gone["machines"], gone["waiting"]) == (["shard 1"], ["coordinator"])


@pytest.mark.slow
def test_under_bounded_staleness_it_is_known_who_holds_all_up(cli: Cli, tmp_path: Path) -> None:
    said: list[Outcome] = []
    stuck = {"shard 0", "replica 0, partition 0"}

    def all_are_stuck() -> bool:
        said[:] = cli("doctor", tmp_path), cli("doctor", tmp_path, "--json")
        found = json.loads(said[1].out)["findings"]
        waiting = [set(one["waiting"]) for one in found if one["kind"] == "gone"]
        fetches = "to answer the fetch of replica 0" in said[0].out
        return fetches and any(stuck <= those for those in waiting)

    def stop_and_ask() -> None:
        state = json.loads(cli("doctor", tmp_path, "--json").out)
        named = {machine["name"]: machine["process"] for machine in state["machines"]}
        pid = int(named["replica 1, partition 0"].split()[1])
        os.kill(pid, signal.SIGSTOP)
        try:
            until(all_are_stuck)
        finally:
            os.kill(pid, signal.SIGCONT)

    dbg.Trainer(
        replica_network(), dbg.Data(replica_arrays(160)), backend="zmq", replicas=2, steps=60,
        algorithm=dbg.Downpour(max_staleness=1), backend_options={"heartbeat_s": 0.1, "log": str},
        checkpoint=tmp_path, progress=Elsewhere(20, stop_and_ask),
    ).train()  # fmt: skip
    text, shown = said
    assert text.code == 1
    assert "stalled: replica 1, partition 0 can't go on" in text.out
    assert "shard 0 waits for a push of replica 1, partition 0" in text.out
    (gone,) = [one for one in json.loads(shown.out)["findings"] if one["kind"] == "gone"]
    assert gone["machines"] == ["replica 1, partition 0"]
    assert set(gone["waiting"]) >= stuck
