"""A job's folder on this host, for sockets that are files, for data, or for shared memory: its
owner's alone, and gone when its job is.

The driver holds a lock on it, which the system frees when the driver ends, however it ends: who
finds it free removes the folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

IN_MEMORY = "/dev/shm"
"""Where files are memory; not on every system."""

_PREFIX = "dbgraph-"
_OLD_S = 60.0  # one that was made a moment ago may not be locked yet
_LONGEST = 80  # the system takes about 100 characters for the path of a socket
_TRIES = 5
_BETWEEN_S = 0.01


class JobFolder:
    """The driver's.

    Args:
        place: where to make it; None: where temporary files are.
    """

    def __init__(self, place: str | None = None) -> None:
        path = tempfile.mkdtemp(prefix=_PREFIX, dir=place)  # mode 0700
        if len(path) > _LONGEST:
            os.rmdir(path)
            path = tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp")
        self.path = path
        self._lock = os.open(path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def endpoint(self, name: str) -> str:
        return f"ipc://{self.path}/{name}"

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def memory_folder() -> JobFolder | None:
    """For files that are shared memory; None where the system has no place for them.

    What jobs have left there of which every process was killed is removed: it is memory.
    """
    if not os.access(IN_MEMORY, os.W_OK | os.X_OK):
        return None
    for path in Path(IN_MEMORY).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD_S:
                _remove_if_free(str(path))
    return JobFolder(IN_MEMORY)


def remove_if_left(path: str) -> None:
    """Where the driver is dead. It may take a moment to die."""
    for _ in range(_TRIES):
        with suppress(OSError):
            _remove_if_free(path)
            return
        time.sleep(_BETWEEN_S)


def _remove_if_free(path: str) -> None:
    """Raises OSError where its driver lives, or it is another user's."""
    lock = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
