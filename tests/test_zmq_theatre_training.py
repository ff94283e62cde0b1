"""Real training in processes: equal to the local backend, and whole after faults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from replica_tools import arrays, network, train, wholes
from zmq_tools import alive, until

import dbgraph as dbg
from dbgraph.errors import ClusterLostError
from dbgraph.train.history import Result
from dbgraph.train.progress import Silent
from dbgraph.train.standing import Standing

pytestmark = pytest.mark.slow

DATA = dbg.Data(arrays(160), arrays(40, seed=1))


def workers(driver: int) -> dict[int, int]:
    """Process ids of a driver's processes that are alive, by the order in which they entered."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and alive(int(folder.name)):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if parent == driver and b"dbgraph.backends.zeromq_worker" in words:
                found[int(words[-2])] = int(folder.name)
    return found


class Enough(Exception):
    """Ends a run from within."""


class Watcher(Silent):
    """Does something after each step, in the coordinator's thread."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self._act = act
        self.last: Standing | None = None

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        self._act(done)

    def standing(self, standing: Standing, now: float) -> None:
        self.last = standing


def run(log: list[str], **options: object) -> Result:
    """Two shards, an evaluator (processes 0, 1 and 2), and replicas from process 3 on."""
    fast = {"heartbeat_s": 0.2, "silence_s": 2.0, "log": log.append}
    return train(
        data=DATA,
        backend="zmq",
        backend_options=fast,
        shards=2,
        **{
            "algorithm": "downpour",
            "optimizer": "adagrad:learning_rate=0.1",
            "replicas": 2,
            **options,
        },
    )


@pytest.fixture(autouse=True)
def _nothing_is_left() -> None:
    yield
    assert workers(os.getpid()) == {}


def test_one_replica_in_processes_is_the_plain_trainer_bit_for_bit() -> None:
    net = network(dropout=0.25)
    rule = "adagrad:learning_rate=0.1"
    plain = train(net, optimizer=rule, partitions=2)
    found = train(net, optimizer=rule, partitions=2, shards=2, algorithm="downpour", backend="zmq")
    assert found.losses == plain.losses
    for key, value in wholes(plain.final).items():
        np.testing.assert_array_equal(wholes(found.final)[key], value, err_msg=str(key))


def test_replicas_are_killed_another_takes_their_place_and_the_run_ends_well() -> None:
    log: list[str] = []
    killed: set[int] = set()

    def act(done: int) -> None:
        for step, number in ((20, 4), (60, 5)):
            if done >= step and number not in killed:
                killed.add(number)
                os.kill(workers(os.getpid())[number], signal.SIGKILL)
        if done >= 60 and 6 not in killed:
            killed.add(6)
            trainer.add_replicas(1)

    watcher = Watcher(act)
    trainer = dbg.Trainer(
        network(), DATA, algorithm="downpour", replicas=3, shards=2, backend="zmq", steps=1000,
        optimizer="adagrad:learning_rate=0.1", backend_options={"log": log.append},
        progress=watcher,
    )  # fmt: skip
    found = trainer.train()
    assert found.step == 1000
    assert 1000 - 2 <= len(found.losses) <= 1000, "a push may be applied whose loss nobody knows"
    assert watcher.last is not None
    assert watcher.last.replicas[3].examples > 0
    assert found.accuracy is not None
    assert found.accuracy > 0.8
    assert [line[:9] for line in log] == ["replica 1", "replica 2"]
    assert all("SIGKILL" in line for line in log)


def test_a_stopped_replica_blocks_nobody_and_ends_when_it_wakes_up() -> None:
    log: list[str] = []
    stopped: list[int] = []
    woken: list[int] = []

    def act(done: int) -> None:
        if done >= 20 and not stopped:
            stopped.append(workers(os.getpid())[4])
            os.kill(stopped[0], signal.SIGSTOP)
        if log and not woken:
            assert done > 40, "the other one went on meanwhile"
            os.kill(stopped[0], signal.SIGCONT)
            woken.append(done)
        if woken and done > woken[0] + 50 and not alive(stopped[0]):
            raise Enough

    with pytest.raises(Enough):
        run(log, steps=1_000_000, evaluate_every=0, progress=Watcher(act))
    assert log[0].startswith("replica 1, partition 0")
    assert "nothing was heard of it" in log[0]


def test_a_killed_shard_ends_the_run_with_its_name_and_resume_goes_on(tmp_path: Path) -> None:
    log: list[str] = []

    def act(done: int) -> None:
        saved = list(tmp_path.glob("step-*"))
        if done >= 100 and saved and 1 in (living := workers(os.getpid())):
            os.kill(living[1], signal.SIGKILL)

    options = {"checkpoint": tmp_path, "checkpoint_every": 50, "evaluate_every": 0}
    with pytest.raises(ClusterLostError, match="shard 1 is gone") as caught:
        run(log, steps=100_000, progress=Watcher(act), **options)
    assert caught.value.exit_code == 5
    assert log[0].startswith("shard 1 (pid")
    assert workers(os.getpid()) == {}
    newest = max(int(path.name.removeprefix("step-")) for path in tmp_path.glob("step-*"))
    found = run(log, steps=newest + 30, resume=True, **options)
    assert found.step == newest + 30
    assert len(found.losses) == 30


def test_sandblaster_gives_a_stopped_replicas_portions_to_others() -> None:
    """The iterates are those of a run without the fault. A stopped process is ended at the end."""
    done: list[int] = []

    def act(step: int) -> None:
        if step >= 3 and not done:
            done.append(workers(os.getpid())[4])
            os.kill(done[0], signal.SIGSTOP)

    options = {"steps": 12, "evaluate_every": 0, "algorithm": dbg.Sandblaster(), "optimizer": None}
    whole = train(data=DATA, shards=2, replicas=2, **options)
    log: list[str] = []
    found = run(log, progress=Watcher(act), **options)
    assert not alive(done[0])
    np.testing.assert_allclose(found.losses, whole.losses, rtol=1e-4)


def test_synchronous_sgd_goes_on_with_those_that_live() -> None:
    done: list[int] = []

    def act(step: int) -> None:
        if step >= 10 and not done:
            done.append(workers(os.getpid())[4])
            os.kill(done[0], signal.SIGKILL)

    log: list[str] = []
    found = run(log, algorithm="sync", replicas=3, steps=60, progress=Watcher(act))
    assert found.step == 60
    assert log[0].startswith("replica 1, partition 0")
    assert found.losses[-1] < found.losses[0]


_DRIVER = """
import sys
from replica_tools import arrays, train
from test_zmq_theatre_training import run
run([], steps=1_000_000, evaluate_every=0, checkpoint=sys.argv[1], checkpoint_every=50)
"""


def test_all_end_when_the_coordinator_is_killed_and_resume_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(tmp_path)], cwd=Path(__file__).parent
    ) as driver:
        until(lambda: list(tmp_path.glob("step-*")))
        pids = workers(driver.pid).values()
        assert len(pids) == 5
        driver.kill()
        until(lambda: not any(map(alive, pids)))
    newest = max(int(path.name.removeprefix("step-")) for path in tmp_path.glob("step-*"))
    found = run([], steps=newest + 30, resume=True, checkpoint=tmp_path, evaluate_every=0)
    assert found.step == newest + 30
