"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_tools import Cli
from replica_tools import arrays, network

import dbgraph as dbg
from dbgraph.errors import RunError, UsageError
from dbgraph.metrics import make_record, read_log
from dbgraph.watch.tensorboard import TensorBoard


def read(folder: Path) -> Any:
    """An EventAccumulator of the folder."""
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is missing: pip install 'dbgraph[test]'",
        exc_type=ImportError,
    )
    found = reader.EventAccumulator(str(folder))
    found.Reload()
    return found


def test_scalars_are_those_of_the_log(tmp_path: Path) -> None:
    data = dbg.Data(arrays(48), arrays(16, seed=1))
    options: dict[str, Any] = {"log_every": 3, "evaluate_every": 6, "progress": "none"}
    folders = {"tensorboard": tmp_path / "tb", "log": tmp_path / "log"}
    dbg.Trainer(network(), data, steps=12, **options, **folders).train()
    found = read(tmp_path / "tb")
    log = read_log(str(tmp_path / "log"))
    for tag, kind, field in (
        ("loss/train", "train", "loss"),
        ("accuracy/train", "train", "accuracy"),
        ("loss/held_out", "eval", "loss"),
        ("accuracy/held_out", "eval", "accuracy"),
    ):
        records = [record for record in log if record["kind"] == kind]
        events = found.Scalars(tag)
        assert [event.step for event in events] == [record["step"] for record in records]
        assert [event.value for event in events] == pytest.approx([r[field] for r in records])
        assert [e.wall_time for e in events] == pytest.approx([r["time_s"] for r in records])


def test_replicas_and_shards_have_their_own_lines(tmp_path: Path) -> None:
    dbg.Trainer(
        network(), dbg.Data(arrays(160)), algorithm="downpour", replicas=2, shards=2, steps=40,
        tensorboard=tmp_path, progress="none",
    ).train()  # fmt: skip
    tags = set(read(tmp_path).Tags()["scalars"])
    assert {"replica_examples_per_s/1", "shard_pushed_bytes_per_s/0", "loss/train"} <= tags


def test_alarms_and_terms_and_gaps(tmp_path: Path) -> None:
    sink = TensorBoard(tmp_path)
    sink.take(make_record("start", step=0, network="n", partitions=1, rule="sgd"))
    sink.take(make_record("train", step=1, loss=float("nan"), terms={"penalty": 0.5}))
    sink.take(make_record("alarm", step=2, rule="the loss grows", replica=None))
    sink.close()
    found = read(tmp_path)
    assert found.Tags()["scalars"] == ["penalty/train"]
    (event,) = found.Tensors("alarms/text_summary")
    assert (event.step, event.tensor_proto.string_val[0]) == (2, b"the loss grows")


def test_what_is_done_again_after_resuming_counts_once(tmp_path: Path) -> None:
    """As on a run that was killed after its last checkpoint."""
    for first, last, loss in ((0, 6, 1.0), (4, 8, 2.0)):
        sink = TensorBoard(tmp_path)
        sink.take(make_record("start", step=first, network="n", partitions=1, rule="sgd"))
        for step in range(first + 1, last + 1):
            sink.take(make_record("train", step=step, loss=loss))
        sink.close()
    events = read(tmp_path).Scalars("loss/train")
    assert [event.step for event in events] == list(range(1, 9))
    assert [event.value for event in events] == [1.0] * 4 + [2.0] * 4


@pytest.mark.slow
def test_from_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "digits.py"
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    folder = tmp_path / "tb"
    outcome = Cli(capsys)("train", example, "--steps", "10", "--tensorboard", folder, "-q")
    assert outcome.code == 0
    assert "loss/train" in read(folder).Tags()["scalars"]


def test_without_the_package_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **others: Any) -> Any:
        if name == "tensorboardX":
            raise ModuleNotFoundError("no", name=name)
        return real(name, *more, **others)

    monkeypatch.delitem(sys.modules, "tensorboardX", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="need tensorboardX") as caught:
        TensorBoard(tmp_path)
    assert "dbgraph[tensorboard]" in caught.value.hint


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = TensorBoard(tmp_path / "file" / "tb")
    with pytest.raises(RunError, match="can't write TensorBoard's files"):
        sink.take(make_record("start", step=0, network="n", partitions=1, rule="sgd"))
    sink.close()
