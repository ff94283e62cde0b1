"""One direction-pair between two processes, without I/O: exactly once and in order over a line
that may lose, repeat, reorder and damage.

Go-back-N: the receiver takes only the next number, and says so; the sender keeps what is not
acknowledged (by reference: no copy) and goes back where the receiver stands. ZeroMQ keeps the
order and loses only when a line breaks, so going back is rare, and nothing need be kept at the
receiver. Time is passed in as `now`, in seconds of any steady clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from dbgraph.wire.codec import Refusal, WireError

Item = TypeVar("Item")


class Phase(Enum):
    """What is known of the peer."""

    NEW = "not heard yet"
    OPEN = "heard"
    LOST = "given up"
    CLOSED = "closed"


class Event(Enum):
    """What may happen to a connection."""

    HEARD = "a frame of the peer's present epoch"
    SILENT = "nothing was heard for too long, or its process ended"
    CLOSE = "this side ends it"


TRANSITIONS = {
    (Phase.NEW, Event.HEARD): Phase.OPEN,
    (Phase.NEW, Event.SILENT): Phase.LOST,
    (Phase.NEW, Event.CLOSE): Phase.CLOSED,
    (Phase.OPEN, Event.HEARD): Phase.OPEN,
    (Phase.OPEN, Event.SILENT): Phase.LOST,
    (Phase.OPEN, Event.CLOSE): Phase.CLOSED,
    # A process that was given up and wakes up changes nothing any more.
    (Phase.LOST, Event.HEARD): Phase.LOST,
    (Phase.LOST, Event.SILENT): Phase.LOST,
    (Phase.LOST, Event.CLOSE): Phase.CLOSED,
    (Phase.CLOSED, Event.HEARD): Phase.CLOSED,
    (Phase.CLOSED, Event.SILENT): Phase.CLOSED,
    (Phase.CLOSED, Event.CLOSE): Phase.CLOSED,
}

_ENDED = (Phase.LOST, Phase.CLOSED)


@dataclass(frozen=True, slots=True)
class Limits:
    """How a connection behaves.

    Attributes:
        window_bytes, window_items: at most so much is on the way, unacknowledged.
        resend_s: go back after so long without progress; doubles up to eight times that.
        ack_items, ack_bytes, ack_s: acknowledge at the latest after so many, so much, so long.
        silence_s: a peer from which nothing came for so long is given up.
    """

    window_bytes: int = 32 << 20
    window_items: int = 256
    resend_s: float = 1.0
    ack_items: int = 32
    ack_bytes: int = 8 << 20
    ack_s: float = 0.05
    silence_s: float = 20.0


class Connection(Generic[Item]):
    """Numbers, acknowledgements, going back, deduplication, liveness.

    Args:
        epoch: of the peer's incarnation; frames of another one are refused.
    """

    def __init__(self, epoch: int, now: float, limits: Limits | None = None) -> None:
        self.epoch = epoch
        self.limits = limits or Limits()
        self.phase = Phase.NEW
        self.last_heard = now
        self.resent = 0
        # Sending: `_queue[i]` has the number `_acked + 1 + i`; the first `_flying` are on the way.
        self._queue: deque[tuple[Item, int]] = deque()
        self._acked = 0
        self._flying = 0
        self._flying_bytes = 0
        self._furthest = 0
        self._progress = now
        self._patience = self.limits.resend_s
        # Receiving.
        self.received = 0
        self._owed_items = 0
        self._owed_bytes = 0
        self._owed_since = now
        self._gap = False
        self._gap_told = -1

    # --- sending ---

    def put(self, item: Item, size_bytes: int) -> None:
        """Queues an item; it is kept until the peer has it, or is given up."""
        if not self.ended:
            self._queue.append((item, size_bytes))

    def peek(self) -> tuple[int, Item] | None:
        """(number, item) to be put on the line next; None where nothing may be sent now."""
        if self._flying == len(self._queue):
            return None
        item, size = self._queue[self._flying]
        full = self._flying_bytes + size > self.limits.window_bytes
        if self._flying and (full or self._flying >= self.limits.window_items):
            return None
        return self._acked + self._flying + 1, item

    def sent(self, now: float) -> None:
        """What `peek` gave is on the line."""
        if not self._flying:
            self._progress = now
        _, size = self._queue[self._flying]
        self._flying += 1
        self._flying_bytes += size
        number = self._acked + self._flying
        self.resent += number <= self._furthest
        self._furthest = max(self._furthest, number)

    def acknowledged(self, upto: int, gap: bool, now: float) -> None:
        """The peer has everything up to a number; `gap`: what followed did not come whole."""
        if not self._acked <= upto <= self._furthest:
            return  # an old one that was overtaken, or nonsense
        if upto > self._acked:
            for _ in range(upto - self._acked):
                _, size = self._queue.popleft()
                if self._flying:
                    self._flying -= 1
                    self._flying_bytes -= size
            self._acked = upto
            self._progress = now
            self._patience = self.limits.resend_s
        if gap:
            self._go_back(now)

    def _go_back(self, now: float) -> None:
        self._flying = 0
        self._flying_bytes = 0
        self._progress = now

    @property
    def ended(self) -> bool:
        """Whether nothing is sent or taken any more."""
        return self.phase in _ENDED

    @property
    def idle(self) -> bool:
        """Whether the peer has everything."""
        return not self._queue

    # --- receiving ---

    def judge(self, epoch: int, number: int) -> None:
        """Raises WireError unless this is the next number of the present epoch."""
        if self.ended:
            raise WireError(Refusal.LOST)
        if epoch != self.epoch:
            raise WireError(Refusal.EPOCH, f"{epoch}, expected {self.epoch}")
        if number and number <= self.received:
            raise WireError(Refusal.DUPLICATE, str(number))
        if number > self.received + 1:
            raise WireError(Refusal.GAP, f"{number} after {self.received}")

    def repeated(self, now: float) -> None:
        """A duplicate came: the peer does not know yet that it arrived."""
        self._owe(0, now)
        self._owed_items = self.limits.ack_items

    def missing(self, now: float) -> None:
        """The next item came damaged, or a later one came first: ask for it, once per place."""
        if self._gap_told != self.received:
            self._gap_told = self.received
            self._gap = True
            self._owe(0, now)

    def accept(self, size_bytes: int, now: float) -> None:
        """The item that `judge` let pass has arrived whole."""
        self.received += 1
        self._gap = False
        self._owe(size_bytes, now)

    def _owe(self, size_bytes: int, now: float) -> None:
        if not self._owed_items:
            self._owed_since = now
        self._owed_items += 1
        self._owed_bytes += size_bytes

    def ack_due(self, now: float) -> bool:
        """Whether an `Ack` should be sent now of its own; every header carries one anyway."""
        return self._gap or (
            self._owed_items > 0
            and (
                self._owed_items >= self.limits.ack_items
                or self._owed_bytes >= self.limits.ack_bytes
                or now >= self._owed_since + self.limits.ack_s
            )
        )

    def ack_sent(self) -> bool:
        """An `Ack` goes on the line; returns whether it should ask to go back."""
        gap, self._gap = self._gap, False
        self.piggybacked()
        return gap

    def ack_failed(self, gap: bool, now: float) -> None:
        """The line did not take it: it is due again, soon."""
        self._gap = gap
        self._owed_items = max(self._owed_items, 1)
        self._owed_since = now

    def piggybacked(self) -> None:
        """A header with `received` is on the line; it can't ask to go back, though."""
        self._owed_items = 0
        self._owed_bytes = 0

    # --- time and life ---

    def happen(self, event: Event) -> Phase:
        """One step in the table; returns the new phase."""
        self.phase = TRANSITIONS[self.phase, event]
        if self.ended:
            self._forget()
        return self.phase

    def _forget(self) -> None:
        """Nobody will take what is queued: its memory is free again."""
        self._queue.clear()
        self._flying = self._flying_bytes = 0

    def heard(self, now: float) -> None:
        """A frame of the present epoch came, of any kind."""
        self.last_heard = now
        self.happen(Event.HEARD)

    def tick(self, now: float) -> None:
        """Goes back where the peer has acknowledged nothing for too long."""
        if self._flying and now >= self._progress + self._patience:
            self._go_back(now)
            self._patience = min(2 * self._patience, 8 * self.limits.resend_s)

    def silent(self, now: float) -> bool:
        """Whether nothing was heard for too long."""
        return now >= self.last_heard + self.limits.silence_s

    def excuse(self, seconds: float) -> None:
        """This process itself stood still for so long: nothing can be said of the peer."""
        self.last_heard += seconds
        self._progress += seconds

    def deadline(self) -> float:
        """When `tick` or `ack_due` should be asked again; infinite where nothing is pending."""
        when = float("inf")
        if self._flying:
            when = self._progress + self._patience
        if self._owed_items:
            when = min(when, self._owed_since + self.limits.ack_s)
        return when
