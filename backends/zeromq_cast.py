"""How the maker of actors travels to their processes.

It goes by cloudpickle, with the user's custom ops that this process knows, and only over a line
whose both ends have proved that they hold the job's key.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import cloudpickle

from dbgraph.backends.theatre import Make
from dbgraph.backends.zeromq_job import register_functions, save_arrays, shipped_by_value
from dbgraph.datasource import ArraySource
from dbgraph.errors import DbgraphError, UsageError
from dbgraph.ops.custom import FUNCTIONS


def pack_make(make: Make, folder: Path | None) -> bytes:
    """Raises UsageError where something in it can't travel, DataError where the disk is full.

    Args:
        folder: on this host, where its processes map what sources hold in memory. None: they
            are on other hosts, so that this travels, and the user's own modules too.
    """
    modules = tuple(sys.modules.values()) if folder is None else ()
    file = io.BytesIO()
    try:
        with shipped_by_value(modules):
            _Pickler(file, folder).dump((dict(FUNCTIONS), make))
    except DbgraphError:
        raise
    except Exception as error:  # whatever the user's objects raise
        raise UsageError(
            f"a data source or a custom op can't be sent to another process: {error}",
            hint="files, sockets and locks can't travel; open them inside a function that makes "
            "the source",
        ) from error
    return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    def __init__(self, file: io.BytesIO, folder: Path | None) -> None:
        super().__init__(file)
        self._folder = folder
        self._saved = 0

    def reducer_override(self, obj: Any) -> Any:
        if self._folder is None or not isinstance(obj, ArraySource):
            return super().reducer_override(obj)
        self._saved += 1
        mapped = save_arrays(obj, self._folder, f"source-{self._saved}")
        return super().reducer_override(obj) if mapped is obj else mapped.__reduce__()


def unpack_make(blob: bytes) -> Make:
    """The inverse of `pack_make`; registers the user's functions."""
    functions, make = cloudpickle.loads(blob)
    register_functions(functions)
    return make  # type: ignore[no-any-return]  # what `pack_make` had
