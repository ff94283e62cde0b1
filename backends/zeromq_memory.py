"""Areas of memory that the processes of a job on one host share: files that never see a disk, in
a folder of the job that is its owner's alone (`zeromq_folder.memory_folder`).

Each process makes the areas that it writes to. The first word of an area says whether somebody
reads it; the last array that is dropped clears it, and the area is written to again: memory that
is new costs several times as much as memory that is there.

    free --put--> lent --the last array is dropped--> free --not used for a while--> removed
"""

from __future__ import annotations

import gc
import mmap
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbgraph.wire import Process, Refusal, WireError
from dbgraph.wire.codec import ArraySpec
from dbgraph.wire.memory import extent_bytes, places
from dbgraph.wire.parcel import DTYPES

SMALLEST_BYTES = 16 << 10
"""Smaller messages go by the line. Of this size a round trip takes a tenth less than by the line,
of 1 MiB less than half."""

_UNUSED_S = 5.0
_MOST_WASTE = 4
_STEP_BYTES = 1 << 16
_FREE, _LENT = 0, 1


@dataclass(eq=False, slots=True)
class _Area:
    """One that this process writes to.

    Attributes:
        to: the peer that reads it, or did last.
        used_s: when it was lent last.
    """

    number: int
    path: str
    memory: np.ndarray
    to: int = -1
    used_s: float = 0.0

    @property
    def free(self) -> bool:
        return not _word(self.memory)[0]


class _Loan:
    """An area that is being read; arrays keep it, and give it back when the last one is gone."""

    def __init__(self, memory: np.ndarray) -> None:
        self._memory = memory
        self.__array_interface__: dict[str, Any] = memory.__array_interface__

    def __del__(self) -> None:
        _word(self._memory)[0] = _FREE


class SharedMemory:
    """See `wire.memory.Memory`; any thread may call.

    Args:
        folder: of the job, in memory.
        me: whose areas these are.
    """

    def __init__(self, folder: str, me: Process) -> None:
        self._folder = folder
        self._me = me
        self._lock = threading.Lock()
        self._mine: list[_Area] = []
        self._made = 0
        self._full = False
        self._theirs: dict[str, np.ndarray] = {}

    # --- writing ---

    def put(
        self, peer: int, specs: Sequence[ArraySpec], arrays: Sequence[np.ndarray]
    ) -> int | None:
        size = extent_bytes(specs)
        if size < SMALLEST_BYTES:
            return None
        area = self._lend(size, peer)
        if area is None:
            return None
        for array, target in zip(arrays, _arrays(area.memory, specs), strict=True):
            np.copyto(target, array)
        gc.collect(0)  # makes JAX let go of what it has read: the peer may want it back by now
        return area.number

    def _lend(self, size: int, peer: int) -> _Area | None:
        with self._lock:
            fitting = [a for a in self._mine if size <= a.memory.nbytes <= _MOST_WASTE * size]
            free = (a for a in fitting if a.free)
            area = min(free, key=lambda a: a.memory.nbytes, default=None) or self._make(size)
            if area is not None:
                area.to, area.used_s = peer, time.monotonic()
                _word(area.memory)[0] = _LENT
        return area

    def _make(self, size: int) -> _Area | None:
        """None where there is no room."""
        if self._full:
            return None
        self._made += 1
        path = _path(self._folder, self._me.number, self._me.epoch, self._made)
        try:
            memory = _new_file(path, size + -size % _STEP_BYTES)
        except OSError:
            self._full = True  # or the folder is gone, and the job ends
            return None
        area = _Area(self._made, path, memory)
        self._mine.append(area)
        return area

    def forget(self, peer: int) -> None:
        with self._lock:
            self._remove([a for a in self._mine if a.to == peer and not a.free])

    # --- reading ---

    def take(
        self, peer: int, epoch: int, area: int, specs: Sequence[ArraySpec]
    ) -> list[np.ndarray]:
        path = _path(self._folder, peer, epoch, area)
        with self._lock:
            memory = self._theirs.get(path)
            if memory is None:
                memory = self._theirs[path] = _opened(path)
        if memory.nbytes < extent_bytes(specs):
            raise WireError(Refusal.LENGTH, f"arrays beyond the end of area {area}")
        return _arrays(np.asarray(_Loan(memory)), specs)

    # --- time ---

    def tidy(self, now: float) -> None:
        """Removes what has not been used for a while, of its own, and lets go what its owner has
        removed; to be called now and then."""
        with self._lock:
            self._full = False  # others may have made room
            unused = (a for a in self._mine if now >= a.used_s + _UNUSED_S)
            self._remove([area for area in unused if area.free])
            gone = [path for path in self._theirs if not os.path.exists(path)]
            for path in gone:
                del self._theirs[path]

    def _remove(self, areas: Sequence[_Area]) -> None:
        """Whoever reads one of them still has it."""
        for area in areas:
            self._mine.remove(area)
            with suppress(FileNotFoundError):
                os.unlink(area.path)


def _path(folder: str, owner: int, epoch: int, area: int) -> str:
    return f"{folder}/{owner}.{epoch}.{area}"


def _new_file(path: str, size: int) -> np.ndarray:
    """Raises OSError where there is no room: not later, when it is written to."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, size)
        return _mapped(file, size)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(file)


def _opened(path: str) -> np.ndarray:
    """Raises WireError where there is no such file."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise WireError(Refusal.MALFORMED, f"no area {path}") from error
    try:
        return _mapped(file, os.fstat(file).st_size)
    except (OSError, ValueError) as error:
        raise WireError(Refusal.MALFORMED, f"area {path}: {error}") from error
    finally:
        os.close(file)


def _mapped(file: int, size: int) -> np.ndarray:
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    return np.frombuffer(mmap.mmap(file, size, flags=flags), np.uint8)


def _word(memory: np.ndarray) -> np.ndarray:
    return memory[:8].view(np.uint64)


def _arrays(memory: np.ndarray, specs: Sequence[ArraySpec]) -> list[np.ndarray]:
    return [
        memory[start:end].view(DTYPES[spec.dtype]).reshape(spec.shape)
        for spec, (start, end) in zip(specs, places(specs), strict=True)
    ]
