"""A trace as a file in Perfetto's format, and back: opens in https://ui.perfetto.dev.

A process of the run is a process there, a lane a thread, an event a slice with its details as
arguments. A flow leads from what was sent to what was received: where a program waits for a
value, to the slice "arrived" in it, which begins with its last byte. What Perfetto has no place
for is in the arguments of the first event, "dbgraph trace".

Schema: Perfetto's `track_event.proto`, from the package `perfetto`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace as PerfettoTrace
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    TracePacket,
    TrackDescriptor,
    TrackEvent,
)

from dbgraph.errors import UsageError
from dbgraph.trace.model import LANES, Clock, Event, PlanMark, Process, Trace, in_order, key_of

VERSION = 1
_HEADER = "dbgraph trace"
_ARRIVED = "arrived"
_SEQUENCE = 1
_FIRST_TRACK = 1
_ARGS = tuple(
    field for field in fields(Event) if field.name not in ("kind", "name", "start_ns", "stop_ns")
)
_DEFAULTS = {field.name: field.default for field in _ARGS}


class _Head(msgspec.Struct, frozen=True):
    """What the first event says.

    Attributes:
        note: for people.
        processes: their names and clocks.
        events: how many there are of each: a file that has fewer is truncated.
    """

    version: int
    note: str
    backend: str
    plans: dict[str, PlanMark]
    processes: list[tuple[str, Clock]]
    events: list[int]
    lost: int
    ended: str


# --- writing ---


def save_trace(trace: Trace, path: str | os.PathLike[str]) -> None:
    """Writes the file whole or not at all; a device or a pipe directly. Raises OSError."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            file.writelines(pieces(trace))
        return
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.writelines(pieces(trace))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def pieces(trace: Trace) -> Iterator[bytes]:
    """The file's bytes, a packet at a time."""
    writing = _Writing(trace)
    for packet in writing.packets():
        yield PerfettoTrace(packet=[packet]).SerializeToString()


class _Writing:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._flows = {key: number for number, key in enumerate(trace.messages, 1)}
        self._interned: dict[str, dict[str, int]] = {}
        self._packet = TracePacket()

    def packets(self) -> Iterator[TracePacket]:
        first = self._new()  # Perfetto passes over what comes before a packet that says this
        first.sequence_flags = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED
        first.track_descriptor.uuid, first.track_descriptor.name = _FIRST_TRACK, "dbgraph"
        yield first
        yield self._head()
        for number, process in enumerate(self._trace.processes, 1):
            yield from self._tracks(number, process)
            for lane in LANES:
                for event in process.events:
                    if event.lane == lane:
                        yield from self._slices(_uuid(number, lane), process.name, event)

    def _head(self) -> TracePacket:
        trace = self._trace
        head = _Head(
            version=VERSION,
            note=trace.note,
            backend=trace.backend,
            plans=dict(trace.plans),
            processes=[(process.name, process.clock) for process in trace.processes],
            events=[len(process.events) for process in trace.processes],
            lost=trace.lost,
            ended=trace.ended,
        )
        packet = self._new()
        event = packet.track_event
        event.type, event.name = TrackEvent.TYPE_INSTANT, _HEADER
        event.track_uuid = _FIRST_TRACK
        for name, value in msgspec.to_builtins(head).items():
            text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            event.debug_annotations.add(name=name, string_value=text)
        return packet

    def _tracks(self, number: int, process: Process) -> Iterator[TracePacket]:
        packet = self._new()
        described = packet.track_descriptor
        described.uuid = _uuid(number, "")
        described.process.pid = number
        described.process.process_name = process.name
        described.process_ordering = TrackDescriptor.PROCESS_ORDERING_EXPLICIT
        yield packet
        held = {event.lane for event in process.events}
        for place, lane in enumerate(LANES):
            if lane in held:
                packet = self._new()
                described = packet.track_descriptor
                described.uuid, described.parent_uuid = _uuid(number, lane), _uuid(number, "")
                described.thread.pid = number
                described.thread.tid = number * len(LANES) + place + 1000
                described.thread.thread_name = lane
                yield packet

    def _slices(self, track: int, process: str, event: Event) -> Iterator[TracePacket]:
        key = key_of(process, event)
        flow = self._flows.get(key) if key is not None else None
        waits = event.kind == "receive"
        yield self._begin(track, event.start_ns, event.kind, event, None if waits else flow)
        if waits and flow is not None:
            arrived = max(event.start_ns, min(event.stop_ns, event.arrived_ns or 0))
            yield self._begin(track, arrived, _ARRIVED, None, flow)
            yield self._end(track, event.stop_ns)
        yield self._end(track, event.stop_ns)

    def _begin(
        self, track: int, at_ns: int, category: str, event: Event | None, flow: int | None
    ) -> TracePacket:
        packet = self._packet = self._new(at_ns)
        begun = packet.track_event
        begun.type, begun.track_uuid = TrackEvent.TYPE_SLICE_BEGIN, track
        begun.name_iid = self._intern("event_names", event.name if event else _ARRIVED)
        begun.category_iids.append(self._intern("event_categories", category))
        if flow is not None:
            sends = category in ("send", "post")
            (begun.flow_ids if sends else begun.terminating_flow_ids).append(flow)
        if event is not None:
            self._arguments(begun, event)
        return packet

    def _arguments(self, begun: Any, event: Event) -> None:
        for name, default in _DEFAULTS.items():
            value = getattr(event, name)
            if value == default:
                continue
            argument = begun.debug_annotations.add(
                name_iid=self._intern("debug_annotation_names", name)
            )
            if isinstance(value, str):
                kind = "debug_annotation_string_values"
                argument.string_value_iid = self._intern(kind, value)
            else:
                argument.int_value = value

    def _end(self, track: int, at_ns: int) -> TracePacket:
        packet = self._new(at_ns)
        packet.track_event.type = TrackEvent.TYPE_SLICE_END
        packet.track_event.track_uuid = track
        return packet

    def _new(self, at_ns: int = 0) -> TracePacket:
        packet = TracePacket(timestamp=at_ns, trusted_packet_sequence_id=_SEQUENCE)
        packet.sequence_flags = TracePacket.SEQ_NEEDS_INCREMENTAL_STATE
        return packet

    def _intern(self, kind: str, text: str) -> int:
        """A text's number; the first packet that needs it says what it stands for."""
        known = self._interned.setdefault(kind, {})
        if text not in known:
            known[text] = len(known) + 1
            entry = getattr(self._packet.interned_data, kind).add(iid=known[text])
            if kind == "debug_annotation_string_values":
                entry.str = text.encode()
            else:
                entry.name = text
        return known[text]


def _uuid(process: int, lane: str) -> int:
    """Of a process's track, or of one of its lanes."""
    return process * 16 + (LANES.index(lane) + 1 if lane else 0)


# --- reading ---


def open_trace(path: str | os.PathLike[str]) -> Trace:
    """Raises UsageError for a file that is no trace of dbgraph's, or not all of one."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"can't read {os.fspath(path)!r}: {error.strerror or error}") from None
    try:
        return parse_trace(data)
    except UsageError as error:
        raise UsageError(f"{os.fspath(path)}: {error.rule}", hint=error.hint) from None


def parse_trace(data: bytes) -> Trace:
    """The inverse of `pieces`. Raises UsageError."""
    if not data:
        raise _not_whole("it is no trace: it is empty")
    try:
        packets = PerfettoTrace.FromString(data).packet
    except DecodeError:
        raise _not_whole("it is no Perfetto trace, or its end is missing") from None
    if len(packets) < 2 or packets[1].track_event.name != _HEADER:
        raise _not_whole("it is no trace of dbgraph's")
    head = _head(packets[1].track_event.debug_annotations)
    events = _Reading(packets, len(head.processes)).events
    for (name, _), found, expected in zip(head.processes, events, head.events, strict=True):
        if len(found) != expected:
            raise _not_whole(f"it is truncated: {len(found):,} of {expected:,} events of {name}")
    return Trace(
        backend=head.backend,
        plans=head.plans,
        processes=tuple(
            Process(name, clock, in_order(found))
            for (name, clock), found in zip(head.processes, events, strict=True)
        ),
        lost=head.lost,
        ended=head.ended,
    )


def _head(arguments: Any) -> _Head:
    found: dict[str, Any] = {argument.name: argument.string_value for argument in arguments}
    try:
        if found.get("version") != str(VERSION):
            raise _not_whole(
                f"it is of version {found.get('version', '?')}, this dbgraph reads {VERSION}"
            )
        for name in ("version", "plans", "processes", "events", "lost"):
            found[name] = msgspec.json.decode(found[name])
        return msgspec.convert(found, _Head)
    except (msgspec.MsgspecError, KeyError) as error:
        raise _not_whole(f"its first event is damaged: {error}") from None


class _Reading:
    """Attributes:
    events: of each process.
    """

    def __init__(self, packets: Any, processes: int) -> None:
        self.events: list[list[Event]] = [[] for _ in range(processes)]
        self._texts: dict[str, dict[int, str]] = {}
        self._open: dict[int, list[dict[str, Any] | None]] = {}
        for packet in packets:
            self._learn(packet.interned_data)
            self._take(packet.timestamp, packet.track_event)

    def _learn(self, data: Any) -> None:
        for kind, entries in data.ListFields():
            known = self._texts.setdefault(kind.name, {})
            for entry in entries:
                text = entry.str.decode() if hasattr(entry, "str") else entry.name
                known[entry.iid] = text

    def _take(self, at_ns: int, event: Any) -> None:
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            begun = self._open.setdefault(event.track_uuid, [])
            begun.append(self._begun(at_ns, event))
        elif event.type == TrackEvent.TYPE_SLICE_END:
            begun = self._open.get(event.track_uuid, [])
            if not begun:
                raise _not_whole("it is damaged: something ends that has not begun")
            if (values := begun.pop()) is not None:
                self._events_of(event.track_uuid).append(Event(stop_ns=at_ns, **values))

    def _begun(self, at_ns: int, event: Any) -> dict[str, Any] | None:
        """The event's values but its end; None for what only Perfetto needs."""
        category = self._text("event_categories", next(iter(event.category_iids), 0))
        if category == _ARRIVED:
            return None
        values: dict[str, Any] = {"kind": category, "start_ns": at_ns}
        values["name"] = self._text("event_names", event.name_iid)
        for argument in event.debug_annotations:
            name = self._text("debug_annotation_names", argument.name_iid)
            if name in _DEFAULTS:
                values[name] = self._value(argument)
        return values

    def _value(self, argument: Any) -> int | str:
        if argument.HasField("int_value"):
            return int(argument.int_value)
        return self._text("debug_annotation_string_values", argument.string_value_iid)

    def _text(self, kind: str, number: int) -> str:
        try:
            return self._texts[kind][number]
        except KeyError:
            raise _not_whole("it is damaged: a name is missing") from None

    def _events_of(self, track: int) -> list[Event]:
        process = track // 16 - 1
        if not 0 <= process < len(self.events):
            raise _not_whole(f"it is damaged: there is no process {process}")
        return self.events[process]


def _not_whole(rule: str) -> UsageError:
    return UsageError(rule, hint="write one with: dbgraph train … --trace run.pftrace")
