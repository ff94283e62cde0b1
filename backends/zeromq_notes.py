"""How notes of what processes do (`trace.events`) come to the driver: as messages, about once a
second, and the rest when a process ends."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping, Sequence

import numpy as np

from dbgraph.backends.zeromq_events import Arrived
from dbgraph.backends.zeromq_link import Link
from dbgraph.job import Step
from dbgraph.trace.clock import align
from dbgraph.trace.collect import DRIVER, Collector
from dbgraph.trace.events import HANDLE, POST, Noted, Recorder
from dbgraph.trace.program import ProgramLog
from dbgraph.wire import Parcel
from dbgraph.wire import messages as m

_REST_S = 1.0
_PAUSE_S = 0.001


def hand_in(link: Link, recorder: Recorder) -> None:
    """To the driver, where it is time."""
    if recorder.is_due:
        _send(link, recorder.take())


def hand_in_rest(link: Link, recorder: Recorder) -> None:
    """To the driver, which waits for it before it ends."""
    _send(link, recorder.take(last=True))
    link.drain(_REST_S)


def _send(link: Link, noted: Noted) -> None:
    rows = np.frombuffer(noted.rows, np.int64) if noted.rows else np.empty(0, np.int64)
    link.send(m.DRIVER, m.Recorded(noted.names, noted.lost, noted.last), [rows])


def _noted(parcel: Parcel) -> Noted:
    message = parcel.message
    assert isinstance(message, m.Recorded)
    rows = array("q", parcel.arrays[0].tobytes())
    return Noted(message.names, rows, message.lost, message.last)


def _size_bytes(arrays: Sequence[np.ndarray]) -> int:
    return sum([a.nbytes for a in arrays])


class WorkerNotes:
    """Those of a worker of one plan."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.log = ProgramLog(self.recorder)
        self._began: tuple[int, int, Arrived] | None = None

    def begins(self, run: m.Run) -> None:
        """A step is about to begin."""
        self.recorder.begin(run.ordinal, run.plan)

    def began(self, taken_ns: int, orders: Arrived) -> None:
        """A step has begun, whose orders were taken then."""
        self._began = taken_ns, self.recorder.clock(), orders

    def ended(self, link: Link, began_ns: int, arrays: Sequence[np.ndarray]) -> None:
        """The step's results have been handed over. Until the driver's next orders come, there
        is time for the parameters' update, and for handing in."""
        recorder = self.recorder
        done_ns = recorder.clock()
        recorder.note_message(POST, "Done", DRIVER, began_ns, done_ns, 0, _size_bytes(arrays))
        if self._began is not None:
            taken_ns, done_ns, orders = self._began
            about = taken_ns, done_ns, orders.at_ns, _size_bytes(orders.parcel.arrays)
            recorder.note_message(HANDLE, "Run", DRIVER, *about)
            self._began = None
        self.log.settle()
        hand_in(link, recorder)


class DriverNotes:
    """The driver's own, and those that processes hand in.

    Args:
        name: of its process in the trace.
    """

    def __init__(self, collector: Collector, link: Link, name: str = DRIVER) -> None:
        self.recorder = Recorder()
        self._collector, self._link, self._name = collector, link, name
        self._names: dict[int, str] = {}
        self._ended: set[int] = set()
        link.on_notes = self._take

    def enter(self, peer: int, name: str) -> None:
        """A process has come; its clock is compared."""
        self._names[peer] = name
        self._link.compare_clocks(peer)

    def _take(self, peer: int, parcel: Parcel) -> None:
        """In the I/O thread."""
        noted = _noted(parcel)
        self._collector.add(self._names[peer], noted)
        if noted.last:
            self._ended.add(peer)

    def take_due(self) -> None:
        """The driver's own, if it is time."""
        self._collector.take_due(self._name, self.recorder)

    def send_order(self, peer: int, run: m.Run, arrays: Sequence[np.ndarray]) -> None:
        """Hands a step's orders over to a process."""
        recorder = self.recorder
        began_ns = recorder.clock()
        self._link.send(peer, run, arrays)
        about = began_ns, recorder.clock(), 0, _size_bytes(arrays)
        recorder.note_message(POST, "Run", self._names[peer], *about)

    def stepped(self, step: Step, run: int, began_ns: int, answered_ns: Mapping[int, int]) -> None:
        """A step is done; its answers came then."""
        recorder = self.recorder
        for peer, at_ns in answered_ns.items():
            recorder.note_message(HANDLE, "Done", self._names[peer], at_ns, at_ns, at_ns)
        recorder.note_order(step.plan, run, step.number, began_ns)
        self.take_due()

    def compare_clocks(self) -> None:
        """Once more, before the end."""
        for peer in self._names:
            self._link.compare_clocks(peer)

    def take_rest(self) -> None:
        """Waits, though not for long, for the rest of the notes of those that live."""
        waiting = list(self._names)
        end = time.monotonic() + _REST_S
        while waiting and time.monotonic() < end:
            waiting = [p for p in waiting if self._link.is_open(p) and not self._is_done(p)]
            time.sleep(_PAUSE_S)
        self._collector.add(self._name, self.recorder.take(last=True))
        for peer, name in self._names.items():
            self._collector.align(name, align(self._link.clocks.samples(peer)))

    def _is_done(self, peer: int) -> bool:
        return peer in self._ended and not self._link.clocks.is_busy(peer)
