"""What training is judged by, and its log."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import msgspec
import numpy as np

from dbgraph.errors import RunError, UsageError
from dbgraph.ir.types import TensorType
from dbgraph.suggest import did_you_mean


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of elements that are equal, from 0 to 1.

    Args:
        outputs, labels: of one shape; integers.
    """
    if outputs.shape != labels.shape:
        raise ValueError(f"outputs {outputs.shape} and labels {labels.shape} differ in shape")
    return float(np.mean(outputs == labels)) if outputs.size else math.nan


def pairing(
    outputs: Mapping[str, TensorType], inputs: Mapping[str, TensorType], chosen: str = ""
) -> tuple[str, str] | None:
    """Which output is compared with which input.

    Without a choice: the only pair of an integer output and an integer input of one shape, or
    None where there is none or several.

    Args:
        chosen: "class=label", output and input; raises UsageError where these can't be compared.
    """
    if chosen:
        return _chosen(outputs, inputs, chosen)
    pairs = [
        (output, name)
        for output, of in outputs.items()
        for name, type_ in inputs.items()
        if _countable(of) and _countable(type_) and of.shape == type_.shape
    ]
    return pairs[0] if len(pairs) == 1 else None


def _chosen(
    outputs: Mapping[str, TensorType], inputs: Mapping[str, TensorType], chosen: str
) -> tuple[str, str]:
    output, equals, name = (part.strip() for part in chosen.partition("="))
    if not equals:
        raise UsageError(f"{chosen!r} is not of the form OUTPUT=INPUT, such as class=label")
    for kind, wanted, there in (("output", output, outputs), ("input", name, inputs)):
        if wanted not in there:
            hint = did_you_mean(wanted, there) or f"there are: {', '.join(there) or 'none'}"
            raise UsageError(f"the network has no {kind} {wanted!r}", hint=hint)
    of, type_ = outputs[output], inputs[name]
    if not _countable(of) or not _countable(type_) or of.shape != type_.shape:
        raise UsageError(
            f"output {output!r} is {of}, input {name!r} is {type_}: accuracy compares integers "
            "of one shape",
            hint=f"declare an output of the classes: dbg.output({output!r}, L.ArgMax()(scores))",
        )
    return output, name


def _countable(type_: TensorType) -> bool:
    return not type_.is_float


class Means:
    """Running weighted means of several numbers, such as the loss over an evaluation.

    >>> means = Means()
    >>> means.add({"loss": 1.0}, weight=3)
    >>> means.add({"loss": 2.0}, weight=1)
    >>> means.values()
    {'loss': 1.25}
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    def add(self, values: Mapping[str, float], weight: float = 1.0) -> None:
        """One more of each; `weight` is its number of examples."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + weight * float(value)
            self._weights[name] = self._weights.get(name, 0.0) + weight

    def values(self) -> dict[str, float]:
        return {name: total / self._weights[name] for name, total in self._sums.items()}


RECORDS: Mapping[str, tuple[str, ...]] = {
    # A run begins, or goes on: `step` is the number of steps done before.
    "start": ("step", "network", "partitions", "rule"),
    # After some steps: loss is the last step's; examples_per_s over the last seconds.
    "train": ("step", "loss"),
    # After an evaluation on held-out data.
    "eval": ("step", "loss"),
    # A checkpoint was written.
    "checkpoint": ("step", "path"),
    # How replicas and shards are doing, or the machines of a single plan, every few seconds.
    "standing": ("step", "replicas", "shards", "machines"),
    # Training goes wrong, but goes on: what, and where it shows; replica null: in a single plan.
    "alarm": ("step", "rule", "replica"),
    # The run ended; reason: "steps", "early stop", "interrupted" or "error".
    "end": ("step", "reason"),
}
"""Kinds of log records, and the fields that each has at least. Every record has `kind`, `time_s`
(seconds since 1970) and `step` (steps done); others, such as epoch, accuracy, named loss terms,
examples_per_s, elapsed_s and best, where they are known."""

Record = Mapping[str, Any]


class Sink(Protocol):
    """Is told all that becomes known of a run, record by record."""

    def take(self, record: Record) -> None:
        """One more. May raise RunError, which ends the run."""

    def close(self) -> None:
        """There are no more."""


def make_record(kind: str, **fields: Any) -> dict[str, Any]:
    """A record of now: Python's own numbers and texts; numbers that are not finite are None.

    Raises ValueError where it breaks the schema.
    """
    missing = [name for name in RECORDS[kind] if name not in fields]
    if missing:
        raise ValueError(f"a record of kind {kind!r} needs {', '.join(missing)}")
    record = {"kind": kind, "time_s": round(time.time(), 3), **fields}
    # As it will be read from the log: who watches the run sees what a reader of its log does.
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record, enc_hook=_plain))
    return found


class LogWriter:
    """A log of JSON lines: one record a line, flushed at once.

    A resumed run appends. Steps that were done twice are there twice; the later record counts.
    Raises RunError where the file can't be written.
    """

    def __init__(self, path: str, *, resume: bool = False) -> None:
        self.path = path
        try:
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            if resume:
                _cut_torn_line(path)
            self._file = open(path, "ab" if resume else "wb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise RunError(f"can't write the log {path!r}: {error.strerror}") from error

    def write(self, kind: str, **fields: Any) -> None:
        """One record. Raises ValueError where it breaks the schema."""
        self.take(make_record(kind, **fields))

    def take(self, record: Record) -> None:
        try:
            self._file.write(msgspec.json.encode(record) + b"\n")
        except OSError as error:
            raise RunError(f"can't write the log {self.path!r}: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_log(path: str) -> list[dict[str, Any]]:
    """The records of a log; a last line that was cut short is left out."""
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    return [msgspec.json.decode(line) for line in lines[:-1] if line]


def _cut_torn_line(path: str) -> None:
    """Removes what a run that was killed while writing has left after the last line's end."""
    if not os.path.exists(path):
        return
    with open(path, "r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)


def _plain(value: object) -> object:
    """NumPy's and JAX's scalars and arrays as Python's numbers."""
    to_list = getattr(value, "tolist", None)
    if to_list is None:
        raise TypeError(f"{type(value).__name__} has no place in a log")
    return to_list()
