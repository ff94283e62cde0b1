"""Small actors for the tests of the theatres, and a coordinator that follows a script.

Found by name in other processes too: this folder is on the path.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from dbgraph.actor import COORDINATOR, Actor, Address, Arrays, Envelope
from dbgraph.errors import DataError
from dbgraph.wire.messages import Message


class Say(Message, frozen=True):
    """A number, and what to do with it."""

    number: int
    text: str = ""


class Heard(Message, frozen=True):
    """Who was heard, or lost."""

    number: int
    partition: int
    text: str


SHARD, OTHER = Address("shard", 0), Address("shard", 1)


class Still:
    """An actor that does nothing; the base of the others."""

    is_over = False
    deadline: float | None = None

    def __init__(self, me: Address) -> None:
        self.me = me

    def start(self, now: float) -> Iterable[Envelope]:
        return ()

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        return ()

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        return ()

    def work(self) -> Iterable[Envelope] | None:
        return None

    def tick(self, now: float) -> Iterable[Envelope]:
        return ()


class Echo(Still):
    """Sends all back to who said it; tells the coordinator who is lost."""

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        yield Envelope(sender, message, arrays)

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        yield Envelope(COORDINATOR, Heard(peer.number, peer.partition, "lost"))


class Sum(Echo):
    """Adds up what it gets; says so to the coordinator, with the numbers in their order."""

    def __init__(self, me: Address) -> None:
        super().__init__(me)
        self.total = 0.0
        self.of: dict[Address, list[int]] = {}

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        assert all(a.ctypes.data % 64 == 0 for a in arrays)
        numbers = self.of.setdefault(sender, [])
        numbers.append(message.number)
        assert numbers == list(range(len(numbers))), "in order, exactly once"
        self.total += sum(float(a.sum()) for a in arrays)
        if message.text == "report":
            said = Heard(sender.number, sender.partition, str(len(numbers)))
            yield Envelope(COORDINATOR, said, (np.array(self.total),))


class Stream(Still):
    """Sends numbers to the shard for ever, one a piece of work; and then what it is told."""

    def __init__(self, me: Address) -> None:
        super().__init__(me)
        self.next = 0

    def start(self, now: float) -> Iterable[Envelope]:
        yield Envelope(COORDINATOR, Heard(self.me.number, self.me.partition, str(os.getpid())))

    def work(self) -> Iterable[Envelope]:
        time.sleep(0.001)
        self.next += 1
        yield Envelope(SHARD, Say(self.next - 1, "report"), (np.ones(10),))

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        yield Envelope(COORDINATOR, Heard(peer.number, peer.partition, "lost"))

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        self.is_over = message.text == "end"
        yield Envelope(COORDINATOR, Say(self.next, "ended"))


class Sender(Still):
    """Sends large arrays to the shard of its partition, and is over."""

    def start(self, now: float) -> Iterable[Envelope]:
        to = Address("shard", self.me.partition)
        for number in range(5):
            array = np.full(5_000_000, number + self.me.number, np.float64)  # 40 MB
            yield Envelope(to, Say(number, "report" if number == 4 else ""), (array,))
        self.is_over = True


class Moody(Still):
    """Does what it is told: to fail in many ways."""

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        match message.text:
            case "raise":
                raise ZeroDivisionError("one by nought")
            case "raise ours":
                raise DataError("bad data", hint="look")
            case "exit":
                os._exit(7)
            case "compute":
                end = time.monotonic() + message.number
                while time.monotonic() < end:
                    sum(range(10_000))  # holds the interpreter's lock most of the time
            case "sleep":
                time.sleep(message.number)
        yield Envelope(COORDINATOR, Say(message.number, "done"))


class Picky(Still):
    """Can't be made where its number is 1."""

    def __init__(self, me: Address) -> None:
        super().__init__(me)
        if me.number == 1:
            raise DataError("no data")


KINDS = {kind.__name__: kind for kind in (Still, Echo, Sum, Stream, Sender, Moody, Picky)}


@dataclass(frozen=True)
class Make:
    """Makes actors by the names of their classes."""

    shard: str = "Echo"
    replica: str = "Still"

    def __call__(self, address: Address) -> Actor:
        kind = self.shard if address.kind == "shard" else self.replica
        return KINDS[kind](address)


@dataclass
class Script:
    """A coordinator: remembers all that happens, and asks `react` what to say to it.

    Attributes:
        react: called with this after everything that happens; ends the run by `is_over`.
        within_s: the test fails where the run takes longer.
    """

    react: Callable[[Script], Iterable[Envelope] | None]
    first: list[Envelope] = field(default_factory=list)
    within_s: float = 120.0
    heard: list[tuple[Address, msgspec.Struct, Arrays]] = field(default_factory=list)
    gone: list[Address] = field(default_factory=list)
    is_over: bool = False
    deadline: float | None = None
    ends: float = 0.0

    def start(self, now: float) -> Iterable[Envelope]:
        self.ends = now + self.within_s
        self.deadline = now + 0.05
        return self.first

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        self.heard.append((sender, message, arrays))
        return self.react(self) or ()

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        self.gone.append(peer)
        return self.react(self) or ()

    def work(self) -> None:
        return None

    def tick(self, now: float) -> Iterable[Envelope]:
        assert now < self.ends, f"heard {len(self.heard)}, lost {self.gone}"
        self.deadline = now + 0.05
        return self.react(self) or ()

    def texts(self, sender: Address | None = None) -> list[str]:
        """What was said, by one or by all."""
        return [m.text for who, m, _ in self.heard if sender in (None, who)]  # type: ignore[attr-defined]
