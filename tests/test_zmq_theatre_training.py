"""Real training in processes: equal to the local backend, and whole after faults."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_tools import EXAMPLES, RULE, counted, inputs, linear
from replica_tools import arrays, network, train, wholes
from zmq_tools import alive, until

import dbgraph as dbg
from dbgraph import checkpoint
from dbgraph.errors import ClusterLostError
from dbgraph.ps.layout import Layout
from dbgraph.ps.ledger import numbers
from dbgraph.ps.snapshot import record_of
from dbgraph.sampler import Batches
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


class Watcher(Silent):
    """Does something after each step, in the coordinator's thread."""

    def __init__(self, act: Callable[[int], None]) -> None:
        self._act = act

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        self._act(done)


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


# One run, and what happens to it


Plot = Iterator[None]


class Story(Silent):
    """What happens to a run, in the coordinator's thread, a look after each step.

    Two shards (processes 0 and 1) and three replicas (from process 2 on); no evaluator.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, list[str]()
        self.done, self.went_on = 0, 0
        self._seen: Standing | None = None
        self._plot = self._faults()
        self.trainer: dbg.Trainer

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        self.done = done
        next(self._plot, None)

    def standing(self, standing: Standing, now: float) -> None:
        self._seen = standing

    def _faults(self) -> Plot:
        """A replica is killed, another takes its place; one is stopped, and wakes up when it is
        taken for dead; a shard is killed."""
        yield from _reached(lambda: self.done >= 20)
        self._signal(3, signal.SIGKILL)
        self.trainer.add_replicas(1)
        yield from _reached(lambda: self._examples(3) > 0)
        begun, stopped = self.done, self._signal(4, signal.SIGSTOP)
        yield from _reached(lambda: len(self.log) == 2)
        self.went_on = self.done - begun
        os.kill(stopped, signal.SIGCONT)
        yield from _reached(lambda: not alive(stopped))
        saved = newest(self.folder)
        yield from _reached(lambda: newest(self.folder) > saved)
        self._signal(1, signal.SIGKILL)

    def _signal(self, process: int, what: signal.Signals) -> int:
        pid = workers(os.getpid())[process]
        os.kill(pid, what)
        return pid

    def _examples(self, replica: int) -> int:
        known = self._seen.replicas if self._seen is not None else {}
        return known[replica].examples if replica in known else 0


def _reached(condition: Callable[[], object]) -> Plot:
    while not condition():
        yield


def newest(folder: Path) -> int:
    steps = [int(path.name.removeprefix("step-")) for path in folder.glob("step-*")]
    return max(steps, default=0)


RUNS: dict[str, dict[str, Any]] = {
    "downpour": {"network": linear(), "data": inputs(), "optimizer": RULE},
    "sync": {"algorithm": dbg.Sync(backups=1), "optimizer": "adagrad:learning_rate=0.1"},
    # Nowhere near its end after thousands of steps.
    "sandblaster": {
        "network": network(dtype="float64"),
        "data": arrays(160, dtype="float64"),
        "algorithm": dbg.Sandblaster("gd", gtol=0, ftol=0),
    },
}


def trainer_of(name: str, folder: Path, **options: Any) -> dbg.Trainer:
    given = {
        "network": network(), "data": DATA.train, "algorithm": name, "checkpoint": folder,
        "checkpoint_every": 20, "progress": "none", **RUNS[name], **options,
    }  # fmt: skip
    return dbg.Trainer(given.pop("network"), given.pop("data"), **given)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_bears_what_happens_to_replicas_and_resumes_after_a_lost_shard(
    name: str, tmp_path: Path
) -> None:
    story = Story(tmp_path)
    fast = {"heartbeat_s": 0.2, "silence_s": 4.0, "log": story.log.append}
    story.trainer = trainer_of(
        name, tmp_path, replicas=3, shards=2, steps=1_000_000, backend="zmq",
        backend_options=fast, progress=story,
    )  # fmt: skip
    with pytest.raises(ClusterLostError, match="shard 1 is gone") as caught:
        story.trainer.train()
    assert caught.value.exit_code == 5
    assert "--resume" in str(caught.value)
    killed, stopped, lost = story.log
    assert killed.startswith("replica 1, partition 0 (pid")
    assert "SIGKILL" in killed
    assert stopped.startswith("replica 2, partition 0")
    assert "nothing was heard of it" in stopped
    assert lost.startswith("shard 1 (pid")
    assert story.went_on, "the others went on while it was stopped"
    assert workers(os.getpid()) == {}
    if name == "downpour":
        nothing_counts_twice(tmp_path, story.trainer)
    saved = newest(tmp_path)
    found = trainer_of(name, tmp_path, replicas=3, resume=True, steps=saved + 30).train()
    assert found.step == saved + 30
    assert len(found.losses) == 30


def nothing_counts_twice(folder: Path, trainer: dbg.Trainer) -> None:
    """Nor is anything lost: each shard has the batches that it says, each once."""
    state, _ = checkpoint.load(str(checkpoint.latest(str(folder))))
    record = record_of(state)
    assert record is not None
    used = set(numbers(record.ledger.used))
    assert len(used) == state.step
    order = Batches(EXAMPLES, 8, trainer.plan.seed)
    for rows, owned in zip(record.shards, Layout.of(trainer.plan, 2).shards, strict=True):
        batches = [number for one in rows for number in numbers(one.batches)]
        assert len(batches) == len(set(batches))
        assert used.issuperset(batches)
        expected = counted(map(order.examples, batches))
        for one in owned:
            value = state.region(one.parameter, one.region)
            np.testing.assert_array_equal(value, expected[one.parameter][one.region.slices()])


def test_sandblaster_gives_a_stopped_replicas_portions_to_others() -> None:
    """The iterates are those of a run without the fault. A stopped process is ended at the end.
    That the evaluator is killed too costs no more than the evaluations."""
    done: list[int] = []

    def act(step: int) -> None:
        if step >= 3 and not done:
            done.append(workers(os.getpid())[4])
            os.kill(done[0], signal.SIGSTOP)
            os.kill(workers(os.getpid())[2], signal.SIGKILL)

    options = {"steps": 12, "evaluate_every": 0, "algorithm": dbg.Sandblaster(), "optimizer": None}
    whole = train(data=DATA, shards=2, replicas=2, **options)
    log: list[str] = []
    found = run(log, progress=Watcher(act), **options)
    assert not alive(done[0])
    np.testing.assert_allclose(found.losses, whole.losses, rtol=1e-4)
    assert len(whole.evaluations) == 1
    assert found.evaluations == ()


_DRIVER = """
import sys
from pathlib import Path
from test_zmq_theatre_training import trainer_of
name, folder = sys.argv[1:]
options = {"replicas": 2, "shards": 2, "steps": 1_000_000, "backend": "zmq"}
trainer_of(name, Path(folder), **options).train()
"""


@pytest.mark.parametrize("name", RUNS)
def test_all_end_when_the_coordinator_is_killed_and_resume_goes_on(
    name: str, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _DRIVER, name, str(tmp_path)], cwd=Path(__file__).parent
    ) as driver:
        until(lambda: newest(tmp_path))
        pids = workers(driver.pid).values()
        assert len(pids) == 4
        driver.kill()
        until(lambda: not any(map(alive, pids)), seconds=10)
    saved = newest(tmp_path)
    found = trainer_of(name, tmp_path, replicas=2, resume=True, steps=saved + 30).train()
    assert found.step == saved + 30
