"""An exception in one process becomes an error of dbgraph's in the driver."""

from __future__ import annotations

import traceback

from dbgraph import errors
from dbgraph.backends.zeromq_link import Link
from dbgraph.errors import DbgraphError, RunError
from dbgraph.source import Source
from dbgraph.wire import messages as m

_SAY_GOODBYE_S = 2.0


def report_failure(link: Link, error: Exception, instruction: str = "") -> None:
    """Tells the driver; waits until it knows, for a while."""
    if link.me is None:
        link.take(_SAY_GOODBYE_S)  # the first message says where the driver is
    if link.me is None:
        return
    link.send(m.DRIVER, _failed(error, instruction))
    link.drain(_SAY_GOODBYE_S)


def _failed(error: Exception, instruction: str) -> m.Failed:
    ours = error if isinstance(error, DbgraphError) else None
    return m.Failed(
        error=type(error).__name__,
        rule=ours.rule if ours else str(error),
        at=str(ours.at or "") if ours else "",
        hint=ours.hint if ours else "",
        instruction=instruction,
        trace="".join(traceback.format_exception(error)),
    )


def raised(who: str, failed: m.Failed) -> DbgraphError:
    """The exception of a process as one of dbgraph's; its traceback is kept as a note."""
    kind = getattr(errors, failed.error, None)
    at = Source.parse(failed.at) if failed.at else None
    where = f"{who}, {failed.instruction}" if failed.instruction else who
    rule = failed.rule.removeprefix(f"{who}: ")
    error: DbgraphError
    if isinstance(kind, type) and issubclass(kind, DbgraphError):
        error = kind(f"{where}: {rule}", at=at, hint=failed.hint)
    else:
        error = RunError(f"{where}: {failed.error}: {rule}", at=at, hint=failed.hint)
    error.add_note(f"in the worker:\n{failed.trace}")
    return error


def blame(who: str, failed: m.Failed) -> RunError:
    """The exception of an actor; its traceback is kept as a note."""
    ours = isinstance(getattr(errors, failed.error, None), type)
    rule = failed.rule if ours else f"{failed.error}: {failed.rule}"
    at = Source.parse(failed.at) if failed.at else None
    error = RunError(f"{who}: {rule}", at=at, hint=failed.hint)
    error.add_note(f"at {failed.instruction}, in its process:\n{failed.trace}")
    return error
