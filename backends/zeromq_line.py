"""One peer as a process sees it: the pure channel, and the PUSH socket that carries it.

Used by the main thread, which sends, and by the I/O thread, which receives and acknowledges; one
lock per line. ZeroMQ allows a socket to change threads over a full fence, which the lock is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import zmq

from dbgraph.wire import Channel, Parcel, WireError
from dbgraph.wire.codec import Envelope
from dbgraph.wire.connection import Phase
from dbgraph.wire.messages import Any, Heartbeat

_RETRY_S = 0.005
_ZERO_COPY_BYTES = 1 << 16


class Line:
    """A channel and the socket that it sends on.

    Attributes:
        blocked: the socket took no more, or is not connected; to be tried again soon.
        beat, beat_at: the peer's last heartbeat, and when it came.
    """

    def __init__(self, channel: Channel, outlet: zmq.Socket[bytes], now: float) -> None:
        self.channel = channel
        self.outlet = outlet
        self.lock = threading.Lock()
        self.blocked = False
        self.beat = Heartbeat()
        self.beat_at = now

    # --- sending ---

    def send(self, message: Any, arrays: Sequence[np.ndarray] = ()) -> None:
        """Queues a message and sends what can be sent at once. Never waits."""
        prepared = self.channel.prepare(message, arrays)
        with self.lock:
            self.channel.queue(prepared)
        self.flush()

    def flush(self) -> None:
        """Puts on the line what may be sent; the lock is free between two frames."""
        while True:
            with self.lock:
                frames = self.channel.next_frames()
                if frames is None:
                    self.blocked = False
                    return
                if not self._put(*frames):
                    return
                self.channel.sent(time.monotonic())

    def tell(self, message: Any) -> None:
        """Sends a message that is not sequenced, or drops it."""
        with self.lock:
            self._put(self.channel.unsequenced(message))

    def _put(self, header: bytes, payload: memoryview | None = None) -> bool:
        """Whether the socket took it; the lock is held."""
        if self.outlet.closed:
            return False
        try:
            if payload is None:
                self.outlet.send(header, zmq.NOBLOCK)
            else:
                self.outlet.send(header, zmq.NOBLOCK | zmq.SNDMORE)
                self.outlet.send(payload, 0, payload.nbytes < _ZERO_COPY_BYTES)
        except zmq.Again:
            self.blocked = True
            return False
        return True

    @property
    def pending(self) -> bool:
        """Whether the peer lives and lacks something that was sent."""
        connection = self.channel.connection
        return self.open and not connection.idle

    @property
    def open(self) -> bool:
        """Whether the peer has not been given up."""
        return self.channel.connection.phase in (Phase.NEW, Phase.OPEN)

    # --- receiving ---

    def slot(self, envelope: Envelope) -> memoryview | None:
        """Where a header's payload belongs. Raises WireError; asks again where it should."""
        with self.lock:
            now = time.monotonic()
            try:
                return self.channel.open_header(envelope, now)
            except WireError:
                self._answer(now)
                raise

    def filled(self, envelope: Envelope, data: memoryview | None) -> Parcel | None:
        """Takes the payload; the parcel when it is whole. Raises WireError."""
        with self.lock:
            now = time.monotonic()
            try:
                return self.channel.close_payload(envelope, data, now)
            finally:
                self._answer(now)

    def _answer(self, now: float) -> None:
        ack = self.channel.ack(now)
        if ack is not None and not self._put(ack):
            self.channel.ack_failed(now)

    def ask_again(self) -> None:
        """The peer's first frames came before this line was there."""
        with self.lock:
            self.channel.connection.missing(time.monotonic())

    # --- time ---

    def tick(self, beat: Heartbeat | None, now: float) -> None:
        """What is due by time; and a heartbeat, if it is time for one."""
        with self.lock:
            self.channel.connection.tick(now)
            self._answer(now)
            if beat is not None:
                self._put(self.channel.unsequenced(beat))
        self.flush()

    def due(self, now: float) -> float:
        """When `tick` should be called again."""
        when = self.channel.connection.deadline()
        return min(when, now + _RETRY_S) if self.blocked else when

    def excuse(self, seconds: float) -> None:
        """This process stood still for so long: the peer is not to blame."""
        with self.lock:
            self.channel.connection.excuse(seconds)
            self.beat_at += seconds

    def silent_s(self, now: float) -> float:
        """For how long nothing came, where that is too long; else 0."""
        connection = self.channel.connection
        return now - connection.last_heard if self.open and connection.silent(now) else 0.0

    def give_up(self) -> bool:
        """Takes nothing from the peer any more; False where it was given up before."""
        with self.lock:
            was_open = self.open
            self.channel.give_up()
            self.outlet.close(linger=0)  # another process may get the port
        return was_open
