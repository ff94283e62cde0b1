"""`dbgraph show`, `verify`, `run`, `key` and `worker`: what they do with plans, good and bad."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_tools import Cli, compiled, net_file, recut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dbgraph as dbg
from dbgraph import checkpoint
from dbgraph import layers as L
from dbgraph.commands.dryrun import deadlock
from dbgraph.compile import forecast, make_plan
from dbgraph.errors import DbgraphError
from dbgraph.ir.region import Region
from dbgraph.plan.plan import Plan
from dbgraph.plan.text import open_plan, parse_plan, print_plan, save_plan
from dbgraph.plan.verify import verify_plan
from dbgraph.show.digest import Digest
from dbgraph.show.dot import plan_dot
from dbgraph.show.svg import plan_svg
from dbgraph.show.table import plan_table
from dbgraph.state import State
from dbgraph.uncut import evaluate


@pytest.fixture
def small(cli: Cli, tmp_path: Path) -> Path:
    """A training plan on two partitions."""
    return compiled(cli, tmp_path, "-n", 2, "--strategy", "tiles")


@pytest.fixture
def predict(cli: Cli, tmp_path: Path) -> Path:
    """An inference plan on two partitions."""
    options = ("-n", 2, "--strategy", "tiles", "--mode", "inference")
    return compiled(cli, tmp_path, *options, name="predict.plan")


def edited(path: Path, old: str, new: str) -> Path:
    """The plan with its first `old` replaced, in a new file."""
    text = path.read_text()
    assert old in text
    target = path.with_name("edited.plan")
    target.write_text(text.replace(old, new, 1))
    return target


# show


def test_show_prints_what_compile_printed(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    table = cli("compile", net_file(tmp_path), "-n", 2, "-o", path).out
    assert cli("show", path) == (0, table, "")


@pytest.mark.parametrize(
    ("form", "start"),
    [("--dot", "digraph"), ("--svg", "<svg"), ("--json", "{"), (None, "small: training")],
)
@pytest.mark.parametrize("partition", [None, 1])
def test_show_in_every_form(
    cli: Cli, small: Path, form: str | None, start: str, partition: int | None
) -> None:
    options = [form] if form else []
    options += ["--partition", str(partition)] if partition is not None else []
    shown = cli("show", small, *options)
    assert shown.code == 0
    assert shown.out.startswith(start)
    target = small.with_name("shown")
    saved = cli("show", small, *options, "-o", target)
    assert saved.out == ""
    assert saved.err == f"dbgraph: wrote {target}\n"
    assert target.read_text() == shown.out


def test_show_a_partition_that_is_not_there(cli: Cli, small: Path) -> None:
    outcome = cli("show", small, "-p", 2)
    assert outcome.code == 2
    assert "there is no partition 2; the plan has 2" in outcome.err


@pytest.mark.parametrize("command", ["show", "verify", "run"])
@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        (None, 2, "there is no file"),
        (b"", 3, "this is no plan"),
        (b"import os\n", 3, "this is no plan: line 1 should be 'dbgraph plan 3'"),
        (b"\xff\xfe\x00", 3, "it is not text"),
        (b"dbgraph plan 1\n", 3, "the plan has version 1; this dbgraph reads 2 and 3"),
        (b"dbgraph plan 4\n", 3, "the plan has version 4; this dbgraph reads 2 and 3"),
        (b"dbgraph plan 2\nname small\n", 3, "the plan is truncated: line 3"),
    ],
)
def test_what_is_no_plan(
    cli: Cli, tmp_path: Path, command: str, content: bytes | None, code: int, text: str
) -> None:
    path = tmp_path / "bad.plan"
    if content is not None:
        path.write_bytes(content)
    options = ["--inputs", "x.npz"] if command == "run" else []
    outcome = cli(command, path, *options)
    assert outcome.code == code
    assert text in outcome.err
    assert str(path) in outcome.err


def test_a_network_is_no_plan(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("show", net_file(tmp_path))
    assert outcome.code == 2
    assert "is no plan" in outcome.err
    assert "dbgraph compile" in outcome.err


def test_a_folder_is_no_plan(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("show", tmp_path)
    assert outcome.code == 2
    assert "is a folder, and no plan" in outcome.err


def test_a_truncated_plan_is_told_wherever_it_ends(cli: Cli, small: Path) -> None:
    lines = small.read_text().split("\n")
    target = small.with_name("cut.plan")
    for count in range(1, len(lines) - 1, 7):
        target.write_text("\n".join(lines[:count]))
        outcome = cli("show", target)
        assert outcome.code == 3
        assert "truncated" in outcome.err


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("partitions 2", "partitions 3", "program 2"),
        ("partitions 2", "partitions 1", "expected 'end'"),
        ("batch 8", "batch 0", "batch must be at least 1"),
        ("mode training", "mode learning", "mode must be one of"),
        ("= relu(", "= rule(", "there is no op 'rule'"),
        ("float32[8,4,4,4]", "float32[8,4,4,5]", "its type is"),
        ("SEND t0.0\n", "", "SEND t0.0 is missing"),
        ("RUN s0.0\n", "RUN s0.0\nRUN s0.0\n", "RUN s0.0: unknown, twice"),
        ("RUN s0.0", "JUMP s0.0", "'JUMP s0.0' is no instruction"),
        ("UPDATE\n}", "}", "ends with one UPDATE"),
        (" to 1\n", " to 0\n", "which is defined nowhere"),
        (" to 1\n", " to __import__('os')\n", "expected send %name to PARTITION"),
        ("\ncuts {\n", "\ncuts {\nlocal/add local/add\n", ": cuts: expected 'NODE …: AXIS"),
        ("scores/add: batch 8, units 10 -> 0", "scores/add: batch 8, units 10 -> 1", "--from"),
    ],
)
def test_an_edited_plan_that_breaks_a_rule(
    cli: Cli, small: Path, old: str, new: str, text: str
) -> None:
    outcome = cli("verify", edited(small, old, new))
    assert outcome.code == 3, outcome.err
    assert text in outcome.err
    assert "edited.plan" in outcome.err


# verify


def test_verify(cli: Cli, small: Path) -> None:
    outcome = cli("verify", small)
    assert outcome.code == 0
    for line in ("rules:    ok, ", "pairs:    ok, ", "dry run:  ok, "):
        assert line in outcome.out
    assert cli("verify", small, "--quiet") == (0, "", "")
    assert cli("verify", small, "--json").json["ok"] is True


def test_verify_says_who_waits_for_whom(cli: Cli, small: Path) -> None:
    path = deadlocked(small)
    outcome = cli("verify", path)
    assert outcome.code == 3
    assert "the programs of small wait for each other for ever" in outcome.err
    assert "partition 0 waits for local→pool, microbatch 0, from partition 1" in outcome.err
    assert "partition 1 waits for local→pool, microbatch 0, from partition 0" in outcome.err
    shown = cli("show", path)
    assert shown.code == 0
    assert "warning: the programs wait for each other" in shown.err


def deadlocked(small: Path) -> Path:
    """Both partitions receive before they send."""
    with dbg.Network("small", batch=8) as net:
        image = dbg.input("image", (6, 6, 1))
        h = L.LocallyConnected2D(2, (3, 3), name="local", cut={"rows": 2})(image)
        h = L.Pool2D("max", (3, 3), (1, 1), padding="same", name="pool", cut={"rows": 2})(h)
        dbg.output("h", h)
    path = small.with_name("knot.plan")
    save_plan(make_plan(net, 2, mode="inference", strategy="tiles"), path)
    text = path.read_text()
    for mine, theirs in (("t0", "t1"), ("t1", "t0")):
        old = f"SEND {mine}.0\nRECV {theirs}.0\n"
        assert old in text
        text = text.replace(old, f"RECV {theirs}.0\nSEND {mine}.0\n")
    path.write_text(text)
    return path


def test_verify_finds_a_send_that_nobody_takes(cli: Cli, small: Path) -> None:
    """It is in no program, so that the other rules do not see it."""
    lines = small.read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith("send "))
    stands_on_1 = next(line for line in lines if " = relu(" in line and " @1" in line)
    name, type_ = stands_on_1.split(" = ")[0], stands_on_1.split(" : ")[1].split(" ")[0]
    lines.insert(at + 1, f"{name}>0.more = send({name}) {{to=0}} : {type_} @1")
    path = small.with_name("edited.plan")
    path.write_text("\n".join(lines))
    outcome = cli("verify", path)
    assert outcome.code == 3
    assert "sends to partition 0, where none of the recvs takes it" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["training", "evaluation", "inference"])
def test_verify_numerics(cli: Cli, tmp_path: Path, mode: str) -> None:
    plan = compiled(cli, tmp_path, "-n", 3, "--mode", mode, "--strategy", "tiles")
    outcome = cli("verify", plan, "--numerics")
    assert outcome.code == 0, outcome.err
    assert "numerics: ok" in outcome.out
    assert ("gradient  local/weights" in outcome.out) == (mode == "training")
    assert ("loss" in {line.partition(" ")[0] for line in outcome.out.split("\n")}) == (
        mode != "inference"
    )


def test_verify_numerics_as_json(cli: Cli, tmp_path: Path) -> None:
    plan = compiled(cli, tmp_path, "-n", 3, "--mode", "inference", "--strategy", "stages")
    found = cli("verify", plan, "--numerics", "--json", "--seed", 5).json
    assert found["ok"] is True
    assert found["tolerance"] == 1e-5
    assert [one["name"] for one in found["differences"]] == ["class", "scores"]
    assert all(one["relative"] < 1e-5 for one in found["differences"])


@pytest.mark.slow
def test_verify_finds_wrong_numbers(cli: Cli, small: Path) -> None:
    text = small.read_text()
    start = text.index("\ngraph {")
    wrong = text[:start] + text[start:].replace(
        "{scale=0.125, shift=0.0}", "{scale=0.25, shift=0.0}"
    )
    assert wrong != text
    path = small.with_name("wrong.plan")
    path.write_text(wrong)
    assert cli("verify", path).code == 0
    outcome = cli("verify", path, "--numerics")
    assert outcome.code == 1
    assert "WRONG" in outcome.out
    assert "from the uncut network by more than 1e-05" in outcome.err


@pytest.mark.slow
def test_verify_with_a_tolerance_of_ones_own(cli: Cli, tmp_path: Path) -> None:
    plan = compiled(cli, tmp_path, "-n", 4, "--mode", "inference", "--strategy", "tiles")
    parts = "parts batch 8, units 10 -> 0 1; combined batch 8, units 10 -> 0"
    path = recut(plan, f"scores/contract: inner inputs 0|1|4; {parts}")
    assert cli("compile", "--from", path, "-o", plan, "-q").code == 0
    assert cli("verify", plan, "--numerics", "--tolerance", 1e-3).code == 0
    outcome = cli("verify", plan, "--numerics", "--tolerance", 0, "--json")
    assert outcome.code == 1
    assert "by more than 0" in outcome.err
    assert outcome.json["ok"] is False


# run


def save_inputs(folder: Path, count: int = 20, **more: Any) -> tuple[Path, np.ndarray]:
    """A file of images, and the images."""
    images = np.random.default_rng(3).normal(size=(count, 6, 6, 1)).astype(np.float32)
    np.savez(folder / "x.npz", image=images, **more)
    return folder / "x.npz", images


def saved(folder: Path, plan: Plan, scale: float = 1.0) -> tuple[Path, dict[str, np.ndarray]]:
    """A checkpoint of random parameters, and these."""
    rng = np.random.default_rng(8)
    values = {
        name: (scale * rng.normal(size=t.shape)).astype(t.dtype)
        for name, t in plan.parameter_types.items()
    }
    pieces = {("", n): ((Region.whole(v.shape), v),) for n, v in values.items()}
    meta = checkpoint.Meta(network=plan.name, fingerprint=plan.fingerprint)
    checkpoint.save(str(folder / "saved"), State(3, pieces), meta)
    return folder / "saved", values


@pytest.mark.parametrize("count", [1, 8, 20])
def test_run_gives_the_networks_outputs(
    cli: Cli, predict: Path, tmp_path: Path, count: int
) -> None:
    """Any number of examples, with the parameters of a checkpoint."""
    inputs, images = save_inputs(tmp_path, count)
    plan = open_plan(predict)
    folder, values = saved(tmp_path, plan)
    target = tmp_path / "out.npz"
    outcome = cli("run", predict, "--inputs", inputs, "--checkpoint", folder, "-o", target)
    assert outcome == (
        0,
        "",
        f"dbgraph: wrote {target}: class, scores of {count} examples\n",
    )
    found = np.load(target)
    padded = np.concatenate([images, np.zeros((24 - count, 6, 6, 1), np.float32)])
    for start in range(0, count, 8):
        expected = evaluate(plan, {"image": padded[start : start + 8]}, values).values
        rows = slice(start, min(start + 8, count))
        valid = rows.stop - rows.start
        np.testing.assert_allclose(
            found["scores"][rows], expected["output", "scores"][:valid], rtol=1e-5, atol=1e-4
        )
        np.testing.assert_array_equal(found["class"][rows], expected["output", "class"][:valid])
    assert len(found["scores"]) == count


def test_run_prints_a_table_or_json(cli: Cli, predict: Path, tmp_path: Path) -> None:
    inputs, _ = save_inputs(tmp_path, 3)
    outcome = cli("run", predict, "--inputs", inputs)
    assert "class   int32[3]" in outcome.out
    assert "warning: no --checkpoint" in outcome.err
    found = cli("run", predict, "--inputs", inputs, "--json").json
    assert found["examples"] == 3
    assert np.shape(found["outputs"]["scores"]) == (3, 10)


def test_run_writes_null_for_what_json_has_not(cli: Cli, predict: Path, tmp_path: Path) -> None:
    images = np.full((2, 6, 6, 1), np.nan, np.float32)
    images[0] = 0
    np.savez(tmp_path / "x.npz", image=images)
    scores = cli("run", predict, "--inputs", tmp_path / "x.npz", "--json").json["outputs"]["scores"]
    assert scores[1] == [None] * 10
    assert None not in scores[0]


@pytest.mark.slow
def test_run_over_zmq(cli: Cli, predict: Path, tmp_path: Path) -> None:
    inputs, _ = save_inputs(tmp_path, 11)
    local = cli("run", predict, "--inputs", inputs, "--json").json
    assert cli("run", predict, "--inputs", inputs, "--json", "--backend", "zmq").json == local


def test_run_takes_labels_that_it_does_not_need(cli: Cli, predict: Path, tmp_path: Path) -> None:
    inputs, _ = save_inputs(tmp_path, 4, label=np.zeros(4, np.int32))
    assert cli("run", predict, "--inputs", inputs).code == 0


@pytest.mark.parametrize(
    ("arrays", "code", "texts"),
    [
        ({}, 1, ["reads input 'image', the data has nothing"]),
        ({"imgae": (4, 6, 6, 1)}, 1, ["reads input 'image'", "did you mean 'imgae'?"]),
        ({"image": (4, 6, 6)}, 1, ["takes (6, 6, 1) per example", "reshape(-1, 6, 6, 1)"]),
        ({"image": (0, 6, 6, 1)}, 1, ["the data has no examples"]),
        ({"image": (4, 6, 6, 1), "extra": (4,)}, 1, ["no such input"]),
        ({"image": (4, 6, 6, 1), "label": (3,)}, 1, ["different numbers of examples"]),
    ],
)
def test_run_on_data_that_does_not_fit(
    cli: Cli,
    predict: Path,
    tmp_path: Path,
    arrays: dict[str, tuple[int, ...]],
    code: int,
    texts: list[str],
) -> None:
    made = {name: np.zeros(shape, np.float32) for name, shape in arrays.items()}
    np.savez(tmp_path / "x.npz", **made)  # type: ignore[arg-type]  # NumPy's own stub
    outcome = cli("run", predict, "--inputs", tmp_path / "x.npz")
    assert outcome.code == code
    for text in texts:
        assert text in outcome.err


def test_run_on_data_of_another_dtype(cli: Cli, predict: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.zeros((4, 6, 6, 1)))
    outcome = cli("run", predict, "--inputs", tmp_path / "x.npz")
    assert outcome.code == 1
    assert (
        'takes float32, the data is float64\n  convert it: array.astype("float32")' in outcome.err
    )


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 broken"])
def test_run_on_files_that_are_none(
    cli: Cli, predict: Path, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    outcome = cli("run", predict, "--inputs", path)
    assert outcome.code == 1
    assert str(path) in outcome.err


def test_run_refuses_a_plan_for_training(cli: Cli, small: Path) -> None:
    outcome = cli("run", small, "--inputs", "x.npz")
    assert outcome.code == 3
    assert "is a plan for training, not for inference" in outcome.err
    assert "--mode inference" in outcome.err


def test_run_refuses_another_networks_checkpoint(cli: Cli, predict: Path, tmp_path: Path) -> None:
    inputs, _ = save_inputs(tmp_path)
    spec = f"{net_file(tmp_path)}:other"
    path = tmp_path / "other.plan"
    assert cli("compile", spec, "-n", 2, "--mode", "inference", "-o", path, "-q").code == 0
    folder, _ = saved(tmp_path, open_plan(path))
    outcome = cli("run", predict, "--inputs", inputs, "--checkpoint", folder)
    assert outcome.code == 1
    assert "does not fit the network" in outcome.err
    assert "parameter 'scores/weights' is float32[6,6,1,10] there, float32[2,2,4,10]" in outcome.err


def test_run_without_the_checkpoint(cli: Cli, predict: Path, tmp_path: Path) -> None:
    inputs, _ = save_inputs(tmp_path)
    outcome = cli("run", predict, "--inputs", inputs, "--checkpoint", tmp_path / "nowhere")
    assert outcome.code == 1
    assert "there is no checkpoint in" in outcome.err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--backend", "zqm"], "no backend 'zqm'"),
        (["--hosts", "hosts.toml"], "--hosts is for the backend zmq"),
        (["-o", "nowhere/out.npz"], "there is no folder 'nowhere'"),
    ],
)
def test_run_with_wrong_options(
    cli: Cli, predict: Path, tmp_path: Path, options: list[str], text: str
) -> None:
    inputs, _ = save_inputs(tmp_path)
    outcome = cli("run", predict, "--inputs", inputs, *options)
    assert outcome.code == 2
    assert text in outcome.err


def test_run_onto_a_full_disk(cli: Cli, predict: Path, tmp_path: Path) -> None:
    inputs, _ = save_inputs(tmp_path)
    outcome = cli("run", predict, "--inputs", inputs, "-o", "/dev/full")
    assert outcome.code == 1
    assert "can't write '/dev/full': the disk is full" in outcome.err


# key and worker


def test_key_makes_a_secret_file_once(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "job.key"
    assert cli("key", path).code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    outcome = cli("key", path)
    assert outcome.code == 2
    assert "exists" in outcome.err
    assert path.read_text() == before
    assert cli("key", tmp_path / "no" / "job.key").code == 2


@pytest.mark.parametrize(
    ("address", "text"),
    [("nonsense", "is no address such as"), ("tcp://127.0.0.1:*", "names no port")],
)
def test_worker_at_a_wrong_address(cli: Cli, tmp_path: Path, address: str, text: str) -> None:
    path = tmp_path / "job.key"
    cli("key", path)
    outcome = cli("worker", "--listen", address, "--key", path)
    assert outcome.code == 2
    assert text in outcome.err


def test_worker_without_its_key(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("worker", "--listen", "tcp://127.0.0.1:7000", "--key", tmp_path / "no.key")
    assert outcome.code == 2
    assert "make one with: dbgraph key" in outcome.err


# Any edit


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_edit_is_refused_or_harmless(data: st.DataObject) -> None:
    """Lines of a plan deleted, doubled, swapped or with characters changed: the file is refused
    with one of dbgraph's own errors, or it is a plan that keeps the rules."""
    lines = _plan_text().split("\n")
    i = data.draw(st.integers(0, len(lines) - 2))
    kind = data.draw(st.sampled_from(("delete", "double", "swap", "change")))
    if kind == "delete":
        del lines[i]
    elif kind == "double":
        lines.insert(i, lines[i])
    elif kind == "swap":
        lines[i], lines[i + 1] = lines[i + 1], lines[i]
    elif lines[i]:
        at = data.draw(st.integers(0, len(lines[i]) - 1))
        character = data.draw(st.sampled_from("0 1-9,()[]{}%@=:x'"))
        lines[i] = lines[i][:at] + character + lines[i][at + 1 :]
    with suppress(DbgraphError):
        plan = parse_plan("\n".join(lines))
        verify_plan(plan)
        one = Digest(plan, forecast(plan))
        deadlock(plan, one.forecast)
        assert plan_table(one)
        assert plan_svg(one)
        assert plan_dot(one)


_known: list[str] = []


def _plan_text() -> str:
    if not _known:
        with dbg.Network("small", batch=4) as net:
            x, label = dbg.input("x", (6,)), dbg.input("label", (), dtype="int32")
            h = L.Dense(4, "relu", cut={"units": 2})(x)
            h = L.Dropout(0.5)(h)
            dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(3, cut={"inputs": 2})(h), label))
        _known.append(print_plan(make_plan(net, 2)))
    return _known[0]
