"""`dbg.Trainer` on the local backend: results, evaluation, resuming, saving, failing."""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import dbgraph as dbg
from dbgraph import checkpoint
from dbgraph import layers as L
from dbgraph.errors import (
    CheckpointError,
    DataError,
    NetworkError,
    NoCutError,
    PlanError,
    RunError,
    UsageError,
)
from dbgraph.metrics import read_log
from dbgraph.plan.text import save_plan
from dbgraph.state import State
from dbgraph.train.diagnose import first_broken
from dbgraph.train.evaluate import without_copies
from dbgraph.train.history import Evaluation
from dbgraph.train.interrupt import Interrupted, Interruptible
from dbgraph.train.judge import Judge
from dbgraph.train.options import Options
from dbgraph.train.progress import Bar, Lines, Silent, make_progress
from dbgraph.train.saving import broken

BATCH = 8
RULE = "momentum:learning_rate=0.1@cosine:steps=40"


def network(batch: int = BATCH, seed: int = 1, dtype: str = "float32") -> dbg.Network:
    with dbg.Network("toy", batch=batch, seed=seed, dtype=dtype) as net:
        x = dbg.input("x", (6,))
        y = dbg.input("y", (), dtype="int32")
        h = L.Dense(8, activation="sigmoid", l2=0.01, name="hidden")(x)
        h = L.Dropout(0.25, name="drop")(h)
        s = L.Dense(3, name="scores")(h)
        dbg.loss(L.SoftmaxCrossEntropy()(s, y))
        dbg.output("class", L.ArgMax()(s))
    return net


def arrays(count: int = 40, seed: int = 0) -> dict[str, np.ndarray]:
    """Three classes that can be told apart."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count).astype(np.int32)
    x = rng.normal(size=(count, 6)).astype(np.float32)
    x[np.arange(count), y] += 2
    return {"x": x, "y": y}


def trainer(net: dbg.Network | None = None, data: object = None, **options) -> dbg.Trainer:
    options.setdefault("progress", "none")
    options.setdefault("optimizer", RULE)
    held = data if data is not None else (arrays(), arrays(21, seed=1))
    return dbg.Trainer(net or network(), held, **options)


def same(a: State, b: State) -> None:
    """Bit for bit."""
    assert a.step == b.step
    assert a.tensors.keys() == b.tensors.keys()
    assert a.scalars.keys() == b.scalars.keys()
    for slot, name in a.tensors:
        np.testing.assert_array_equal(a.whole(name, slot), b.whole(name, slot), f"{slot} {name}")
    for name, value in a.scalars.items():
        np.testing.assert_array_equal(value, b.scalars[name], name)


# Results


def test_a_run_and_its_result(tmp_path):
    log = tmp_path / "log.jsonl"
    result = trainer(steps=30, evaluate_every=10, log=log).train()
    assert (result.step, result.reason, len(result.losses)) == (30, "steps", 30)
    assert result.losses[-1] < result.losses[0]
    assert [e.step for e in result.evaluations] == [10, 20, 30]
    assert result.loss == result.evaluations[-1].loss
    assert result.accuracy == result.evaluations[-1].accuracy > 0.5
    assert result.best == min(result.evaluations, key=lambda e: e.loss)
    assert result.best.examples == 21
    assert result.state().whole("hidden/weights").shape == (6, 8)
    assert result.checkpoint is None
    assert result.seconds > 0 < result.examples_per_s
    records = read_log(str(log))
    kinds = [(r["kind"], r["step"]) for r in records]
    assert kinds[0] == ("start", 0)
    assert kinds[-1] == ("end", 30)
    assert kinds.count(("train", 20)) == kinds.count(("eval", 20)) == 1
    assert records[1]["loss"] == pytest.approx(result.losses[9])
    assert 0 <= records[1]["accuracy"] <= 1
    assert records[-1]["reason"] == "steps"


def test_without_held_out_data():
    result = trainer(data=arrays(), steps=3).train()
    assert result.accuracy is None
    assert result.evaluations == ()
    assert result.loss == result.losses[-1]


def test_epochs_count_whole_batches():
    assert trainer(epochs=2).setup.steps == 2 * (40 // BATCH)


def test_the_loss_falls_by_the_gradient():
    """One step of plain gradient descent, by hand."""
    net = network()
    with trainer(net, steps=1, optimizer="sgd:learning_rate=0.5") as t:
        before = t.state()
        after = t.train().state()
    assert before.step == 0
    assert np.abs(after.whole("scores/biases") - before.whole("scores/biases")).max() > 1e-3


def test_the_state_is_there_before_during_and_after():
    t = trainer(steps=2)
    initial = t.state()
    assert initial.step == 0
    with t:
        result = t.train()
        same(t.state(), result.state())
    same(t.state(), result.state())
    assert t.train().losses == ()  # all steps are done
    other = trainer(steps=2, seed=9)
    assert (other.state().whole("hidden/weights") != initial.whole("hidden/weights")).any()


# Evaluation


def test_each_held_out_example_counts_once():
    """21 examples in batches of 8 as in batches of 1; the penalty counts once, too."""
    in_eights, one_by_one = trainer(), trainer(network(batch=1))
    a, b = in_eights.evaluate(), one_by_one.evaluate()
    assert a.loss == pytest.approx(b.loss, rel=1e-5)
    assert a.accuracy == b.accuracy
    assert a.examples == b.examples == 21
    assert a.terms == pytest.approx(b.terms, rel=1e-5)


def test_copies_are_taken_out_exactly():
    own, penalty, batch = [1.0, 2.0, 5.0], 0.5, 8
    padded = (sum(own) + 5 * own[-1]) / batch + penalty
    found = without_copies({"loss": padded}, {"loss": own[-1] + penalty}, batch, 3)
    assert found["loss"] == pytest.approx(sum(own) / 3 + penalty)


def test_other_data_can_be_evaluated():
    t = trainer()
    held_out = arrays(21, seed=1)
    assert t.evaluate(held_out).loss == pytest.approx(t.evaluate().loss)
    with pytest.raises(DataError, match="reads input"):
        t.evaluate({"z": held_out["x"]})
    with pytest.raises(DataError, match="no held-out data"):
        trainer(data=arrays()).evaluate()


def test_the_accuracy_can_be_chosen():
    with pytest.raises(UsageError, match="no output 'clas'"):
        trainer(accuracy="clas=y")
    assert trainer(accuracy="class=y").setup.pair == ("class", "y")


def test_patience():
    """A learning rate of almost nothing never gets better than at first."""
    options = {"optimizer": "sgd:learning_rate=0", "evaluate_every": 2, "patience": 3}
    result = trainer(steps=100, **options).train()
    assert (result.step, result.reason) == (8, "early stop")
    assert result.best.step == 2


def test_patience_goes_on_after_resuming(tmp_path):
    options = {
        "optimizer": "sgd:learning_rate=0",
        "evaluate_every": 2,
        "patience": 3,
        "checkpoint": tmp_path,
    }
    trainer(steps=5, **{**options, "evaluate_every": 2}).train()
    result = trainer(steps=100, resume=True, **options).train()
    # Steps 2, 4 and the end at 5 are behind it.
    assert (result.step, result.reason) == (6, "early stop")
    assert trainer(steps=100, resume=True, **options).train().step == 6
    assert result.best.step == 2


def test_the_judge():
    def at(step: int, loss: float) -> Evaluation:
        return Evaluation(step, loss, {}, 0.5, 9)

    judge = Judge(2, {})
    assert [judge.is_best(at(i, loss)) for i, loss in enumerate((3, 2, 2))] == [True, True, False]
    assert not judge.is_enough
    again = Judge(2, judge.metrics())
    assert again.best == at(1, 2)
    again.is_best(at(3, 4))
    assert again.is_enough
    assert Judge(2, {"best_step": 1.0, "best_loss": None}).best is None


# Resuming


@pytest.mark.parametrize("partitions", [1, 2])
def test_resuming_is_as_never_having_stopped(tmp_path, partitions):
    """Momentum, schedule, dropout, the order of the examples: bit for bit."""
    options = {"partitions": partitions, "strategy": "tiles", "evaluate_every": 0}
    straight = trainer(steps=17, **options).train()
    first = trainer(steps=7, checkpoint=tmp_path, **options).train()
    second = trainer(steps=17, checkpoint=tmp_path, resume=True, **options).train()
    assert first.losses + second.losses == straight.losses
    same(second.state(), straight.state())
    same(checkpoint.load(str(tmp_path))[0], straight.state())


@pytest.mark.slow
def test_a_run_on_four_partitions_resumes_on_one_and_eight(tmp_path):
    straight = trainer(steps=8, partitions=4).train().state()
    trainer(steps=4, partitions=4, checkpoint=tmp_path, checkpoint_every=4).train()
    for partitions in (1, 8):
        options = {"partitions": partitions, "resume": os.fspath(tmp_path), "strategy": "tiles"}
        found = trainer(steps=8, **options).train().state()
        for slot, name in straight.tensors:
            a, b = found.whole(name, slot), straight.whole(name, slot)
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=f"{slot} {name}")


def test_the_rule_and_the_seed_are_the_checkpoint_s(tmp_path):
    trainer(steps=2, checkpoint=tmp_path, seed=5).train()
    resumed = trainer(steps=4, checkpoint=tmp_path, resume=True, optimizer=None)
    assert str(resumed.setup.rule) == str(dbg.Rule.parse(RULE))
    assert resumed.setup.batches.seed == 5
    with pytest.raises(UsageError, match="seed 6 is given, the run that is resumed has 5"):
        trainer(checkpoint=tmp_path, resume=True, seed=6)


def test_what_changes_on_resuming_is_said(tmp_path):
    trainer(steps=2, checkpoint=tmp_path).train()
    options = {"checkpoint": tmp_path, "resume": True, "optimizer": "momentum:learning_rate=0.01"}
    notes = "\n".join(trainer(data=arrays(50), **options).setup.notes)
    assert "resuming at step 2" in notes
    assert "the optimizer was momentum" in notes
    assert "had 40 examples, and has 50 now" in notes


def test_another_rule_s_slots_are_missed(tmp_path):
    trainer(steps=2, checkpoint=tmp_path).train()
    t = trainer(steps=4, checkpoint=tmp_path, resume=True, optimizer="adam:learning_rate=0.01")
    with pytest.raises(CheckpointError, match=r"slot|missing"):
        t.train()


def test_what_can_t_be_resumed(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        trainer(checkpoint=tmp_path / "none", resume=True)
    tmp_path.joinpath("empty").mkdir()
    with pytest.raises(CheckpointError, match="no checkpoint"):
        trainer(checkpoint=tmp_path / "empty", resume=True)
    with pytest.raises(UsageError, match="resume needs a folder"):
        trainer(resume=True)
    trainer(steps=1, checkpoint=tmp_path / "run").train()
    with pytest.raises(UsageError, match="holds checkpoints of another run"):
        trainer(steps=1, checkpoint=tmp_path / "run")
    with pytest.raises(CheckpointError, match="another network"):
        trainer(network(seed=2), checkpoint=tmp_path / "run", resume=True)
    with pytest.raises(CheckpointError, match="does not fit"):
        trainer(
            network(dtype="float64"),
            checkpoint=tmp_path / "run",
            resume=True,
            data={**arrays(), "x": arrays()["x"].astype("float64")},
        )


def test_the_best_checkpoint_is_kept(tmp_path):
    options = {"evaluate_every": 2, "checkpoint": tmp_path, "keep": 1}
    result = trainer(steps=12, optimizer="momentum:learning_rate=0.3", **options).train()
    _, meta = checkpoint.load(checkpoint.best(str(tmp_path)))
    assert meta.step == result.best.step
    assert meta.metrics["best_loss"] == pytest.approx(result.best.loss)
    assert result.checkpoint == checkpoint.latest(str(tmp_path))


# Values that are not finite


@dbg.op
def careless(x):
    """Its gradient is NaN for what is not above 0: the other branch's is infinite."""
    return jnp.where(x > 0, jnp.sqrt(x), 0.0)


def failing(kind: str) -> dbg.Network:
    with dbg.Network("failing", batch=BATCH) as net:
        x = dbg.input("x", (6,))
        y = dbg.input("y", (), dtype="int32")
        h = L.Dense(5, name="first")(x)
        if kind == "forward":
            h = L.Activation("log", name="logs")(h)
        elif kind == "gradient":
            h = careless(h * 0.0) + h
        s = L.Dense(3, name="scores")(h)
        dbg.loss(L.SoftmaxCrossEntropy()(s, y))
        dbg.output("class", L.ArgMax()(s))
    return net


def failure(t: dbg.Trainer) -> str:
    with pytest.raises(RunError) as caught:
        t.train()
    with pytest.raises(RunError, match="did not end well"):
        t.state()
    return str(caught.value)


def line_of(text: str) -> str:
    lines = Path(__file__).read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if text in line)
    return f"test_trainer.py:{number}"


def test_a_layer_that_yields_nan_is_named():
    said = failure(trainer(failing("forward")))
    assert "step 1: the loss is nan" in said
    assert "layer 'logs' (log)" in said
    assert "it reads first/add from -" in said
    assert line_of('name="logs"') in said
    assert "--checkpoint" in said


@pytest.mark.slow
def test_a_gradient_that_is_nan_is_named():
    """The loss of the first step is fine; its gradient breaks the parameters."""
    t = trainer(failing("gradient"), data=arrays(), steps=5)
    said = failure(t)
    assert "step 2: the loss is nan" in said
    assert "in step 1 in the gradient of layer 'careless" in said
    assert "the gradient of 'first/weights', 'first/biases' is not finite" in said
    assert line_of("h = careless(h * 0.0)") in said


@pytest.mark.slow
def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
    """The loss of the only step is finite, the parameters after it are not."""
    said = failure(trainer(failing("gradient"), data=arrays(), steps=1, checkpoint=tmp_path))
    assert "step 1: 'first/weights'" in said
    assert "not finite after it" in said
    assert checkpoint.latest(str(tmp_path)) is None


def test_an_example_that_is_nan_is_named_and_the_last_good_checkpoint_stays(tmp_path):
    data = arrays()
    t = trainer(data=data, steps=10)
    bad = int(t.setup.batches.examples(4)[3])  # first met in step 5
    data["x"][bad, 2] = np.nan
    folder, log = str(tmp_path / "run"), tmp_path / "log"
    options = {"checkpoint": folder, "checkpoint_every": 2, "log": log}
    said = failure(trainer(data=data, steps=10, **options))
    assert "step 5: the loss is nan (softmaxcrossentropy1 nan); input 'x' of the training" in said
    assert f"example {bad}" in said
    assert f"the last good checkpoint is {checkpoint.latest(folder)}" in said
    state, _ = checkpoint.load(folder)
    assert state.step == 4
    assert not broken(state)
    assert read_log(str(log))[-1]["reason"] == "error"
    # With the data mended, it goes on as if nothing had been.
    data["x"][bad, 2] = 0
    mended = trainer(data=data, steps=10, checkpoint=folder, resume=True).train()
    same(mended.state(), trainer(data=data, steps=10).train().state())


def test_a_learning_rate_that_is_too_large(tmp_path):
    said = failure(
        trainer(
            optimizer="sgd:learning_rate=1e38", steps=10, checkpoint_every=0, checkpoint=tmp_path
        )
    )
    assert "it first appears" in said or "not finite after it" in said
    assert checkpoint.latest(str(tmp_path)) is None


def test_held_out_data_that_is_nan():
    held_out = arrays(21, seed=1)
    held_out["x"][9, 0] = np.nan
    said = failure(trainer(data=(arrays(), held_out), steps=2))
    assert "evaluation after step 2" in said
    assert "example 9" in said
    assert "held-out data holds 1 nan" in said


def test_the_diagnosis_finds_nothing_in_a_good_step():
    t = trainer()
    feeds = {name: array[:BATCH] for name, array in arrays().items()}
    assert first_broken(t.plan.network, t.state(), feeds, 0, gradients=True) is None


# Ctrl-C


class InterruptAt(Silent):
    """Presses Ctrl-C while a step is on its way."""

    def __init__(self, *steps: int, sign: signal.Signals = signal.SIGINT) -> None:
        self.steps, self.sign = steps, sign
        self.notes: list[str] = []

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        for _ in range(self.steps.count(done)):
            os.kill(os.getpid(), self.sign)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_ctrl_c_saves_and_resuming_goes_on(tmp_path):
    straight = trainer(steps=9).train()
    story = InterruptAt(5)
    t = trainer(steps=9, checkpoint=tmp_path, checkpoint_every=0, evaluate_every=0, progress=story)
    with pytest.raises(KeyboardInterrupt):
        t.train()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    state, meta = checkpoint.load(str(tmp_path))
    assert state.step == meta.step == 5
    assert (
        f"interrupted after step 5; checkpoint: {checkpoint.latest(str(tmp_path))}" in story.notes
    )
    result = trainer(steps=9, checkpoint=tmp_path, resume=True).train()
    same(result.state(), straight.state())


def test_ctrl_c_without_a_folder(tmp_path):
    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        trainer(steps=9, progress=InterruptAt(2), log=log).train()
    assert read_log(str(log))[-1]["reason"] == "interrupted"


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
def test_who_ends_a_run_otherwise_gets_the_same(tmp_path, sign):
    story = InterruptAt(3, sign=sign)
    with pytest.raises(Interrupted):
        trainer(steps=9, checkpoint=tmp_path, evaluate_every=0, progress=story).train()
    assert signal.getsignal(sign) is signal.SIG_DFL
    assert checkpoint.load(str(tmp_path))[0].step == 3
    assert read_log(str(tmp_path / "log.jsonl"))[-1]["reason"] == "interrupted"
    assert not (tmp_path / "control.json").exists()


def test_nohup_is_heeded(tmp_path):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert trainer(steps=3, progress=InterruptAt(2, sign=signal.SIGHUP)).train().step == 3
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer(steps=9, checkpoint=tmp_path, progress=InterruptAt(2, 2)).train()
    assert not isinstance(caught.value, Interrupted)
    assert checkpoint.latest(str(tmp_path)) is None


def test_others_handle_ctrl_c_themselves():
    called = []
    before = signal.signal(signal.SIGINT, lambda *_: called.append(1))
    try:
        with Interruptible(lambda: None) as interruptible:
            os.kill(os.getpid(), signal.SIGINT)
            interruptible.check()
        assert called == [1]
    finally:
        signal.signal(signal.SIGINT, before)


# Disks


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    trainer(steps=2, checkpoint=tmp_path).train()
    before = checkpoint.latest(str(tmp_path))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dbgraph.checkpoint.write_tensors", full)
    with pytest.raises(CheckpointError, match="the disk is full") as caught:
        trainer(steps=4, checkpoint=tmp_path, resume=True).train()
    assert caught.value.exit_code == 1
    assert before in str(caught.value)
    assert checkpoint.load(str(tmp_path))[0].step == 2


def test_a_log_on_a_full_disk():
    with pytest.raises(RunError, match="can't write the log '/dev/full'"):
        trainer(steps=2, log="/dev/full").train()


# Plans


def test_a_given_plan_is_used(tmp_path):
    plan = dbg.make_plan(network(), 2, strategy="tiles", microbatches=2)
    path = tmp_path / "toy.plan"
    save_plan(plan, path)
    t = trainer(plan=path, steps=3)
    assert t.plan == plan
    result = t.train()
    assert result.accuracy is not None
    same(result.state(), trainer(plan=plan, steps=3).train().state())


def test_plans_that_do_not_fit():
    with pytest.raises(PlanError, match="another network"):
        trainer(plan=dbg.make_plan(network(seed=2)))
    with pytest.raises(PlanError, match="for inference"):
        trainer(plan=dbg.make_plan(network(), mode="inference"))
    with pytest.raises(UsageError, match="partitions 3 is given, the plan has 2"):
        trainer(plan=dbg.make_plan(network(), 2), partitions=3)


def test_a_plan_of_another_placement_trains_without_evaluation():
    plan = dbg.make_plan(network(), 2, strategy="tiles")
    other = dbg.make_plan(network(), 2, strategy="stages")
    assert plan.leaves("parameter", 0) != other.leaves("parameter", 0)
    odd = replace(plan, cuts=other.cuts)
    t = trainer(plan=odd, steps=2)
    assert "no held-out evaluation" in t.setup.notes[0]
    assert t.train().evaluations == ()
    with pytest.raises(UsageError, match="no held-out evaluation"):
        t.evaluate()
    with pytest.raises(UsageError, match="no held-out evaluation"):
        trainer(plan=odd, patience=2)


# What is wrong is said at once


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": -1}, "steps must be at least 0, not -1"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"steps": 1, "epochs": 1}, "both given"),
        ({"partitons": 2}, "did you mean 'partitions'"),
        ({"optimizer": "momentun"}, "did you mean 'momentum'"),
        ({"checkpoint_every": 5}, "needs a folder"),
        ({"patience": 2, "data": arrays()}, "patience needs held-out data"),
        ({"strategy": "tile"}, "no strategy 'tile'"),
        ({"progress": "loud"}, "no progress 'loud'"),
    ],
)
def test_wrong_options(options, said):
    with pytest.raises(UsageError, match=said):
        trainer(**options)


def test_wrong_backends():
    with pytest.raises(UsageError, match="no backend 'smoke'"):
        trainer(backend="smoke").train()


def test_wrong_data_and_networks():
    with pytest.raises(DataError, match="5 examples, a batch takes 8"):
        trainer(data=arrays(5))
    with pytest.raises(DataError, match=r"astype\(\"float32\"\)"):
        trainer(data={**arrays(), "x": arrays()["x"].astype("float64")})
    with pytest.raises(DataError, match="is no data"):
        trainer(data=[1, 2])
    with pytest.raises(UsageError, match=r"takes a dbg.Network"):
        dbg.Trainer(network, arrays())
    with dbg.Network("idle", batch=2) as idle:
        dbg.output("o", L.Dense(2)(dbg.input("x", (2,))))
    with pytest.raises(NetworkError, match="needs a loss"):
        dbg.Trainer(idle, {"x": np.zeros((4, 2), np.float32)})
    with pytest.raises(NoCutError):
        trainer(partitions=3000)


def test_options_are_documented_by_their_names():
    assert Options.of({"steps": 3}).steps == 3
    assert all(name in (Options.__doc__ or "") for name in Options.__dataclass_fields__)


# The story


def told(story: Lines | Bar) -> None:
    story.start("training toy", 0, 4, BATCH)
    for done in range(1, 5):
        story.step(done, 1 / done, 0.5)
    story.evaluated(Evaluation(4, 0.25, {}, 0.75, 21), True)
    story.note("[bold]a note[/bold]")
    story.stop()


def test_lines(capsys):
    time_s = iter(range(100))
    told(Lines(every_s=2, clock=lambda: float(next(time_s))))
    out, err = capsys.readouterr()
    assert out == ""
    assert "step 4/4  loss 0.25  held out: loss 0.25, accuracy 75.00% (best)" in err
    assert "examples/s" in err
    assert "left" in err
    assert "[bold]a note[/bold]" in err


def test_bar(capsys):
    time_s = iter(range(100))
    told(Bar(clock=lambda: float(next(time_s))))
    out, err = capsys.readouterr()
    assert out == ""
    assert "4/4" in err
    assert "loss 0.25" in err
    assert "[bold]a note[/bold]" in err


def test_stories_by_name(capsys):
    assert isinstance(make_progress("auto"), Lines)  # no terminal here
    assert isinstance(make_progress("bar"), Bar)
    trainer(steps=1, progress="lines").train()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("training toy on 1 partition (auto, local): 40 examples, 21 held out")


# zmq


@pytest.mark.slow
def test_zmq_resumes_bit_for_bit_and_as_local(tmp_path):
    options = {"partitions": 2, "strategy": "tiles"}
    here = trainer(steps=17, **options).train()
    straight = trainer(steps=17, backend="zmq", **options).train()
    assert straight.losses == here.losses
    same(straight.state(), here.state())
    options["checkpoint"] = tmp_path
    trainer(steps=7, backend="zmq", **options).train()
    trainer(steps=12, resume=True, **options).train()  # in between on the other backend
    last = trainer(steps=17, backend="zmq", resume=True, **options).train()
    same(last.state(), straight.state())


@pytest.mark.slow
def test_zmq_names_the_layer():
    said = failure(trainer(failing("forward"), backend="zmq", partitions=2))
    assert "layer 'logs' (log)" in said
