"""A trace: what all processes of a run did, on the driver's clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from dbgraph.trace.events import PROGRAM

LANES = ("program", "messages", "orders")
"""Of a process; what stands on one of them does not overlap."""

Key = tuple[str, str, bool, int, int, int]
"""(from, to, of a program, run, number, microbatch): what a message's two ends have alike."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a process did.

    Attributes:
        kind: one of `events.KINDS`.
        name: what people read, such as "hidden1, hidden2".
        start_ns, stop_ns: from the beginning of the trace, on the driver's clock.
        arrived_ns: when the last byte of what was received, or dealt with, was there; None where
            nothing arrived.
        plan: the name in the job of the plan whose program it belongs to; "" for none.
        run: which run of that program, alike on all partitions; 0 for none.
        step: of the training; -1 where it is not known.
        number: the segment, the transfer, or the message's number between these two processes.
        peer: the process that it was sent to, or came from.
        size_bytes: of what was sent or received.
        layers, ops: of a segment, or of a value that crosses.
        source: the user's line that declared the first of them.
    """

    kind: str
    name: str
    start_ns: int
    stop_ns: int
    arrived_ns: int | None = None
    plan: str = ""
    run: int = 0
    step: int = -1
    number: int = 0
    microbatch: int = 0
    peer: str = ""
    size_bytes: int = 0
    layers: str = ""
    ops: str = ""
    source: str = ""

    @property
    def lane(self) -> str:
        if self.kind in PROGRAM:
            return "program"
        return "orders" if self.kind == "order" else "messages"

    @property
    def seconds(self) -> float:
        return (self.stop_ns - self.start_ns) * 1e-9


@dataclass(frozen=True, slots=True)
class Clock:
    """How a process's clock was aligned to the driver's, in nanoseconds.

    Attributes:
        ahead_ns, error_ns: what was estimated, and how wrong it is at most: of the best exchange.
        uncertainty_ns: how wrong times in the trace are at most; -1: not known.
        drift: seconds that it gains in a second.
        samples: exchanges; 0 for the driver's own clock.
        shared: whether it was taken as the driver's own, since it may be.
    """

    ahead_ns: int = 0
    error_ns: int = 0
    uncertainty_ns: int = 0
    drift: float = 0.0
    samples: int = 0
    shared: bool = True


@dataclass(frozen=True)
class Process:
    """Attributes:
    name: "driver", "partition 3", "replica 1, partition 0", "shard 2", …
    events: in order of their starts.
    """

    name: str
    clock: Clock = Clock()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanMark:
    """What plan was run.

    Attributes:
        name: of the network.
        fingerprint: of the network.
        digest: of the plan's programs.
    """

    name: str
    fingerprint: str
    mode: str
    partitions: int
    digest: str


@dataclass(frozen=True)
class Trace:
    """Attributes:
    backend: which ran it.
    plans: by their names in the job.
    lost: events that were dropped at the beginning, for lack of room; with them, whole steps.
    ended: why the run ended before its time; "" where it did not.
    """

    backend: str
    plans: Mapping[str, PlanMark]
    processes: tuple[Process, ...]
    lost: int = 0
    ended: str = ""

    def __iter__(self) -> Iterator[tuple[Process, Event]]:
        for process in self.processes:
            for event in process.events:
                yield process, event

    @cached_property
    def messages(self) -> Mapping[Key, tuple[Event, Event]]:
        """What was sent with what was received of it; what is in the trace on one side only is
        left out."""
        sent: dict[Key, Event] = {}
        received: dict[Key, Event] = {}
        for process, event in self:
            if (key := key_of(process.name, event)) is not None:
                (sent if event.kind in ("send", "post") else received)[key] = event
        return {key: (event, received[key]) for key, event in sent.items() if key in received}

    @property
    def note(self) -> str:
        """How sure its times are, and what is missing."""
        said = [_clocks(self.processes)]
        if self.lost:
            said.append(f"the oldest {self.lost:,} events were dropped, and the steps they were of")
        if self.ended:
            said.append(f"the run ended early: {self.ended}")
        return "; ".join(said)


@dataclass(frozen=True)
class Words:
    """What a part of a program is called."""

    name: str = ""
    layers: str = ""
    ops: str = ""
    source: str = ""
    peer: str = ""
    size_bytes: int = 0


def in_order(events: Iterable[Event]) -> tuple[Event, ...]:
    """By their starts; those that start at once, lane by lane, as they came."""
    return tuple(sorted(events, key=lambda event: (event.start_ns, LANES.index(event.lane))))


def key_of(process: str, event: Event) -> Key | None:
    """What an end of a message has alike with its other end; None for other events."""
    if event.kind not in ("send", "post", "receive", "handle"):
        return None
    ends = process, event.peer
    source, to = ends if event.kind in ("send", "post") else ends[::-1]
    program = event.kind in PROGRAM
    return source, to, program, event.run, event.number, event.microbatch


def _clocks(processes: tuple[Process, ...]) -> str:
    others = [p for p in processes if p.clock.samples]
    unknown = [p.name for p in processes if p.clock.uncertainty_ns < 0]
    if not others and not unknown:
        return "all on one clock"
    said = []
    if others:
        worst = max(p.clock.uncertainty_ns for p in others)
        how = "one host's clock" if all(p.clock.shared for p in others) else "clocks aligned"
        said.append(f"{how}, times right within {worst / 1e3:,.0f} µs of the driver's")
    if unknown:
        said.append(f"the clock of {', '.join(unknown)} was not compared")
    return "; ".join(said)
