"""A recorded run as a timeline, in the same model as a simulated step."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.show.tracks import Arrow, Block, Timeline, Track
from dbgraph.trace.model import Event, Key, Process, Trace, key_of
from dbgraph.trace.words import partition_of
from dbgraph.units import seconds

MOST_EVENTS = 20_000
_KINDS = {
    "run": "compute",
    "work": "compute",
    "update": "update",
    "send": "send",
    "post": "send",
    "receive": "receive",
    "handle": "receive",
    "order": "orders",
}
_HANDLED = {"shard": "server", "coordinator": "orders", "driver": "orders"}


def timeline(trace: Trace, most: int = MOST_EVENTS) -> Timeline:
    """Its tracks are the lanes of the processes. What a partition waits for is a block "wait"
    until its last byte has arrived, and one of kind "receive" after that.

    Where the driver orders steps, what it and the partitions say to each other for that is left
    out: its blocks "orders" show it.

    Args:
        most: of more events the last ones are shown, from the beginning of a step on.
    """
    begin_ns = _begin(trace, most)
    making = _Making(trace, begin_ns)
    note = trace.note
    if begin_ns:
        end_ns = max(event.stop_ns for _, event in trace)
        shown, whole = seconds((end_ns - begin_ns) * 1e-9), seconds(end_ns * 1e-9)
        note = f"the last {shown} of {whole}; {note}"
    plans = dict.fromkeys(mark.name for mark in trace.plans.values())
    title = f"{', '.join(plans)}: a run on {trace.backend}"
    tracks, blocks, arrows = making.tracks, making.blocks, making.arrows()
    return Timeline(title, tuple(tracks), tuple(blocks), arrows, note)


@dataclass(frozen=True, slots=True)
class _Ends:
    """The blocks of a message's two ends."""

    sent: dict[Key, int]
    received: dict[Key, int]


class _Making:
    def __init__(self, trace: Trace, begin_ns: int) -> None:
        self._begin_ns = begin_ns
        self._ends = _Ends({}, {})
        self.tracks: list[Track] = []
        self.blocks: list[Block] = []
        ordered = any(event.kind == "order" for _, event in trace)
        for process in trace.processes:
            for lane in ("program", "orders") if ordered else ("program", "messages"):
                self._add_lane(process, lane)

    def _add_lane(self, process: Process, lane: str) -> None:
        events = [event for event in process.events if event.lane == lane]
        shown = [event for event in events if event.start_ns >= self._begin_ns]
        if not events:
            return
        has_program = any(event.lane == "program" for event in process.events)
        name = f"{process.name}: messages" if lane == "messages" and has_program else process.name
        self.tracks.append(Track(name, _group(process.name), partition_of(process.name)))
        for event in shown:
            self._add(process.name, event)

    def _add(self, process: str, event: Event) -> None:
        start_ns = event.start_ns
        if event.kind == "receive":
            came_ns = event.stop_ns if event.arrived_ns is None else event.arrived_ns
            came_ns = min(max(came_ns, start_ns), event.stop_ns)
            if came_ns > start_ns:
                self._block(event, "wait", start_ns, came_ns)
            start_ns = came_ns
        kind = _KINDS[event.kind]
        if event.kind == "handle":
            kind = _HANDLED.get(process.split()[0], kind)
        if (key := key_of(process, event)) is not None:
            ends = self._ends.sent if event.kind in ("send", "post") else self._ends.received
            ends[key] = len(self.blocks)
        self._block(event, kind, start_ns, event.stop_ns)

    def _block(self, event: Event, kind: str, start_ns: int, stop_ns: int) -> None:
        self.blocks.append(
            Block(
                track=len(self.tracks) - 1,
                kind=kind,
                start_s=(start_ns - self._begin_ns) * 1e-9,
                stop_s=(stop_ns - self._begin_ns) * 1e-9,
                name=_name(event),
                about=event.layers,
                bytes=event.size_bytes if kind in ("send", "receive") else 0,
            )
        )

    def arrows(self) -> tuple[Arrow, ...]:
        sent, received = self._ends.sent, self._ends.received
        return tuple(Arrow(at, received[key]) for key, at in sent.items() if key in received)


def _begin(trace: Trace, most: int) -> int:
    """From when on there are at most so many events: the beginning of an order, or of a run."""
    starts = sorted(event.start_ns for _, event in trace)
    if len(starts) <= most:
        return 0
    from_ns = starts[-most]
    begins: dict[tuple[str, int], int] = {}
    for process, event in trace:
        if event.run:
            group = process.name.rpartition("partition")[0]
            key = ("" if event.kind == "order" else group, event.run)
            begins[key] = min(begins.get(key, event.start_ns), event.start_ns)
    return min((at for at in begins.values() if at >= from_ns), default=from_ns)


def _group(process: str) -> str:
    """`replica 1` of its partitions, `parameter server` of shards."""
    if process.startswith("shard"):
        return "parameter server"
    return process.rpartition(", partition")[0]


def _name(event: Event) -> str:
    if event.kind == "order":
        return f"step {event.step} of {event.plan}"
    of = f" from {event.peer}" if event.kind == "handle" else ""
    to = f" to {event.peer}" if event.kind == "post" else ""
    microbatch = f", microbatch {event.microbatch}" if event.microbatch else ""
    step = f", step {event.step}" if event.step >= 0 else ""
    return f"{event.name}{of}{to}{microbatch}{step}"
