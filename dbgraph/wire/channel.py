"""One pair of processes: connection, codec and parcels joined. Bytes in, bytes out; no I/O.

The caller moves the frames: `next_frames` says what to put on the line, `open_header` checks a
header and names the memory for its payload, `close_payload` checks what arrived there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dbgraph.wire import codec
from dbgraph.wire.codec import ArraySpec, Envelope, Refusal, WireError
from dbgraph.wire.connection import Connection, Event, Limits
from dbgraph.wire.memory import Memory
from dbgraph.wire.messages import UNSEQUENCED, Ack, Any
from dbgraph.wire.parcel import Assembly, Parcel, Piece, not_shared, pieces, spec_of


@dataclass(frozen=True, slots=True)
class Process:
    """Who speaks: a process of a job, in one of its incarnations."""

    job: bytes
    number: int
    epoch: int


Frames = tuple[bytes, memoryview | None]


class Channel:
    """What one process knows of its line to another.

    Args:
        memory: that both share; None where they don't.
    """

    def __init__(
        self,
        me: Process,
        peer: Process,
        now: float,
        limits: Limits | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.me = me
        self.peer = peer
        self.connection: Connection[Piece] = Connection(peer.epoch, now, limits)
        self._memory = memory
        self._assembly = Assembly(self._take)
        self._asked = False

    # --- sending ---

    def post(self, message: Any, arrays: Sequence[np.ndarray] = ()) -> None:
        """Queues a message; the arrays must not change until the peer has them."""
        self.queue(self.prepare(message, arrays))

    def prepare(self, message: Any, arrays: Sequence[np.ndarray] = ()) -> Iterable[Piece]:
        """The first half of `post`, which may take long and changes nothing of the channel."""
        if self._memory is not None and arrays and not self.connection.ended:
            specs = tuple(spec_of(array) for array in arrays)
            area = self._memory.put(self.peer.number, specs, arrays)
            if area is not None:
                return (Piece(message, specs, area=area),)
        return pieces(message, arrays)

    def queue(self, prepared: Iterable[Piece]) -> None:
        """The second half of `post`."""
        for piece in prepared:
            self.connection.put(piece, piece.size_bytes)

    def give_up(self) -> None:
        """Takes nothing from the peer any more, and sends it nothing."""
        self.connection.happen(Event.SILENT)
        if self._memory is not None:
            self._memory.forget(self.peer.number)

    def next_frames(self) -> Frames | None:
        """The header and payload to be sent next; `sent` after they are on the line."""
        found = self.connection.peek()
        if found is None:
            return None
        number, piece = found
        return self._encode(piece, number), piece.data

    def sent(self, now: float) -> None:
        self.connection.sent(now)
        self.connection.piggybacked()

    def unsequenced(self, message: Any) -> bytes:
        """A heartbeat's header; it may be lost."""
        return self._encode(Piece(message), 0)

    def ack(self, now: float) -> bytes | None:
        """An acknowledgement, where one is due."""
        if not self.connection.ack_due(now):
            return None
        self._asked = self.connection.ack_sent()
        return self._encode(Piece(Ack(self._asked)), 0)

    def ack_failed(self, now: float) -> None:
        """What `ack` gave last could not be put on the line."""
        self.connection.ack_failed(self._asked, now)

    def _encode(self, piece: Piece, number: int) -> bytes:
        return codec.encode(
            Envelope(
                job=self.me.job,
                sender=self.me.number,
                to=self.peer.number,
                epoch=self.me.epoch,
                sequence=number,
                ack=self.connection.received,
                message=piece.message,
                arrays=piece.arrays,
                payload=None if piece.data is None else codec.seal(piece.data),
                area=piece.area,
            )
        )

    # --- receiving ---

    def open_header(self, envelope: Envelope, now: float) -> memoryview | None:
        """Takes a header; returns where its payload belongs. Raises WireError."""
        self._addressed(envelope)
        try:
            self.connection.judge(envelope.epoch, envelope.sequence)
        except WireError as error:
            if error.reason in (Refusal.DUPLICATE, Refusal.GAP):
                self._heard(envelope, now)
            if error.reason is Refusal.DUPLICATE:
                self.connection.repeated(now)
            elif error.reason is Refusal.GAP:
                self.connection.missing(now)
            raise
        if (envelope.sequence == 0) != isinstance(envelope.message, UNSEQUENCED):
            raise WireError(Refusal.MALFORMED, "a number where none belongs, or none")
        slot = self._assembly.slot(envelope) if envelope.sequence else None
        self._heard(envelope, now)
        return slot

    def close_payload(
        self, envelope: Envelope, data: memoryview | None, now: float
    ) -> Parcel | None:
        """Takes the payload that lies in the slot; returns the parcel when it is whole.

        Raises WireError, and asks the peer again, where the payload is not what it should be.
        """
        if not envelope.sequence:
            return Parcel(envelope.message)
        if envelope.payload is not None:
            try:
                codec.check(envelope.payload, data if data is not None else memoryview(b""))
            except WireError:
                self.connection.missing(now)
                raise
        parcel = self._assembly.filled()
        self.connection.accept(envelope.payload.length if envelope.payload else 0, now)
        return parcel

    def _take(self, area: int, specs: Sequence[ArraySpec]) -> list[np.ndarray]:
        if self._memory is None:
            return not_shared(area, specs)
        return self._memory.take(self.peer.number, self.peer.epoch, area, specs)

    def _addressed(self, envelope: Envelope) -> None:
        if envelope.job != self.me.job:
            raise WireError(Refusal.JOB)
        if envelope.to != self.me.number:
            raise WireError(Refusal.ADDRESSEE, str(envelope.to))
        if envelope.sender != self.peer.number:
            raise WireError(Refusal.SENDER, str(envelope.sender))

    def _heard(self, envelope: Envelope, now: float) -> None:
        self.connection.heard(now)
        message = envelope.message
        gap = isinstance(message, Ack) and message.gap
        self.connection.acknowledged(envelope.ack, gap, now)
