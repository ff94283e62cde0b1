"""Faults, made on purpose: programs that fail, processes that die or hang, drivers that vanish,
and strangers at the port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import fake_machine
import numpy as np
import pytest
import zmq
from zmq_tools import alive, running, step, two_free_ports, until

from dbgraph.backends.keys import KeyPair, new_key
from dbgraph.backends.zeromq import ZmqBackend
from dbgraph.errors import ClusterLostError, DataError, RunError
from dbgraph.source import Source
from dbgraph.wire import Process, Refusal, codec, messages
from dbgraph.wire.codec import Envelope
from dbgraph.wire.parcel import spec_of


def _gone(backend: ZmqBackend, pids: tuple[int, ...]) -> None:
    """The job has ended by itself, and says so."""
    assert not any(map(alive, pids))
    with pytest.raises(RunError, match="the job does not run"):
        backend.step(step())


# --- programs that fail ---


def test_an_exception_in_a_worker_names_partition_and_cause() -> None:
    with running() as backend:
        pids = backend.processes
        with pytest.raises(RunError, match=r"partition 1: ZeroDivisionError: one by") as caught:
            backend.step(step(fake_machine.RAISE))
        assert "in begin\n" in caught.value.__notes__[0]
        assert "Traceback" not in str(caught.value)
        _gone(backend, pids)


def test_an_exception_in_a_segment_names_its_layers() -> None:
    said = r"partition 1, RUN s0\.0 \(hidden.*\): ValueError: shapes"
    with running() as backend, pytest.raises(RunError, match=said):
        backend.step(step(fake_machine.RAISE_LATER))


def test_our_own_errors_keep_their_kind_place_and_hint() -> None:
    with running() as backend:
        with pytest.raises(DataError, match=r"net\.py:12: partition 1: bad data\n  look") as caught:
            backend.step(step(fake_machine.RAISE_OURS))
        assert caught.value.at == Source("net.py", 12)


# --- processes that die or hang ---


def test_a_worker_that_exits_ends_the_job() -> None:
    with running() as backend:
        pids = backend.processes
        with pytest.raises(ClusterLostError) as caught:
            backend.step(step(fake_machine.EXIT))
        expected = f"partition 1 (pid {pids[1]} on this host) is lost: exit code 7"
        assert str(caught.value) == expected
        assert caught.value.exit_code == 5
        _gone(backend, pids)


@contextmanager
def _meanwhile(backend: ZmqBackend, act: Callable[[], object]) -> Iterator[None]:
    """Acts once the workers are in a step that does not end by itself."""

    def wait_and_act() -> None:
        until(lambda: "t" in backend._live.beat_of(0)[0].waiting)
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    yield
    thread.join()


def test_a_worker_that_is_killed_is_named_with_the_signal() -> None:
    with running() as backend:
        pids = backend.processes
        killed = _meanwhile(backend, lambda: os.kill(pids[1], signal.SIGKILL))
        with pytest.raises(ClusterLostError, match=r"partition 1 .*signal 9 \(SIGKILL"), killed:
            backend.step(step(fake_machine.HANG))
        _gone(backend, pids)


def test_a_worker_that_died_between_steps_is_noticed() -> None:
    with running() as backend:
        pids = backend.processes
        os.kill(pids[0], signal.SIGTERM)
        with pytest.raises(ClusterLostError, match=r"partition 0 .*signal 15 \(SIGTERM\)"):
            until(lambda: backend.step(step()) is None)
        _gone(backend, pids)


@pytest.mark.slow
def test_a_frozen_process_is_noticed_by_its_silence() -> None:
    with running(silence_s=1.0) as backend:
        pids = backend.processes
        os.kill(pids[1], signal.SIGSTOP)
        with pytest.raises(
            ClusterLostError, match=r"partition 1 .*nothing was heard of it for 1 s"
        ):
            backend.step(step())
        _gone(backend, pids)


def test_a_hung_program_is_told_from_a_dead_process() -> None:
    with running(stall_s=1.0) as backend:
        pids = backend.processes
        with pytest.raises(ClusterLostError, match=r"partition 1 .*it answers, but has been at"):
            backend.step(step(fake_machine.HANG))
        _gone(backend, pids)


@pytest.mark.slow
def test_a_worker_that_waits_says_for_what() -> None:
    said: list[str] = []
    lost = pytest.raises(ClusterLostError)
    with running(stall_s=3.0, report_s=1.2, log=said.append) as backend, lost:
        backend.step(step(fake_machine.HANG))
    waits = [line for line in said if line.startswith("partition 0 waits for t")]
    assert "microbatch 0, from partition 1 (last heard 0." in waits[0]


# --- drivers that vanish ---

DRIVER = """
import os, sys
sys.path.insert(0, {tests!r})
import fake_machine
from zmq_tools import fake_job, step
from dbgraph.backends.zeromq import ZmqBackend
backend = ZmqBackend(machine="fake_machine", log=lambda line: None)
backend.start(fake_job())
last = step(fake_machine.HANG)  # imports numpy.random, whose C code swallows a Ctrl-C
print(*backend.processes, flush=True)
backend.step(last)
"""


@contextmanager
def _driver() -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A driver in the middle of a step, in a terminal's process group of its own."""
    code = DRIVER.format(tests=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            pids = [int(word) for word in process.stdout.readline().split()]
            assert len(pids) == 2
            assert all(map(alive, pids))
            yield process, pids
        finally:
            process.kill()


@pytest.mark.parametrize(
    "sign",
    [
        *(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGINT, signal.SIGTERM)),
        signal.SIGKILL,
    ],
)
def test_workers_end_with_their_driver(sign: signal.Signals) -> None:
    with _driver() as (process, pids):
        if sign is signal.SIGINT:
            os.killpg(process.pid, sign)  # what a terminal does on Ctrl-C
            _, err = process.communicate(timeout=60)
            assert process.returncode == -signal.SIGINT
            assert err.count("KeyboardInterrupt") == 1
        else:
            process.send_signal(sign)
        until(lambda: not any(map(alive, pids)))


@pytest.mark.slow
def test_a_driver_that_forgets_to_stop_leaves_nothing() -> None:
    code = DRIVER.format(tests=str(Path(__file__).parent)).replace("fake_machine.HANG", "0")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not any(alive(int(word)) for word in done.stdout.split()[:2])
    assert done.stderr == ""


# --- strangers at the port ---


class Stranger:
    """A socket that speaks to partition 1's port from outside."""

    def __init__(self, backend: ZmqBackend) -> None:
        self.backend = backend
        link = backend._live
        assert link.me is not None
        self.me: Process = link.me
        self.key: KeyPair = link._key
        self.endpoint = backend.endpoints[2]
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.sockets: list[zmq.Socket[bytes]] = []

    def socket(self, own: KeyPair | None, server: KeyPair | None = None) -> zmq.Socket[bytes]:
        out = self.context.socket(zmq.PUSH)
        self.sockets.append(out)
        out.linger = 0
        out.immediate = True
        if own is not None:
            out.curve_publickey, out.curve_secretkey = own.public.encode(), own.secret.encode()
            out.curve_serverkey = (server or self.key).public.encode()
        out.connect(self.endpoint)
        return out

    def send(self, *frames: bytes) -> None:
        """As a member of the job would."""
        self.socket(self.key).send_multipart(frames)

    def header(self, message: object = messages.Collect(), **fields: object) -> bytes:
        own: dict[str, object] = {
            "job": self.me.job,
            "sender": messages.DRIVER,
            "to": 1,
            "epoch": self.me.epoch,
            "sequence": 1,
            "ack": 0,
            **fields,
        }
        return codec.encode(Envelope(message=message, **own))  # type: ignore[arg-type]

    def counted(self, reason: Refusal) -> bool:
        return self.backend.counters()["partition 1"].get(reason.value, 0) > 0


@pytest.fixture
def job() -> Iterator[tuple[ZmqBackend, Stranger]]:
    with running(port=two_free_ports()) as backend:
        backend.step(step())
        stranger = Stranger(backend)
        yield backend, stranger
        stranger.context.destroy(linger=0)
        for number in range(3):  # the job goes on, and nothing was taken
            assert backend.step(step(number)).losses["loss"] > 0
        assert backend.counters()["driver"]["resent"] == 0


Job = tuple[ZmqBackend, Stranger]


def _stream(stranger: Stranger) -> socket.socket:
    host, _, port = stranger.endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)))


def test_another_key_is_turned_away(job: Job) -> None:
    _, stranger = job
    stranger.socket(new_key())
    until(lambda: stranger.counted(Refusal.KEY))


def test_a_client_that_does_not_know_our_key_is_turned_away(job: Job) -> None:
    _, stranger = job
    stranger.socket(new_key(), server=new_key())
    until(lambda: stranger.counted(Refusal.HANDSHAKE))


def test_a_client_without_any_key_is_turned_away(job: Job) -> None:
    _, stranger = job
    stranger.socket(None)
    until(lambda: stranger.counted(Refusal.HANDSHAKE))


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        pytest.param(b"\xff" + b"\0" * 8 + b"\x7f" + b"\x03" * 60, marks=pytest.mark.slow),
        pytest.param(b"\0" * 500, marks=pytest.mark.slow),
    ],
    ids=["http", "greeting", "zeros"],
)
def test_garbage_on_the_port_is_turned_away(job: Job, garbage: bytes) -> None:
    _, stranger = job
    with _stream(stranger) as stream:
        stream.sendall(garbage)
        until(lambda: stranger.counted(Refusal.HANDSHAKE))


def test_connections_that_say_nothing_do_no_harm(job: Job) -> None:
    backend, stranger = job
    streams = [_stream(stranger) for _ in range(20)]
    backend.step(step(1))
    for stream in streams:
        stream.close()


def test_members_frames_are_checked(job: Job) -> None:
    _, stranger = job
    good = stranger.header()
    array = np.zeros(4, np.float32)
    payload = codec.seal(memoryview(array.tobytes()))
    value = messages.Value(0, 0, 0)
    loaded = stranger.header(
        value, sequence=4, arrays=(spec_of(array),), payload=payload
    )  # next in order: Assign, Ship and Run came before
    flipped = bytes([array.tobytes()[0] ^ 1]) + array.tobytes()[1:]
    for reason, frames in (
        (Refusal.LENGTH, (b"",)),
        (Refusal.LENGTH, (good[:-1],)),
        (Refusal.MAGIC, (b"x" * 200,)),
        (Refusal.VERSION, (good[:4] + b"\x63" + good[5:],)),
        (Refusal.CHECKSUM, (good[:-1] + bytes([good[-1] ^ 1]),)),
        (Refusal.LENGTH, (good, b"a payload that nobody announced")),
        (Refusal.LENGTH, (loaded,)),
        (Refusal.LENGTH, (loaded, array.tobytes()[:-1])),
        (Refusal.LENGTH, (loaded, array.tobytes() + b"x")),
        (Refusal.LENGTH, (loaded, array.tobytes(), b"a frame too many")),
        (Refusal.CHECKSUM, (loaded, flipped)),
        (Refusal.JOB, (stranger.header(job=b"another job....."),)),
        (Refusal.ADDRESSEE, (stranger.header(to=0),)),
        (Refusal.SENDER, (stranger.header(sender=17),)),
        (Refusal.EPOCH, (stranger.header(epoch=stranger.me.epoch - 1, sequence=4),)),
        (Refusal.EPOCH, (stranger.header(epoch=stranger.me.epoch + 1, sequence=4),)),
        (Refusal.DUPLICATE, (good,)),
        (Refusal.GAP, (stranger.header(sequence=99),)),
        (Refusal.MALFORMED, (stranger.header(sequence=0),)),
        (Refusal.MALFORMED, (stranger.header(messages.Ack(), sequence=4),)),
        (Refusal.MALFORMED, (stranger.header(messages.Chunk(0, 0), sequence=4),)),
    ):
        before = stranger.backend.counters()["partition 1"].get(reason.value, 0)
        stranger.send(*frames)
        until(
            lambda r=reason, n=before: (
                stranger.backend.counters()["partition 1"].get(r.value, 0) > n
            )
        )


def test_a_message_for_another_job_does_not_take_over_a_worker(job: Job) -> None:
    _, stranger = job
    assign = messages.Assign(1, "tcp://127.0.0.1:1", 9, (), 1.0, 8.0)
    stranger.send(stranger.header(assign, job=b"another job....."))
    until(lambda: stranger.counted(Refusal.JOB))


@pytest.mark.slow
def test_steps_survive_a_line_that_breaks() -> None:
    """The driver's outlets are cut again and again while it feeds."""
    with running() as backend:
        link = backend._live
        for number in range(6):
            for line in link._lines.values():
                with line.lock:
                    line.outlet.disconnect(line.outlet.last_endpoint)
                    line.outlet.connect(backend.endpoints[1 + line.channel.peer.number])
            backend.step(step(number))
