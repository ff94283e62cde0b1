"""A run as its records tell it: folded, followed as its log grows, and told to its sinks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import at, standing, start, whole, write

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cli import run
from dbgraph.errors import RunError, UsageError
from dbgraph.metrics import RECORDS, make_record, read_log
from dbgraph.ps.alarm import Alarm, LossWatch
from dbgraph.train import heard as heard_module
from dbgraph.watch.curve import LIMIT, Curve
from dbgraph.watch.fold import ALARMS, RunView, fold
from dbgraph.watch.job import Follower, as_json, log_of, view_of

# Folding

STEPS = st.integers(0, 50)
NUMBERS = st.none() | st.floats(-10, 10)
ANY_RECORD = st.one_of(
    st.builds(start, STEPS),
    st.builds(lambda s, x, y: at("train", s, loss=x, examples_per_s=y), STEPS, NUMBERS, NUMBERS),
    st.builds(lambda s, x: at("eval", s, loss=x, accuracy=0.5), STEPS, NUMBERS),
    st.builds(standing, STEPS),
    st.builds(lambda s: at("alarm", s, rule="it rises", replica=None), STEPS),
    st.builds(lambda s: at("of another version", s), STEPS),
    st.builds(lambda s: at("end", s, reason="steps"), STEPS),
    st.just({"kind": "train", "step": "three"}),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(ANY_RECORD, max_size=40), st.data())
def test_folding_in_pieces_is_folding_whole(records: list[Any], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=3)))
    view = RunView()
    for low, high in zip([0, *cuts], [*cuts, len(records)], strict=True):
        view = fold(records[low:high], view)
    assert view == fold(records)


def test_a_run_from_start_to_end() -> None:
    view = fold(whole())
    assert (view.state, view.reason, view.step, view.steps) == ("done", "steps", 400, 400)
    assert view.about["network"] == "digits"
    assert "time_s" not in view.about
    assert len(view.curves["loss"].points) == 40
    assert [point.step for point in view.curves["held_out_loss"].points] == [100, 200, 300, 400]
    assert view.best is not None
    assert view.best.step == 400
    assert view.latest["examples_per_s"] == 12800 + 10 * (400 % 70)
    assert [replica.staleness for replica in view.replicas] == [0, 1]
    assert view.latest["pushed_bytes_per_s"] == 2e7
    assert view.staleness == ((0, 100), (1, 200), (3, 1))
    assert view.elapsed_s == 4.0
    assert view.checkpoint == "runs/a/step-00000400"
    assert view.left_s is None, "it is over"


def test_how_long_it_will_take() -> None:
    view = fold([start(), at("train", 100, loss=1.0, examples_per_s=1280.0)])
    assert view.left_s == 30.0


def test_a_resumed_run_forgets_what_it_does_anew() -> None:
    first = [start(), *(at("train", s, loss=5.0) for s in (10, 20, 30, 40))]
    first.append(at("eval", 40, loss=0.1))
    again = [start(20), at("train", 30, loss=1.0), at("end", 30, reason="early stop")]
    view = fold([*first, *again])
    assert [(p.step, p.value) for p in view.curves["loss"].points] == [(10, 5), (20, 5), (30, 1)]
    assert view.best is None, "it was found after the step that the run was set back to"
    assert (view.sessions, view.step, view.reason) == (2, 30, "early stop")
    # Its first session took 0.4 s, lost work included; the second has taken 0.3.
    assert view.curves["loss"].points[-1].time_s == pytest.approx(0.7)
    assert view.elapsed_s == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("reason", "state"),
    [
        ("steps", "done"),
        ("early stop", "done"),
        ("interrupted", "interrupted"),
        ("error", "failed"),
    ],
)
def test_how_runs_end(reason: str, state: str) -> None:
    view = fold([start(), at("end", 3, reason=reason, error="the disk is full")])
    assert (view.state, view.error) == (state, "the disk is full")


def test_unknown_records_and_broken_ones_change_nothing() -> None:
    known = [start(), at("train", 10, loss=1.0)]
    strange = [{}, {"kind": "later"}, {"kind": "train"}, {**at("eval", 20), "step": "x"}]
    assert fold([*known, *strange]) == fold(known)
    assert fold([at("train", 10, loss=1.0, new_field=[1])]).latest == {"loss": 1.0}


def test_alarms_are_kept_within_bounds() -> None:
    view = fold([start(), *(at("alarm", s, rule="rises", replica=s) for s in range(ALARMS + 7))])
    assert (view.alarm_count, len(view.alarms)) == (ALARMS + 7, ALARMS)
    assert view.alarms[-1].step == ALARMS + 6


# Curves


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 5000))
def test_a_curve_has_few_points_and_the_same_mean(count: int) -> None:
    curve = Curve()
    values = np.sin(np.arange(count))
    for step, value in enumerate(values):
        curve = curve.add(step, step / 10, float(value))
    assert len(curve.points) <= LIMIT
    assert len(curve.points) > LIMIT / 2 or len(curve.points) == count
    assert curve.points[-1].step == count - 1
    assert [p.step for p in curve.points] == sorted({p.step for p in curve.points})
    weights = [curve.per_point] * (len(curve.points) - 1) + [curve.in_last]
    mean = np.average([point.value for point in curve.points], weights=weights)
    assert mean == pytest.approx(values.mean(), abs=1e-9)


def test_a_curve_skips_what_is_no_number() -> None:
    curve = Curve().add(1, 0.1, 1.0)
    assert curve.add(2, 0.2, None) == curve.add(2, 0.2, float("nan")) == curve


def test_a_curve_that_is_set_back_goes_on() -> None:
    curve = Curve()
    for step in range(2 * LIMIT):
        curve = curve.add(step, 0.0, 1.0)
    back = curve.until(500).add(502, 0.0, 9.0)
    assert (back.points[-2].step, back.points[-1].step, back.points[-1].value) == (499, 502, 9.0)


# Logs as they grow


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=30))
def test_a_log_is_followed_whatever_pieces_it_comes_in(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    lines = "".join(json.dumps(record) + "\n" for record in whole(60)).encode()
    path.write_bytes(b"")
    follower = Follower(str(path))
    for size in sizes:
        with path.open("ab") as file:
            file.write(lines[:size])
        lines = lines[size:]
        follower.update()
    with path.open("ab") as file:
        file.write(lines)
    assert follower.update() == fold(whole(60)) == Follower(str(path)).update()


def test_a_log_that_was_begun_anew_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "log", whole())
    follower = Follower(str(path))
    assert follower.update().step == 400
    write(path, [start(), at("train", 10, loss=1.0)])
    assert follower.update() == fold([start(), at("train", 10, loss=1.0)])


def test_half_lines_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "log", [start(), at("train", 10, loss=1.0)])
    with path.open("a") as file:
        file.write('{"kind": "tra\n[1]\n' + json.dumps(at("train", 20, loss=0.5)) + '\n{"kin')
    assert view_of(str(path)).latest == {"loss": 0.5}


def test_a_run_whose_process_is_gone_has_failed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path = tmp_path / "log"

    def state(**more: Any) -> tuple[str, str]:
        view = view_of(str(write(path, [start(**more)])))
        return view.state, view.error

    here = socket.gethostname()
    assert state(pid=gone.pid, host=here) == ("failed", f"its process {gone.pid} is gone")
    assert state(pid=gone.pid, host=here + "x") == ("running", ""), "nobody can tell"
    assert state(pid=os.getpid(), host=here) == ("running", "")


def test_what_is_no_run(tmp_path: Path) -> None:
    for job in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match="there is no log of a run in"):
            log_of(str(job))
    (tmp_path / "x").write_text("hello\n")
    with pytest.raises(UsageError, match="is no log of a run"):
        view_of(str(tmp_path / "x"))


# top


def test_top_shows_a_run_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "log.jsonl", whole())
    assert run(["top", str(tmp_path), "--once"]) == 0
    assert "400" in capsys.readouterr().out
    assert run(["top", str(tmp_path / "log.jsonl"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(json.dumps(as_json(fold(whole()))))
    for strange in (["--follow"], ["--follow", "--once", "--json"]):
        assert run(["top", str(tmp_path), *strange]) == 2
        assert "--follow prints a line of JSON" in capsys.readouterr().err


def test_top_follows_until_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "log.jsonl", whole())
    assert run(["top", str(tmp_path), "--json", "--follow"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["state"] == "done"
    assert run(["top", str(tmp_path / "other")]) == 2


# Sinks


class Heap:
    """A sink that keeps all."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.closed = 0
        self.stood = threading.Event()

    def take(self, record: Any) -> None:
        self.records.append(record)
        if record["kind"] == "standing":
            self.stood.set()

    def close(self) -> None:
        self.closed += 1


def toy() -> dbg.Network:
    with dbg.Network("toy", batch=4) as net:
        x = dbg.input("x", (3,))
        y = dbg.input("y", (), dtype="int32")
        scores = L.Dense(2, name="scores")(x)
        dbg.loss(L.SoftmaxCrossEntropy()(scores, y))
        dbg.output("class", L.ArgMax()(scores))
    return net


def data() -> dbg.Data:
    rng = np.random.default_rng(0)

    def some(count: int) -> dict[str, np.ndarray]:
        x = rng.normal(size=(count, 3)).astype(np.float32)
        return {"x": x, "y": (x[:, 0] > 0).astype(np.int32)}

    return dbg.Data(some(24), some(8))


def trainer(**options: Any) -> dbg.Trainer:
    return dbg.Trainer(toy(), data(), **{"progress": "none", "steps": 6, "log_every": 1, **options})


@pytest.fixture
def heap(monkeypatch: pytest.MonkeyPatch) -> Heap:
    found = Heap()
    monkeypatch.setattr("dbgraph.train.trainer.sinks", lambda *_: iter([found]))
    return found


def test_all_sinks_are_told_what_the_log_says(tmp_path: Path, heap: Heap) -> None:
    trainer().train()
    kinds = [record["kind"] for record in heap.records]
    assert (kinds[0], kinds[-1], heap.closed) == ("start", "end", 1)
    assert set(kinds) == {"start", "train", "eval", "standing", "end"}
    assert all(name in record for record in heap.records for name in RECORDS[record["kind"]])
    write(tmp_path / "log", heap.records)
    assert fold(read_log(str(tmp_path / "log"))) == fold(heap.records)
    view = fold(heap.records)
    assert (view.state, view.step, view.examples_per_step) == ("done", 6, 4)
    assert [machine.name for machine in view.machines] == ["partition 0"]


def test_replicas_tell_staleness_and_traffic(heap: Heap) -> None:
    trainer(algorithm="downpour", replicas=2, shards=1, steps=12).train()
    view = fold(heap.records)
    assert view.about["algorithm_options"]["n_push"] == 1
    assert (view.about["replicas"], view.about["shards"]) == (2, 1)
    assert sum(count for _, count in view.staleness) == 12, "one push a step"
    assert sum(replica.examples for replica in view.replicas) == 12 * 4
    assert view.shards[0].updates == 12
    assert {"pushed_bytes_per_s", "fetched_bytes_per_s"} <= set(view.curves)


def test_staged_pushes_are_traffic_too(heap: Heap) -> None:
    trainer(algorithm="sync", replicas=2, shards=1).train()
    gradients_bytes = (3 * 2 + 2) * 4
    (status,) = heap.records[-2]["shards"]
    assert (heap.records[-2]["kind"], status["saved_bytes"]) == ("standing", 0)
    assert status["pushed_bytes"] == 6 * 2 * gradients_bytes, "each step, each replica"


def test_a_run_that_fails_says_so(heap: Heap, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RunError("the machine is on fire")

    monkeypatch.setattr("dbgraph.backends.local.LocalBackend.start", fail)
    with pytest.raises(RunError):
        trainer().train()
    last = heap.records[-1]
    assert (last["kind"], last["reason"], last["error"]) == (
        "end",
        "error",
        "the machine is on fire",
    )
    assert heap.closed == 1


def test_sinks_are_closed_where_a_later_one_can_not_be_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = Heap()

    def makers(*_: Any) -> Any:
        yield first
        raise RunError("no room for another")

    monkeypatch.setattr("dbgraph.train.trainer.sinks", makers)
    with pytest.raises(RunError, match="no room"):
        trainer().train()
    assert first.closed == 1


def test_the_folder_of_a_run_has_its_log(tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "own"
    trainer(checkpoint=folder, log=log, steps=3).train()
    assert read_log(log_of(str(folder))) == read_log(str(log))
    trainer(checkpoint=folder, resume=True).train()
    view = view_of(str(folder))
    assert (view.sessions, view.step, len(view.curves["loss"].points)) == (2, 6, 6)
    assert len(read_log(str(log))) < len(read_log(log_of(str(folder))))
    trainer(checkpoint=tmp_path / "b", log=tmp_path / "b" / "log.jsonl", steps=1).train()
    starts = [r for r in read_log(log_of(str(tmp_path / "b"))) if r["kind"] == "start"]
    assert len(starts) == 1, "one file is written once"


def test_standings_are_told_while_a_step_hangs(heap: Heap, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step goes on when a standing was told."""
    from dbgraph.backends.local import LocalBackend

    monkeypatch.setattr(heard_module, "LOG_S", 0.01)
    run_step = LocalBackend._run

    def hang(self: LocalBackend, name: str) -> None:
        assert heap.stood.wait(60)
        run_step(self, name)

    monkeypatch.setattr(LocalBackend, "_run", hang)
    trainer(steps=1).train()
    kinds = [record["kind"] for record in heap.records]
    assert kinds.index("standing") < kinds.index("train")


def test_alarms_of_a_single_plan(heap: Heap, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = LossWatch()
    rising = filter(None, (watch.told(None, s, loss) for s, loss in enumerate(range(300))))
    rule = next(rising).rule
    assert "the loss rises" in rule
    assert "the last one is step " in rule

    def told(self: LossWatch, replica: int | None, step: int, loss: float) -> Alarm | None:
        return Alarm(rule, replica, step, loss) if step == 3 else None

    monkeypatch.setattr(LossWatch, "told", told)
    trainer().train()
    (alarm,) = fold(heap.records).alarms
    assert (alarm.step, alarm.rule, alarm.replica) == (3, rule, None)


def test_a_record_is_as_it_will_be_read() -> None:
    record = make_record("train", step=np.int64(3), loss=np.float32(np.nan), accuracy=np.float64(1))
    assert (record["step"], record["loss"], record["accuracy"]) == (3, None, 1.0)
    assert type(record["step"]) is int
