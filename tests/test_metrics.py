"""Accuracy, means, and the log."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.errors import RunError, UsageError
from dbgraph.ir.types import TensorType
from dbgraph.metrics import LogWriter, Means, accuracy, pairing, read_log

LABEL = TensorType((8,), "int32")
OUTPUTS = {"class": LABEL, "scores": TensorType((8, 10))}
INPUTS = {"image": TensorType((8, 4)), "label": LABEL, "words": TensorType((8, 5), "int32")}


def test_accuracy() -> None:
    assert accuracy(np.array([1, 2, 3, 4]), np.array([1, 0, 3, 0])) == 0.5
    assert accuracy(np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 0]])) == 0.75
    assert math.isnan(accuracy(np.array([]), np.array([])))
    with pytest.raises(ValueError, match="differ in shape"):
        accuracy(np.zeros(3), np.zeros((3, 1)))


def test_the_only_pair_that_fits() -> None:
    assert pairing(OUTPUTS, INPUTS) == ("class", "label")
    assert pairing({"scores": OUTPUTS["scores"]}, INPUTS) is None
    assert pairing(OUTPUTS, {**INPUTS, "other": LABEL}) is None
    assert pairing(OUTPUTS, {**INPUTS, "other": LABEL}, "class = other") == ("class", "other")


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("class", "not of the form OUTPUT=INPUT"),
        ("clas=label", r"no output 'clas'\n  did you mean 'class'\?"),
        ("class=xyz", r"no input 'xyz'\n  there are: image, label, words"),
        ("scores=label", r"'scores' is float32\[8,10\], input 'label' is int32\[8\]"),
        ("class=words", "integers of one shape"),
    ],
)
def test_a_pair_that_does_not_fit(chosen: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pairing(OUTPUTS, INPUTS, chosen)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(1, 9)), min_size=1, max_size=9))
def test_means_are_weighted(pairs: list[tuple[float, int]]) -> None:
    means = Means()
    for value, weight in pairs:
        means.add({"loss": value}, weight)
    expected = np.average([v for v, _ in pairs], weights=[w for _, w in pairs])
    assert means.values()["loss"] == pytest.approx(expected, abs=1e-9)


def test_a_log_is_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    with LogWriter(str(path)) as log:
        log.write("start", step=0, network="digits", partitions=4, rule="sgd")
        log.write("train", step=1, loss=np.float32(0.5), accuracy=np.float64(0.25))
        assert len(path.read_text().splitlines()) == 2  # flushed at once
        log.write("train", step=2, loss=math.nan)
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert [line["kind"] for line in lines] == ["start", "train", "train"]
    assert (lines[1]["loss"], lines[1]["accuracy"], lines[2]["loss"]) == (0.5, 0.25, None)
    assert all(line["time_s"] > 1e9 for line in lines)


def test_a_resumed_run_appends_after_the_last_whole_line(tmp_path: Path) -> None:
    path = str(tmp_path / "log.jsonl")
    with LogWriter(path) as log:
        log.write("train", step=1, loss=1.0)
    with open(path, "a") as file:
        file.write('{"kind": "tra')  # killed while writing
    assert [record["step"] for record in read_log(path)] == [1]
    with LogWriter(path, resume=True) as log:
        log.write("train", step=2, loss=0.5)
    assert [record["step"] for record in read_log(path)] == [1, 2]
    with LogWriter(path) as log:
        log.write("train", step=1, loss=1.0)
    assert len(read_log(path)) == 1
    with LogWriter(str(tmp_path / "other.jsonl"), resume=True) as log:
        log.write("end", step=1, reason="steps")


def test_a_log_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="can't write the log"):
        LogWriter(str(tmp_path / "file" / "log.jsonl"))
    with (
        LogWriter("/dev/full") as log,
        pytest.raises(RunError, match="'/dev/full': No space left on device"),
    ):
        log.write("end", step=1, reason="steps")
    with LogWriter(str(tmp_path / "log")) as log, pytest.raises(ValueError, match="needs loss"):
        log.write("train", step=1)
