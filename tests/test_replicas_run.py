"""What all runs with replicas have in common: their story, checkpoints, faults and refusals."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replica_tools import arrays, network, train

import dbgraph as dbg
from dbgraph import checkpoint
from dbgraph import layers as L
from dbgraph.actor import COORDINATOR, Actor, Address
from dbgraph.backends.theatre import Cast, make_theatre
from dbgraph.backends.theatre_local import LocalTheatre
from dbgraph.cli import run
from dbgraph.errors import CheckpointError, ClusterLostError, DataError, RunError, UsageError
from dbgraph.metrics import read_log
from dbgraph.train.cast import Casting
from dbgraph.train.interrupt import Interrupted, Interruptible

ALGORITHMS = ["downpour", "sandblaster", "sync"]


def data() -> dbg.Data:
    return dbg.Data(arrays(80), arrays(21, seed=1))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_log_evaluations_and_checkpoints(algorithm: str, tmp_path: Path) -> None:
    found = train(
        data=data(), algorithm=algorithm, replicas=2, shards=2, steps=20, evaluate_every=5,
        checkpoint=tmp_path / "run", log=tmp_path / "log",
    )  # fmt: skip
    assert found.step == 20
    assert found.evaluations[-1].step == 20
    assert found.evaluations[-1].examples == 21
    records = read_log(str(tmp_path / "log"))
    assert records[0]["algorithm"] == f"{algorithm}, 2 replicas, 2 shards"
    standing = [record for record in records if record["kind"] == "standing"][-1]
    assert [row["replica"] for row in standing["replicas"]] == [0, 1]
    assert len(standing["shards"]) == 2
    assert records[-1]["kind"] == "end"
    latest = checkpoint.latest(str(tmp_path / "run"))
    assert latest == found.checkpoint
    assert checkpoint.best(str(tmp_path / "run")) is not None


@pytest.mark.parametrize("algorithm", ["sandblaster", "sync"])
def test_an_evaluation_is_of_the_parameters_at_its_step(algorithm: str) -> None:
    long = train(data=data(), algorithm=algorithm, shards=2, steps=6, evaluate_every=3)
    short = train(data=data(), algorithm=algorithm, shards=2, steps=3)
    assert [one.step for one in long.evaluations] == [3, 6]
    assert long.evaluations[0].loss == pytest.approx(short.loss, rel=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_trainer_goes_on_from_where_it_ended(algorithm: str) -> None:
    trainer = dbg.Trainer(network(), data(), algorithm=algorithm, steps=8, progress="none")
    found = trainer.train()
    assert trainer.evaluate().loss == pytest.approx(found.loss, rel=1e-5)
    assert trainer.train().step == 8


def test_patience_ends_it_early() -> None:
    found = train(
        data=data(), algorithm="sync", steps=5000, evaluate_every=5, patience=2,
        optimizer="sgd:learning_rate=0.000000001",
    )  # fmt: skip
    assert found.reason == "early stop"
    assert found.step < 5000


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_interrupted_run_saves_and_resumes(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def check(self: Interruptible) -> None:
        nonlocal asked
        asked += 1
        if asked > 10:
            raise Interrupted

    options: dict[str, Any] = {
        "data": data(), "algorithm": algorithm, "checkpoint": tmp_path / "run",
    }  # fmt: skip
    before = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(Interruptible, "check", check)
        with pytest.raises(Interrupted):
            train(steps=40_000, **options)
    assert threading.active_count() == before
    assert checkpoint.latest(str(tmp_path / "run")) is not None
    done = checkpoint.load(str(tmp_path / "run"))[0].step
    assert done < 40_000
    assert train(steps=done + 3, resume=True, **options).step == done + 3


# Faults


def test_an_actor_that_raises_ends_the_run_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Casting.__call__

    def broken(self: Casting, address: Address) -> Actor:
        if address == Address("replica", 1, 0):
            raise ValueError("no such luck")
        return make(self, address)

    monkeypatch.setattr(Casting, "__call__", broken)
    before = threading.active_count()
    with pytest.raises(RunError, match="replica 1, partition 0: ValueError: no such luck"):
        train(algorithm="downpour", replicas=2)
    assert threading.active_count() == before


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    broken = arrays()
    broken["x"][:] = np.nan
    for algorithm in ALGORITHMS:
        with pytest.raises(RunError, match="nan"):
            train(data=broken, algorithm=algorithm)


def breaking() -> dbg.Network:
    """Of some examples it takes a logarithm that there is none of."""
    with dbg.Network("breaking", batch=8, seed=1) as net:
        h = L.Dense(4, name="hidden")(dbg.input("x", (6,)))
        h = L.Activation("log", name="logs")(1e-3 - h * h)
        dbg.loss(L.SoftmaxCrossEntropy()(h, dbg.input("y", (), dtype="int32")))
    return net


@pytest.mark.parametrize("backend", ["local", pytest.param("zmq", marks=pytest.mark.slow)])
@pytest.mark.parametrize("partitions", [1, 2])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_loss_that_is_not_finite_is_traced_to_its_layer(
    algorithm: str, partitions: int, backend: str, tmp_path: Path
) -> None:
    options = {
        "algorithm": algorithm, "replicas": 2, "partitions": partitions, "strategy": "tiles",
        "backend": backend,
    }  # fmt: skip
    with pytest.raises(RunError) as caught:
        train(breaking(), checkpoint=tmp_path, **options)
    error = caught.value
    pattern = (
        r"replica [01], partition [01]: the loss is nan at (its step 1|the start); "
        r"it first appears in layer 'logs' \(log\): \d+ nan of 32 values"
    )
    assert re.fullmatch(pattern, error.rule)
    assert "it reads" in error.hint
    assert error.hint.endswith("no checkpoint was written")
    assert error.at is not None
    assert error.at.file.endswith("test_replicas_run.py")


def test_an_example_that_is_not_finite_is_named() -> None:
    broken = arrays()
    broken["x"][5, 2] = np.nan
    said = r"input 'x' of the training data holds 1 nan of 48 values in this batch: see example 5\n"
    with pytest.raises(RunError, match=said):
        train(data=broken, algorithm="downpour", replicas=2)


def test_a_held_out_example_that_is_not_finite_is_named() -> None:
    broken = arrays(21, seed=1)
    broken["x"][3, 1] = np.nan
    said = (
        r"evaluator 0: evaluation after step 4: the loss is nan \(softmax\w+ nan\); "
        r"input 'x' of the held-out data holds 1 nan of 48 values in this batch: see example 3\n"
    )
    with pytest.raises(RunError, match=said):
        train(data=dbg.Data(arrays(), broken), algorithm="downpour", steps=8, evaluate_every=4)


class Lonely:
    """A theatre in which nobody plays but the coordinator, who loses somebody."""

    def __init__(self, lost: Address) -> None:
        self.lost = lost

    def run(self, cast: Cast, coordinator: Actor) -> None:
        list(coordinator.start(0.0))
        for shard in range(cast.shards):
            sender = Address("shard", shard)
            from dbgraph.actors.messages import Restored

            list(coordinator.receive(sender, Restored(), (), 0.0))
        list(coordinator.lost(self.lost, 1.0))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_lost_shard_ends_the_run(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for who, said in (
        (Address("shard", 1), "shard 1 is gone"),
        (Address("replica", 0, 1), "all replicas are gone"),
    ):
        monkeypatch.setattr(
            "dbgraph.train.replicas.make_theatre", lambda name, who=who, **_: Lonely(who)
        )
        with pytest.raises(ClusterLostError, match=said) as caught:
            train(algorithm=algorithm, shards=2, partitions=2)
        assert "--resume" in str(caught.value)


# Bad input


def test_refusals_in_python() -> None:
    with pytest.raises(UsageError, match="n_push is 0"):
        dbg.Downpour(n_push=0)
    with pytest.raises(UsageError, match="no algorithm 'downpur'") as caught:
        train(algorithm="downpur")
    assert "downpour" in str(caught.value)
    with pytest.raises(UsageError, match="replicas is given"):
        train(replicas=2)
    with pytest.raises(UsageError, match=r"1000 shards are more .* for\n  use \d+"):
        train(algorithm="downpour", shards=1000)
    with pytest.raises(UsageError, match="at least one must count"):
        train(algorithm=dbg.Sync(backups=2), replicas=2)
    with pytest.raises(DataError, match=r"too few for 7 replicas"):
        train(algorithm="downpour", replicas=7)
    with pytest.raises(UsageError, match="backend 'ray' has no replicas"):
        train(algorithm="downpour", backend="ray")


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    train(algorithm="downpour", checkpoint=tmp_path)
    with pytest.raises(CheckpointError, match="parameter 'hidden/weights' is"):
        train(network(hidden=9), algorithm="downpour", checkpoint=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="has length 48 of its training data, this one 56"):
        train(data=arrays(56), algorithm="sync", checkpoint=tmp_path, resume=True, steps=20)


def test_another_networks_replica_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Casting.__call__

    def strange(self: Casting, address: Address) -> Actor:
        actor = make(self, address)
        if address == Address("replica", 1, 0):
            actor._fingerprint = "another"  # type: ignore[attr-defined]
        return actor

    monkeypatch.setattr(Casting, "__call__", strange)
    for algorithm in ALGORITHMS:
        assert train(algorithm=algorithm, replicas=2, steps=6).step == 6


# The command line

FILE = """
from replica_tools import arrays, network


def data():
    return arrays(), arrays(21, seed=1)


def wider():
    return network(hidden=9)


def changed():
    return network(activation="tanh")
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(FILE)
    return str(tmp_path / "net.py")


def test_the_command_line_trains_by_each_algorithm(
    spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in (
        "--algorithm downpour --n-fetch 2 --n-push 3 --warm-start 2 --max-staleness 4",
        "--algorithm sandblaster --history 3 --portion 12 --no-duplicate --overdue 3",
        "--algorithm sync --backups 1",
    ):
        args = ["train", spec, "--replicas", "2", "--shards", "2", "--steps", "6", "--json"]
        assert run([*args, *options.split()]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["steps"] == 6
        assert "2 replicas, 2 shards" in printed["algorithm"]
        assert printed["moved_bytes"] > printed["saved_bytes"] == 0


def test_the_command_line_says_what_compression_saved(
    spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--algorithm downpour --replicas 2 --steps 6 --fetch-compression bfloat16"
    assert run(["train", spec, *options.split(), "--push-compression", "float16"]) == 0
    out = capsys.readouterr().out
    saved = re.search(
        r"^compression saved \S+ \w+ of \S+ \w+ \((\d+)%\) between", out, re.MULTILINE
    )
    assert saved is not None
    assert 30 < int(saved[1]) <= 50, "all is halved, but for what the evaluator fetches"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--algorithm downpour --n-push 0", "n-push"),
        ("--n-fetch 2", "--n-fetch belongs to --algorithm downpour"),
        ("--algorithm sync --method cg", "--method belongs to --algorithm sandblaster"),
        ("--replicas 2", "replicas is given, but a plain run has none"),
        ("--algorithm sandblast", "did you mean 'sandblaster'"),
        ("--algorithm downpour --shards 1000", "1000 shards are more"),
        ("--algorithm downpour --optimizer adagard", "did you mean 'adagrad'"),
        ("--algorithm sync --replicas 2 --backups 2", "at least one must count"),
    ],
)
def test_refusals_of_the_command_line(
    spec: str, options: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", spec, *options.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_command_line_says_what_does_not_fit(
    algorithm: str, spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--algorithm", algorithm, "--replicas", "2", "--steps", "3", "--quiet"]
    folder = str(tmp_path / "run")
    assert run(["train", spec, *common, "--checkpoint", folder]) == 0
    for function, said in (
        ("wider", "parameter 'hidden/weights' is float32[6,8] there, float32[6,9] in the network"),
        ("changed", "layers, losses or options were changed since"),
    ):
        resumed = [f"{spec}:{function}", *common, "--checkpoint", folder, "--resume"]
        assert run(["train", *resumed]) == 1
        assert said in capsys.readouterr().err
    assert checkpoint.load(folder)[0].step == 3, "nothing is lost"
    few = str(tmp_path / "few.npz")
    np.savez(few, **arrays(12))
    assert run(["train", spec, *common, "--data", few]) == (algorithm != "sandblaster")
    said = "" if algorithm == "sandblaster" else "too few for 2 replicas"
    assert said in capsys.readouterr().err


def test_a_theatre_by_name() -> None:
    assert isinstance(make_theatre("local"), LocalTheatre)
    assert str(COORDINATOR) == "coordinator"
