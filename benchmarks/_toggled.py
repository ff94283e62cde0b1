"""Workers that note what they do in some steps and not in others: for `tracing.py`.

Two sets of processes differ by more than what notes take: where their memory lies, and which cores
they run on. So one set is measured against itself. A worker imports this module for its `Machine`.
"""

from __future__ import annotations

from dbgraph.backends.zeromq_events import Arrived
from dbgraph.backends.zeromq_link import Link
from dbgraph.backends.zeromq_notes import WorkerNotes
from dbgraph.backends.zeromq_service import Service
from dbgraph.machine import Machine
from dbgraph.wire import messages as m

__all__ = ["Machine", "is_noted"]

BLOCK = 4
"""Steps in a row that are noted, or not: what is left to do after a noted one falls into the next,
which should be of its kind."""


def block_of(step: int) -> int:
    """0 and 2: not noted; 1: noted."""
    return step // BLOCK % 3


def is_noted(step: int) -> bool:
    return block_of(step) == 1


class _Toggled(Service):
    _all: WorkerNotes | None = None

    def _step(self, link: Link, run: m.Run, arrived: Arrived) -> None:
        self._all = self._all or self._notes
        self._notes = self._all if is_noted(run.number) else None
        self._machine.log = self._notes and self._notes.log
        _step(self, link, run, arrived)

    def _hand_in_rest(self, link: Link) -> None:
        self._notes = self._all or self._notes
        _hand_in_rest(self, link)


_step, _hand_in_rest = Service._step, Service._hand_in_rest
Service._all = None
Service._step = _Toggled._step
Service._hand_in_rest = _Toggled._hand_in_rest
