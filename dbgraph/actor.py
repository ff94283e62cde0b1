"""What a training run with a parameter server is made of: actors that get messages and send some.

A coordinator, shards, and the partitions of the replicas. An actor is pure but for its
computing: no sockets, no threads, no clock. A backend runs each in a thread (`local`) or in a
process (`zmq`), brings it its messages, each pair's in order and exactly once, and says when a
peer is lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from dbgraph.trace.events import Recorder
from dbgraph.wire.messages import Message

Arrays = tuple[np.ndarray, ...]
NUMBERED = ("shard", "evaluator")


class Address(NamedTuple):
    """Who: `coordinator`, `shard` number, `replica` number and partition, `evaluator` number, or
    `theatre`, which runs them all."""

    kind: str
    number: int = 0
    partition: int = 0

    def __str__(self) -> str:
        if self.kind == "replica":
            return f"replica {self.number}, partition {self.partition}"
        return f"{self.kind} {self.number}" if self.kind in NUMBERED else self.kind


COORDINATOR = Address("coordinator")
THEATRE = Address("theatre")


class Hire(Message, frozen=True):
    """To the theatre: start all partitions of one more replica, of this number."""

    replica: int


class Envelope(NamedTuple):
    """Please send this.

    Attributes:
        message: a msgspec struct; what can be said without tensors.
        arrays: its tensors. Who sends them changes them no more.
    """

    to: Address
    message: Any
    arrays: Arrays = ()


class Actor(Protocol):
    """Its backend calls these methods from one thread, one at a time."""

    def start(self, now: float) -> Iterable[Envelope]:
        """Called once, first. `now` is in seconds on a clock that only goes forward."""

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        """A message came."""

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        """A peer gives no sign of life any more; what it sends later is dropped."""

    def work(self) -> Iterable[Envelope] | None:
        """One piece of computing, such as a segment of a program; None: there is none to do.

        Called when no message waits, so that messages are read between the pieces.
        """

    def tick(self, now: float) -> Iterable[Envelope]:
        """The deadline has passed."""

    @property
    def deadline(self) -> float | None:
        """When to call `tick`; None: never."""

    @property
    def is_over(self) -> bool:
        """Whether it has nothing more to do, ever."""


class Awaited(NamedTuple):
    """What an actor waits for.

    Attributes:
        what: "hidden3→hidden4, microbatch 0, from partition 1".
        of: who is to send it, where that is known; their names are read.
        transfer, microbatch: of a value of the plan.
        since: when that wait began, on the clock of `time.monotonic`; None: when the actor did
            something last.
    """

    what: str
    of: tuple[object, ...] = ()
    transfer: int | None = None
    microbatch: int | None = None
    since: float | None = None


MESSAGES = Awaited("messages")


@runtime_checkable
class Waits(Protocol):
    """An actor that can say what it waits for."""

    @property
    def awaits(self) -> Awaited:
        """Asked when there is nothing to do until something comes."""


@runtime_checkable
class Recordable(Protocol):
    """An actor that runs a program, and can note its instructions."""

    def record(self, recorder: Recorder) -> None:
        """From now on."""


def awaited(actor: Actor) -> Awaited:
    """What an actor waits for, as far as it says."""
    return actor.awaits if isinstance(actor, Waits) else MESSAGES
