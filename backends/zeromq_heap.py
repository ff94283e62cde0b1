"""Memory that a worker's process once had, it keeps."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # the numbers of glibc's <malloc.h>
_NEVER_BYTES = 2**31 - 1


def keep_memory() -> None:
    """Has large arrays come from the heap, which does not shrink, and not from the system.

    A worker gets arrays of the same sizes at every step. By default glibc maps each that is large
    anew, and the system clears its pages: a push and a fetch of 167 MB took 0.11 to 0.33 s with
    that on a virtual machine whose host gives pages slowly, 0.10 to 0.13 s without. With another
    C library nothing changes.
    """
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _NEVER_BYTES)
        mallopt(_ARENA_MAX, 1)  # the heaps of further arenas are too small for large arrays
