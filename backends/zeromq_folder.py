"""The folder of the sockets that are files: its owner's alone, and gone when its run is.

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

_LONGEST = 80  # the system takes about 100 characters for the path of a socket
_TRIES = 5
_BETWEEN_S = 0.01


class SocketFolder:
    """The driver's."""

    def __init__(self) -> None:
        path = tempfile.mkdtemp(prefix="dbgraph-")  # mode 0700
        if len(path) > _LONGEST:
            os.rmdir(path)
            path = tempfile.mkdtemp(prefix="dbgraph-", dir="/tmp")
        self.path = path
        self._lock = os.open(path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def endpoint(self, name: str) -> str:
        return f"ipc://{self.path}/{name}"

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_if_left(path: str) -> None:
    """Where the driver is dead. It may take a moment to die."""
    for _ in range(_TRIES):
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
            return
        time.sleep(_BETWEEN_S)
