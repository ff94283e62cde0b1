"""Who is told of a run: its log, and what its options ask for besides."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from dbgraph.metrics import LogWriter, Record, Sink
from dbgraph.train.progress import Progress
from dbgraph.train.setup import Setup
from dbgraph.watch.fold import RunView
from dbgraph.watch.job import LOG, view_of
from dbgraph.watch.tensorboard import TensorBoard


def sinks(setup: Setup, progress: Progress) -> Iterator[Sink]:
    """Makes them, one after the other.

    A run with a folder for checkpoints has its log there, so that the folder is all that one must
    know of a run; `Options.log` is one more.

    Raises RunError where a file can't be written, UsageError where a port is taken or a package is
    missing.
    """
    yield _Story(progress)
    resumed = setup.begin.step > 0
    logs = _logs(setup)
    before = view_of(logs[0]) if resumed and logs and os.path.exists(logs[0]) else RunView()
    for path in logs:
        yield LogWriter(path, resume=resumed)
    if setup.options.dashboard is not None:
        yield _dashboard(setup.options.dashboard, before)
    if setup.options.tensorboard is not None:
        yield TensorBoard(setup.options.tensorboard)


class _Story:
    """Tells the progress, which lives longer than the log."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def take(self, record: Record) -> None:
        self._progress.record(record)

    def close(self) -> None:
        pass


def _dashboard(port: int, before: RunView) -> Sink:
    from dbgraph.watch.server import Dashboard

    found = Dashboard(port, before)
    print(f"dashboard: {found.url}", file=sys.stderr, flush=True)
    return found


def _logs(setup: Setup) -> list[str]:
    folder, log = setup.options.checkpoint, setup.options.log
    paths = [] if folder is None else [os.path.join(folder, LOG)]
    paths += [] if log is None else [os.fspath(log)]
    return list({os.path.realpath(path): path for path in paths}.values())
