"""A run by its name: the folder of its checkpoints, or its log. And its log, as it grows."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from dbgraph.errors import UsageError
from dbgraph.watch.fold import RunView, fold

LOG = "log.jsonl"
"""The log's name in the folder of a run's checkpoints."""
_CHUNK_BYTES = 1 << 20


def log_of(job: str) -> str:
    """The log of a run. Raises UsageError where there is none."""
    path = os.path.join(job, LOG) if os.path.isdir(job) else job
    if not os.path.isfile(path):
        raise UsageError(
            f"there is no log of a run in {job!r}",
            hint="name the folder that --checkpoint gave to `dbgraph train`, or the file of --log",
        )
    return path


class Follower:
    """Folds a log, and what is appended to it.

    A last line that is not whole yet is read when it is. A log that was begun anew is folded anew.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._view = RunView()
        self._at = 0
        self._rest = b""

    def update(self) -> RunView:
        """The view of all that is there by now. A run whose process is gone has failed.

        Raises UsageError where the file is no log, or is gone.
        """
        view = self._read()
        if not _is_gone(view):
            return view
        view = self._read()  # it may have ended well since then
        if view.state != "running":
            return view
        return replace(view, state="failed", reason="lost", error=f"its process {view.pid} is gone")

    def _read(self) -> RunView:
        try:
            for lines in self._chunks():
                self._view = fold(_records(lines), self._view)
        except OSError as error:
            raise UsageError(f"can't read the log {self._path!r}: {error.strerror}") from error
        if self._at > len(self._rest) and not self._view.begun_s:
            raise UsageError(
                f"{self._path!r} is no log of a run", hint="its lines are records as JSON"
            )
        return self._view

    def _chunks(self) -> Iterator[list[bytes]]:
        """Whole lines."""
        with open(self._path, "rb") as file:
            if os.fstat(file.fileno()).st_size < self._at:
                self._at, self._rest, self._view = 0, b"", RunView()
            file.seek(self._at)
            while chunk := file.read(_CHUNK_BYTES):
                self._at += len(chunk)
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                yield lines


def _records(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """What is no record is skipped: a disk may have lost a part of a line."""
    for line in lines:
        try:
            found = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(found, dict):
            yield found


def _is_gone(view: RunView) -> bool:
    """Whether a run that says that it goes on is known not to."""
    if view.state != "running" or not view.pid or view.host != socket.gethostname():
        return False
    try:
        os.kill(view.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    return False


def view_of(job: str) -> RunView:
    """A run as it is now. Raises UsageError."""
    return Follower(log_of(job)).update()


def as_json(view: RunView) -> dict[str, Any]:
    """For programs, and for pages."""
    found: dict[str, Any] = msgspec.to_builtins(view)
    return {**found, "left_s": view.left_s}
