"""What a process notes of its run: rows of whole numbers, in memory, with no I/O.

| kind    | what takes from start to stop                                                       |
|---------|-------------------------------------------------------------------------------------|
| run     | a segment, until its values are seen to be computed (see `trace.program`)           |
| update  | the parameters' update; no time where it is one computation with the segment before |
| send    | from when the program comes to it until its bytes are handed over                   |
| receive | from when the program comes to it until the value is there                          |
| post    | an actor, or the driver, hands over a message                                       |
| handle  | it deals with one: in a shard, an operation of the parameter server                 |
| work    | an actor computes; in a replica, that includes instructions                         |
| order   | the driver, from the orders for a step to the last answer                           |
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple, Protocol

KINDS = ("run", "update", "send", "receive", "post", "handle", "work", "order")
RUN, UPDATE, SEND, RECEIVE, POST, HANDLE, WORK, ORDER = range(len(KINDS))
PROGRAM = frozenset({"run", "update", "send", "receive"})
"""Kinds that are instructions of a program; the others are its process's dealings."""

MOST_ROWS = 100_000
"""Of one recorder, about 20 MB; when they are reached before somebody takes them, the older half
goes."""
TAKE_NS = 1_000_000_000
"""Rows are due to be taken so long after the last time."""


def run_number(ordinal: tuple[int, int]) -> int:
    """One number, over 0, for one of two: they are in the same order."""
    high, low = ordinal
    return (high + 1) << 32 | low


class Row(NamedTuple):
    """One event. Times are nanoseconds on the process's own clock.

    Attributes:
        kind: index in KINDS.
        name: index in the recorder's names: of an instruction its plan, of a message its class.
        arrived: when the last byte of what is received or dealt with was there; 0: not known.
        run: which run of the program (see `Recorder.begin`); 0 where it belongs to none.
        number: the segment, the transfer, the message's number (see `Recorder.count`), or of an
            order the step's number.
        peer: index in the names: who else; 0 for nobody, and for transfers: their plan says it.
        size_bytes: of a message's arrays; 0 for transfers: their plan says it.
    """

    kind: int
    name: int
    start: int
    stop: int
    arrived: int = 0
    run: int = 0
    number: int = 0
    microbatch: int = 0
    peer: int = 0
    size_bytes: int = 0


WIDTH = len(Row._fields)


@dataclass(frozen=True)
class Noted:
    """What was noted since the last time.

    Attributes:
        names: those that are new; a process's names are those of all its Noted in order.
        rows: `WIDTH` numbers each, as in `Row`.
        lost: rows that were dropped before them.
        last: nothing comes after it.
    """

    names: tuple[str, ...]
    rows: array[int]
    lost: int = 0
    last: bool = False


class ProgramRows(Protocol):
    """Rows of a program's instructions, which are made when they are taken."""

    held: int

    def sent(self, now: int) -> None: ...

    def drop_older_half(self) -> int: ...

    def take(self, *, last: bool) -> array[int]: ...


Note = tuple[int, str, int, int, int, int, int, object, int]
"""As a `Row` without its microbatch, before its names and messages have numbers."""


class Recorder:
    """One thread's notes. Who has none notes nothing, at the cost of looking.

    What is noted is kept as it comes, and becomes rows when those are taken: a process that notes
    something has others waiting for it.

    Attributes:
        notes: what was noted since the last time.
        arrived_at: when the last byte of the message was there that is dealt with now.
        due_ns: when the rows should be taken.
        program: has more rows, of the program that this thread runs; None where it runs none.

    Args:
        clock: nanoseconds, only forward.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.clock = clock
        self.run, self.plan = 0, ""
        self.arrived_at = 0
        self.notes: list[Note] = []
        self.program: ProgramRows | None = None
        self._names: dict[str, int] = {"": 0}
        self._told = self._lost = 0
        self.due_ns = clock() + TAKE_NS
        self._counts: Counter[tuple[int, int]] = Counter()

    def begin(self, run: int, plan: str) -> None:
        """A run of a plan's program begins.

        Args:
            run: its number, alike on all partitions that run it together; over 0.
        """
        self.run, self.plan = run, plan

    def note_message(
        self,
        kind: int,
        name: str,
        peer: object,
        start: int,
        stop: int,
        arrived: int = 0,
        size_bytes: int = 0,
    ) -> None:
        """A message that was handed over (POST) or dealt with (HANDLE).

        Args:
            peer: has its name as its text.
        """
        self.notes.append((kind, name, start, stop, arrived, 0, 0, peer, size_bytes))
        if len(self.notes) >= MOST_ROWS:
            self.drop_older_half()

    def note_order(self, plan: str, run: int, number: int, start: int, stop: int) -> None:
        """A step of a plan."""
        self.notes.append((ORDER, plan, start, stop, 0, run, number, "", 0))

    def sent(self) -> int:
        """Something was handed over now. Returns the time."""
        now = self.clock()
        if self.program is not None:
            self.program.sent(now)
        return now

    @property
    def is_due(self) -> bool:
        """Whether somebody should take the rows."""
        program = self.program
        held = bool(self.notes) or (program is not None and program.held > 0)
        return held and self.clock() >= self.due_ns

    def take(self, *, last: bool = False) -> Noted:
        """What was noted since the last time."""
        notes, self.notes = self.notes, []
        numbers = array("q", chain.from_iterable(map(self._row, notes)))
        if self.program is not None:
            numbers += self.program.take(last=last)
        names = tuple(list(self._names)[self._told :])
        found = Noted(names, numbers, self._lost, last)
        self._told, self._lost, self.due_ns = len(self._names), 0, self.clock() + TAKE_NS
        return found

    def _row(self, note: Note) -> tuple[int, ...]:
        kind, name, start, stop, arrived, run, number, peer, size_bytes = note
        who = self.name(str(peer))
        if kind != ORDER:
            number = self._count(kind, who)
        return kind, self.name(name), start, stop, arrived, run, number, 0, who, size_bytes

    def name(self, text: str) -> int:
        """The index of a name."""
        return self._names.setdefault(text, len(self._names))

    def _count(self, kind: int, peer: int) -> int:
        """From 1 the number of a message to (POST) or from (HANDLE) a peer. Both sides count
        alike, since messages arrive in order, and exactly once."""
        found = self._counts[kind, peer] = self._counts[kind, peer] + 1
        return found

    def drop_older_half(self) -> None:
        """For lack of room."""
        gone = self.notes[: len(self.notes) // 2]
        for note in gone:
            self._row(note)  # messages are counted all the same
        del self.notes[: len(gone)]
        self._lost += len(gone)
        if self.program is not None:
            self._lost += self.program.drop_older_half()
