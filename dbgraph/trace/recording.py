"""A run's recording: from before its machines start until its file is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from dbgraph.errors import RunError
from dbgraph.plan.plan import Plan
from dbgraph.target import Target, check_file
from dbgraph.trace.assemble import assemble
from dbgraph.trace.collect import Collector
from dbgraph.units import bytes_


class Recording:
    """Attributes:
    collector: for the backend.
    wanted: whether `finish` is to write a file.

    Args:
        path: of the file. Raises UsageError where none can be written there.
        plans: by their names in the job.
        say: takes what people should know.
    """

    def __init__(
        self, path: Target, plans: Mapping[str, Plan], backend: str, say: Callable[[str], None]
    ) -> None:
        check_file(path)
        self.collector = Collector()
        self.wanted = True
        self._path, self._plans, self._backend, self._say = path, plans, backend, say

    def finish(self, error: BaseException | None = None) -> None:
        """Writes what is known, however the run ended.

        Args:
            error: that ended it. It is what people should see; a file that can't be written is
                then a note.

        Raises RunError where the file can't be written.
        """
        if not self.wanted:
            return
        try:
            self._write(_words(error))
        except OSError as problem:
            rule = f"can't write {os.fspath(self._path)!r}: {problem.strerror or problem}"
            if error is None:
                raise RunError(rule) from problem
            self._say(rule)

    def _write(self, ended: str) -> None:
        from dbgraph.trace.pftrace import save_trace

        trace = assemble(self.collector, self._plans, self._backend, ended)
        save_trace(trace, self._path)
        count = sum(len(process.events) for process in trace.processes)
        size = bytes_(os.path.getsize(self._path))
        where = f"{count:,} events of {len(trace.processes)} processes"
        self._say(f"wrote {os.fspath(self._path)}: {where}, {size}; {trace.note}")


def _words(error: BaseException | None) -> str:
    if error is None:
        return ""
    return str(error).split("\n")[0] or type(error).__name__
