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
        self._steps: list[tuple[int, int, int, int, int, int, int]] = []

    def arrived(self, value: m.Value, at_ns: int) -> None:
        """A value's last byte was there then."""
        self.log.arrivals.extend((value.ordinal, value.transfer, value.microbatch, at_ns))

    def ended(
        self, link: Link, taken_ns: int, orders: Arrived, done_ns: int, arrays: Sequence[np.ndarray]
    ) -> None:
        """The step's results have been handed over. Until the driver's next orders come, there
        is time for the parameters' update, and for handing in.

        Args:
            taken_ns: when the step's orders were taken.
            done_ns: when the results were there.
        """
        recorder, log = self.recorder, self.log
        sent_ns, sizes = recorder.clock(), (_size_bytes(orders.parcel.arrays), _size_bytes(arrays))
        self._steps.append((taken_ns, log.began_ns, orders.at_ns, done_ns, sent_ns, *sizes))
        if log.open:
            log.settle()
        if sent_ns >= recorder.due_ns:
            self._hand_over()
            hand_in(link, recorder)

    def hand_in_rest(self, link: Link) -> None:
        """See `hand_in_rest`."""
        self._hand_over()
        hand_in_rest(link, self.recorder)

    def _hand_over(self) -> None:
        """To the recorder: many at once is faster than each as it comes."""
        for taken_ns, began_ns, came_ns, done_ns, sent_ns, orders, results in self._steps:
            self.recorder.note_message(HANDLE, "Run", DRIVER, taken_ns, began_ns, came_ns, orders)
            self.recorder.note_message(POST, "Done", DRIVER, done_ns, sent_ns, 0, results)
        self._steps.clear()


_Order = tuple[int, int, int, int]
"""To whom, from when until when it was handed over, and the bytes of its arrays."""


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
        self._orders: list[_Order] = []
        self._steps: list[tuple[str, int, int, int, int, list[_Order], Mapping[int, int]]] = []
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

    def send_order(self, peer: int, run: m.Run, arrays: Sequence[np.ndarray]) -> None:
        """Hands a step's orders over to a process."""
        began_ns = self.recorder.clock()
        self._link.send(peer, run, arrays)
        self._orders.append((peer, began_ns, self.recorder.clock(), _size_bytes(arrays)))

    def stepped(self, step: Step, run: int, began_ns: int, answered_ns: Mapping[int, int]) -> None:
        """A step is done; its answers came then."""
        now_ns, orders, self._orders = self.recorder.clock(), self._orders, []
        self._steps.append((step.plan, run, step.number, began_ns, now_ns, orders, answered_ns))
        if now_ns >= self.recorder.due_ns:
            self._hand_over()
            self.take_due()

    def _hand_over(self) -> None:
        """To the recorder: many at once is faster than each as it comes."""
        recorder, names = self.recorder, self._names
        for plan, run, number, began_ns, now_ns, orders, answered_ns in self._steps:
            self._note_orders(orders)
            ordered_ns = max((sent_ns for _, _, sent_ns, _ in orders), default=0)
            for peer, at_ns in answered_ns.items():
                taken_ns = max(at_ns, ordered_ns)  # one may answer before all have their orders
                recorder.note_message(HANDLE, "Done", names[peer], taken_ns, taken_ns, at_ns)
            recorder.note_order(plan, run, number, began_ns, now_ns)
        self._note_orders(self._orders)  # of a step that failed
        self._steps.clear()

    def _note_orders(self, orders: Sequence[_Order]) -> None:
        for peer, began_ns, sent_ns, size_bytes in orders:
            about = self._names[peer], began_ns, sent_ns, 0, size_bytes
            self.recorder.note_message(POST, "Run", *about)

    def take_due(self) -> None:
        """The driver's own, if it is time."""
        self._collector.take_due(self._name, self.recorder)

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
        self._hand_over()
        self._collector.add(self._name, self.recorder.take(last=True))
        for peer, name in self._names.items():
            self._collector.align(name, align(self._link.clocks.samples(peer)))

    def _is_done(self, peer: int) -> bool:
        return peer in self._ended and not self._link.clocks.is_busy(peer)
