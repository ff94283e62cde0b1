"""What the leader of a replica waits for from its partitions, under the batch methods."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dbgraph.actor import COORDINATOR, Envelope
from dbgraph.actors.messages import Lesson, Stowed, Summed
from dbgraph.coordinate.messages import Compute, Computed, Contributed, Flush, Flushed


class Leading:
    """Answers the coordinator when all partitions have done their part."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._forget()

    def _forget(self) -> None:
        self._asked: dict[tuple[int, int], Compute | Lesson] = {}
        self._summed: dict[tuple[int, int], list[float]] = {}
        self._stowed: dict[int, int] = {}
        self._flushes: dict[int, Flush | Lesson] = {}
        self._losses: dict[int, float] = {}

    def asked(self, message: Any) -> None:
        """The coordinator has asked for it."""
        match message:
            case Compute():
                self._asked[message.evaluation, message.portion] = message
            case Lesson():
                self._forget()  # an older one is called off
                self._asked[message.step, 0] = message
                self._flushes[message.sequence] = message
            case Flush():
                self._flushes[message.sequence] = message

    def told(self, message: Summed | Stowed) -> Iterable[Envelope]:
        """A partition has done its part."""
        answer = self._summed_up(message) if isinstance(message, Summed) else self._put(message)
        return [] if answer is None else [Envelope(COORDINATOR, answer)]

    def _summed_up(self, message: Summed) -> Computed | None:
        if message.name not in self._asked:
            return None  # it was called off
        losses = self._summed.setdefault(message.name, [])
        losses.append(message.loss)
        if len(losses) < self._partitions:
            return None
        del self._summed[message.name]
        asked = self._asked.pop(message.name)
        if isinstance(asked, Lesson):
            self._losses[asked.sequence] = sum(losses)
            return None
        return Computed(asked.replica, asked.epoch, *message.name, sum(losses))

    def _put(self, message: Stowed) -> Flushed | Contributed | None:
        sequence = message.sequence
        if sequence not in self._flushes:
            return None  # it was called off
        self._stowed[sequence] = self._stowed.get(sequence, 0) + 1
        if self._stowed[sequence] < self._partitions:
            return None
        del self._stowed[sequence]
        asked = self._flushes.pop(sequence)
        if isinstance(asked, Flush):
            return Flushed(asked.replica, asked.epoch, sequence)
        loss = self._losses.pop(sequence)
        return Contributed(asked.replica, asked.epoch, asked.step, asked.examples, loss)
