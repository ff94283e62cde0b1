"""A run as TensorBoard's event files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dbgraph.errors import RunError, UsageError
from dbgraph.metrics import Record

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

_FLUSH_S = 5
_PACKAGE = "tensorboardX"


class TensorBoard:
    """A sink of records: scalars over steps, by name and part, such as `loss/held_out`.

    Args:
        folder: is made where it is not there.

    Raises UsageError where the package that writes the files is missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            import tensorboardX  # noqa: F401  # known now, needed with the first record
        except ModuleNotFoundError as error:
            if error.name != _PACKAGE:
                raise
            hint = "pip install 'dbgraph[tensorboard]'"
            raise UsageError(f"TensorBoard's files need {_PACKAGE}", hint=hint) from error
        self._folder = os.fspath(folder)
        self._writer: SummaryWriter | None = None

    def take(self, record: Record) -> None:
        """See `Sink`. Raises RunError where the folder can't be written."""
        if record["kind"] == "start":
            self._open(record["step"])
        elif record["kind"] == "alarm":
            self._alarm(record)
        for name, value in _scalars(record).items():
            if value is not None and self._writer is not None:
                self._writer.add_scalar(name, value, record["step"], walltime=record["time_s"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open(self, step: int) -> None:
        """Of a run that is resumed, TensorBoard drops what came after the step."""
        from tensorboardX import SummaryWriter

        try:
            self._writer = SummaryWriter(
                self._folder,
                purge_step=step + 1 if step else None,
                flush_secs=_FLUSH_S,
                filename_suffix=f".{step}",  # else named by the second: a quick resume overwrites
            )
        except OSError as error:
            rule = f"can't write TensorBoard's files in {self._folder!r}: {error.strerror}"
            raise RunError(rule) from error

    def _alarm(self, record: Record) -> None:
        if self._writer is not None:
            self._writer.add_text("alarms", record["rule"], record["step"], record["time_s"])


def _scalars(record: Record) -> dict[str, float | None]:
    match record["kind"]:
        case "train":
            return {**_scores(record, "train"), "examples_per_s": record.get("examples_per_s")}
        case "eval":
            return _scores(record, "held_out")
        case "standing":
            return _standing(record)
    return {}


def _scores(record: Record, part: str) -> dict[str, float | None]:
    found = {f"{name}/{part}": record.get(name) for name in ("loss", "accuracy")}
    terms = record.get("terms", {})
    return {**found, **{f"{name}/{part}": value for name, value in terms.items()}}


def _standing(record: Record) -> dict[str, float | None]:
    """Per replica and shard."""
    found: dict[str, float | None] = {}
    for one in record["replicas"]:
        for name in ("examples_per_s", "staleness"):
            found[f"replica_{name}/{one['replica']}"] = one[name]
    for one in record["shards"]:
        for name in ("updates_per_s", "pushed_bytes_per_s", "fetched_bytes_per_s"):
            found[f"shard_{name}/{one['shard']}"] = one[name]
    return found
