"""The zmq backend with real processes and sockets. The conformance suite of all backends is in
`test_backends.py`; here is what only this one does."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fake_machine
import numpy as np
import pytest
from zmq_tools import (
    BATCH,
    alive,
    arrays,
    fake_job,
    feeds,
    running,
    step,
    toy_plan,
    two_free_ports,
    until,
)

from dbgraph.backends.keys import create_key_file
from dbgraph.backends.local import LocalBackend
from dbgraph.backends.zeromq import ZmqBackend
from dbgraph.datasource import ArraySource, FunctionSource, NpySource, Source
from dbgraph.errors import CheckpointError, ClusterLostError, DataError, RunError, UsageError
from dbgraph.ir.region import Region
from dbgraph.job import Job, Step
from dbgraph.optim.rules import Rule
from dbgraph.state import State


def test_processes_exchange_values_step_after_step() -> None:
    with running() as backend:
        for number in range(30):
            result = backend.step(step(number))
            assert result.losses["pid0"] != result.losses["pid1"]
            assert (result.outputs["class"] == 1).all()
        assert set(backend.processes) == {int(result.losses[f"pid{p}"]) for p in (0, 1)}
        assert result.losses["jax0"] == 0.0
        until(lambda: backend.counters()["partition 1"])
        counters = backend.counters()
        assert set(counters) == {"driver", "partition 0", "partition 1"}
        # A frame may be sent again while a line comes up; anything else would be a refusal.
        again = {"resent", "duplicate", "out of order"}
        refused = {
            (who, reason): count
            for who, counts in counters.items()
            for reason, count in counts.items()
            if count and reason not in again
        }
        assert not refused


def test_no_port_is_open() -> None:
    with running() as backend:
        assert len(set(backend.endpoints)) == 3
        for endpoint in backend.endpoints:
            assert endpoint.startswith("ipc://")
            folder = Path(endpoint.removeprefix("ipc://")).parent
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_key_is_in_no_command_line_and_no_environment() -> None:
    with running() as backend:
        secret = backend._live._key.secret.encode()
        for pid in backend.processes:
            for file in ("cmdline", "environ"):
                assert secret not in Path(f"/proc/{pid}/{file}").read_bytes()


def test_a_state_goes_out_in_shares_and_comes_back_whole() -> None:
    rng = np.random.default_rng(0)
    types = toy_plan(2).parameter_types
    whole = {
        (slot, name): ((Region.whole(t.shape), rng.normal(size=t.shape).astype(np.float32)),)
        for name, t in types.items()
        for slot in ("", "0.trace")
    }
    state = State(41, whole, {"0.count": np.array(41, np.int32)})
    with running() as backend:
        backend.load(state)
        back = backend.collect()
        assert back.step == 41
        assert back.scalars["0.count"] == 41
        for (slot, name), ((_, value),) in whole.items():
            np.testing.assert_array_equal(back.whole(name, slot), value)
        with pytest.raises(CheckpointError, match="hidden"):
            backend.load(State(1, {k: v for k, v in whole.items() if "hidden" not in k[1]}))
        backend.step(step())


def test_mistakes_of_a_step_leave_the_job_running() -> None:
    with running() as backend:
        with pytest.raises(UsageError, match="no plan 'other'"):
            backend.step(Step("other"))
        with pytest.raises(DataError, match="'x' must be"):
            backend.step(Step("train", feeds={**feeds(), "x": np.zeros((2, 2))}))
        backend.step(step())


def test_what_users_print_reaches_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with running() as backend:
        backend.step(step(fake_machine.PRINT))
    out, err = capfd.readouterr()
    assert out == ""
    assert "printed by a user's function" in err


@pytest.mark.slow
def test_it_starts_again_after_it_was_stopped() -> None:
    with running() as backend:
        first = backend.processes
        with pytest.raises(UsageError, match="runs a job already"):
            backend.start(fake_job())
        backend.stop()
        backend.stop()
        assert not any(map(alive, first))
        with pytest.raises(RunError, match="was stopped"):
            backend.step(step())
        backend.start(fake_job())
        assert set(backend.processes).isdisjoint(first)
        backend.step(step())


def test_ports_can_be_declared() -> None:
    port = two_free_ports()
    with running(port=port) as backend:
        expected = (f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 1}")
        assert backend.endpoints[1:] == expected
        assert backend.endpoints[0].startswith("tcp://127.0.0.1:")


@pytest.mark.slow
def test_workers_can_be_pinned_to_cores() -> None:
    cores = sorted(os.sched_getaffinity(0))
    with running(pin=True) as backend:
        backend.step(step())
        found = [os.sched_getaffinity(pid) for pid in backend.processes]
    assert found == [{cores[p % len(cores)]} for p in (0, 1)]


def test_a_port_in_use_is_named() -> None:
    port = two_free_ports()
    backend = ZmqBackend(machine="fake_machine", port=port)
    in_use = pytest.raises(UsageError, match=f"port {port + 1} of 127.0.0.1 is in use")
    with socket.create_server(("127.0.0.1", port + 1)), in_use:
        backend.start(fake_job())
    assert backend.processes == ()
    with pytest.raises(UsageError, match="beyond 65535"):
        ZmqBackend(machine="fake_machine", port=65535).start(fake_job())


def test_a_worker_that_can_not_start_is_reported() -> None:
    with pytest.raises(RunError, match="No module named 'no_such_machine'"):
        ZmqBackend(machine="no_such_machine").start(fake_job())


def _made(count: int) -> dict[str, np.ndarray]:
    return arrays(count)


def _sources(folder: Path) -> Iterator[Source]:
    yield ArraySource(arrays())
    for name, array in arrays().items():
        np.save(folder / f"{name}.npy", array)
    yield NpySource({name: folder / f"{name}.npy" for name in arrays()})
    yield FunctionSource(_made, (40,))


@pytest.mark.slow
def test_it_trains_as_the_local_backend_does_whatever_the_source(tmp_path: Path) -> None:
    plan, rule = toy_plan(2), Rule.of("momentum", learning_rate=0.1)
    order = [np.arange(i, i + BATCH, dtype=np.int64) * 3 % 40 for i in range(3)]
    results, states = [], []
    for source in (None, *_sources(tmp_path)):
        job = Job({"train": plan}, rule, {} if source is None else {"train": source})
        local = LocalBackend() if source is None else None
        with (
            running(job, machine="dbgraph.machine") if local is None else _started(local, job) as b
        ):
            b.load(None)
            for number, examples in enumerate(order):
                if source is None:
                    cut = {name: array[examples] for name, array in arrays().items()}
                    results.append(b.step(Step("train", number, feeds=cut)))
                else:
                    result = b.step(Step("train", number, examples))
                    assert result.losses == results[number].losses
                    np.testing.assert_array_equal(
                        result.outputs["class"], results[number].outputs["class"]
                    )
            states.append(b.collect())
    for state in states[1:]:
        assert state.step == states[0].step
        for key in states[0].tensors:
            np.testing.assert_array_equal(state.whole(*key[::-1]), states[0].whole(*key[::-1]))


class _started:
    def __init__(self, backend: LocalBackend, job: Job) -> None:
        self.backend = backend
        backend.start(job)

    def __enter__(self) -> LocalBackend:
        return self.backend

    def __exit__(self, *_: object) -> None:
        self.backend.stop()


# --- workers that a user has started ---

SERVE = (
    "from dbgraph.backends.zeromq_worker import serve; "
    "serve({listen!r}, {key!r}, forever={forever!r}, machine='fake_machine')"
)


class Served:
    """Workers that listen, as `dbgraph worker` starts them."""

    def __init__(self, folder: Path, count: int = 2) -> None:
        self.folder = folder
        self.key = folder / "job.key"
        create_key_file(self.key)
        self.hosts = folder / "hosts.toml"
        port = two_free_ports()
        self.listen = [f"tcp://127.0.0.1:{port + i}" for i in range(count)]
        self.hosts.write_text("\n".join(f'[[host]]\naddress = "{e}"' for e in self.listen))
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, forever: bool = False) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        for endpoint in self.listen:
            code = SERVE.format(listen=endpoint, key=str(self.key), forever=forever)
            process = subprocess.Popen(
                [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, env=environment
            )
            self.processes.append(process)
        for process, endpoint in zip(self.processes, self.listen, strict=True):
            assert process.stderr is not None
            assert process.stderr.readline() == f"dbgraph worker: listening on {endpoint}\n"

    def backend(self, **options: object) -> ZmqBackend:
        return ZmqBackend(self.hosts, self.key, heartbeat_s=0.1, **options)  # type: ignore[arg-type]

    def end(self) -> list[int]:
        ended, self.processes = self.processes, []
        for process in ended:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=60)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        return [process.returncode for process in ended]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    found = Served(tmp_path)
    yield found
    found.end()


def test_listed_workers_serve_a_job_and_end(served: Served) -> None:
    served.start()
    backend = served.backend()
    backend.start(Job({"train": toy_plan(2)}, sources={"train": ArraySource(arrays())}))
    result = backend.step(Step("train", 1, np.arange(BATCH)))
    assert (result.outputs["class"] == 1).all()  # the driver cut and fed the batch
    pids = [int(result.losses[f"pid{p}"]) for p in (0, 1)]
    assert backend.processes == ()
    backend.stop()
    assert [process.wait(60) for process in served.processes] == [0, 0]
    assert not any(map(alive, pids))


@pytest.mark.slow
def test_listed_workers_wait_for_the_next_job_where_told(served: Served) -> None:
    served.start(forever=True)
    pids: set[float] = set()
    for _ in range(2):
        backend = served.backend()
        backend.start(fake_job())
        pids.update(backend.step(step()).losses[f"pid{p}"] for p in (0, 1))
        backend.stop()
    assert len(pids) == 4
    served.end()
    assert not [pid for pid in pids if alive(int(pid))]


@pytest.mark.slow
def test_another_key_is_not_let_in(served: Served, tmp_path: Path) -> None:
    served.start()
    create_key_file(tmp_path / "other.key")
    backend = ZmqBackend(served.hosts, tmp_path / "other.key", silence_s=1.0)
    with pytest.raises(ClusterLostError, match="nothing was heard") as caught:
        backend.start(fake_job())
    assert "the same key" in caught.value.hint
    backend = served.backend()  # and the workers wait on
    backend.start(fake_job())
    backend.step(step())
    backend.stop()


VANISHING_DRIVER = """
import fake_machine
from zmq_tools import fake_job, step
from dbgraph.backends.zeromq import ZmqBackend
backend = ZmqBackend({hosts!r}, {key!r}, log=lambda line: None)
backend.start(fake_job())
print("started", flush=True)
backend.step(step(fake_machine.HANG))
"""


@pytest.mark.slow
def test_listed_workers_notice_that_the_driver_is_gone(served: Served) -> None:
    served.start()
    code = VANISHING_DRIVER.format(hosts=str(served.hosts), key=str(served.key))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    ) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "started\n"
        driver.kill()
    for process in served.processes:
        _, said = process.communicate(timeout=60)
        assert "the driver is gone (nothing was heard of it for 8 s)" in said
        assert "the job was lost" in said


def test_too_few_hosts(served: Served) -> None:
    with pytest.raises(UsageError, match="lists 2 workers, and there is none left for partition 2"):
        served.backend().start(fake_job(3))


def test_a_folder_called_dbgraph_hides_no_installed_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when one stands in a clone and has installed dbgraph for good."""
    (tmp_path / "dbgraph").mkdir()
    (tmp_path / "dbgraph" / "__init__.py").write_text("raise RuntimeError('the wrong one')\n")
    monkeypatch.chdir(tmp_path)
    with running() as backend:
        backend.step(step())
