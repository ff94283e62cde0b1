"""One process's link to the others: its sockets, its I/O thread, its clock.

Each process has one PULL socket, bound to its one declared port, on which it receives from
everybody, and one PUSH socket per peer on which it sends. Against ROUTER and DEALER this saves
the identity frame that nobody needs (the checksummed header names the sender), and a slow peer
holds up nobody else: a full PUSH says so (`zmq.Again`) and never drops. What is lost with a
broken TCP connection is sent again by `wire.Connection`.

Threads: the PULL socket belongs to the I/O thread alone. A PUSH socket is used, under its line's
lock, by whoever has something to send, so that a small message costs no hop to another thread.
The I/O thread acknowledges, sends heartbeats and goes back while the main thread computes.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from math import ceil
from queue import Empty, SimpleQueue

import numpy as np
import zmq

from dbgraph.backends.keys import KeyPair
from dbgraph.backends.zeromq_clock import Comparing, answer
from dbgraph.backends.zeromq_events import Arrived, Broken, Happening, Lost
from dbgraph.backends.zeromq_gate import Gate
from dbgraph.backends.zeromq_line import Line
from dbgraph.backends.zeromq_memory import SharedMemory
from dbgraph.backends.zeromq_sockets import make_inlet, make_outlet
from dbgraph.errors import UsageError
from dbgraph.wire import Channel, Parcel, Process, Refusal, WireError, codec
from dbgraph.wire.codec import Envelope
from dbgraph.wire.connection import Limits
from dbgraph.wire.messages import (
    DRIVER,
    Ack,
    Any,
    Assign,
    Enter,
    Gone,
    Heartbeat,
    Ping,
    Pong,
    Recorded,
)

_LONGEST_SLEEP_S = 0.2
_BURST = 64  # messages taken before timers are looked at again


class Link:
    """Sockets, I/O thread and connections of one process.

    Args:
        key: the job's.
        bind: where to listen, `tcp://127.0.0.1:*`; `endpoint` is what became of it.
        me: who this process is; None for a worker, which learns it from the first `Assign`.
        job: a worker that knows its job takes an `Assign` of that one only.
        memory: the folder of the memory that the job's processes share; "" where they don't.
        beat: makes the heartbeats that are sent each `heartbeat_s`.
        on_lost: called in the I/O thread when a peer is given up.

    Attributes:
        clocks: how those that `compare_clocks` has asked answered.
        on_notes: called in the I/O thread with what a peer has noted for a trace.
    """

    def __init__(
        self,
        key: KeyPair,
        bind: str,
        *,
        me: Process | None = None,
        job: bytes | None = None,
        memory: str = "",
        beat: Callable[[], Heartbeat] = Heartbeat,
        on_lost: Callable[[int, str], None] | None = None,
        heartbeat_s: float = 1.0,
        limits: Limits | None = None,
    ) -> None:
        self.me = me
        self.inbox: SimpleQueue[Happening] = SimpleQueue()
        self.counters: Counter[str] = Counter()
        self.clocks = Comparing()
        self.on_notes: Callable[[int, Parcel], None] | None = None
        self.heartbeat_s = heartbeat_s
        self.limits = limits or Limits()
        self._job = job
        self._memory_folder = memory
        self._memory: SharedMemory | None = None
        self._beat = beat
        self._on_lost = on_lost
        self._key = key
        self._lines: dict[int, Line] = {}
        self._opening = threading.Lock()
        self._known: dict[int, tuple[Process, str]] = {}
        self._strangers: set[int] = set()  # who wrote before they were introduced
        self._watched: dict[int, Callable[[], bool]] = {}
        self._ending = False
        self._next_beat = 0.0
        self._next_tick = 0.0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_in, False)
        self._gate = Gate(self._context, key, self.counters)
        self._thread = threading.Thread(target=self._run, name="dbgraph-io", daemon=True)
        try:
            self._inlet, self.endpoint = make_inlet(self._context, self._gate, bind)
        except UsageError:
            self.close()
            raise

    # --- for the owner's thread ---

    def watch(self, descriptor: int, call: Callable[[], bool]) -> None:
        """Calls, in the I/O thread, when a file can be read; until it returns False."""
        self._watched[descriptor] = call
        self._wake()

    def start(self) -> None:
        self._thread.start()

    def connect(self, peer: Process, endpoint: str, silence_s: float = float("inf")) -> None:
        """Opens the line to a peer. After `silence_s` without a sign of it, it is `Lost`."""
        assert self.me is not None, "who am I?"
        room = 2 * self.limits.window_items
        outlet = make_outlet(self._context, self._key, endpoint, room)
        now, limits = time.monotonic(), replace(self.limits, silence_s=silence_s)
        if self._memory is None and self._memory_folder:
            self._memory = SharedMemory(self._memory_folder, self.me)
        channel = Channel(self.me, peer, now, limits, self._memory)
        self._lines[peer.number] = Line(channel, outlet, now)

    def introduce(self, peer: Process, endpoint: str) -> None:
        """A line to that peer is opened as soon as one of the two has something to say."""
        self._known[peer.number] = (peer, endpoint)
        if peer.number in self._strangers:
            self._strangers.remove(peer.number)
            line = self._opened(peer.number)
            assert line is not None
            line.ask_again()
            self._wake()

    def _opened(self, peer: int) -> Line | None:
        """The line to a peer, opened where there is none yet; None for a stranger."""
        with self._opening:
            if peer not in self._lines and peer in self._known:
                self.connect(*self._known[peer])
            return self._lines.get(peer)

    def forget(self, peer: int) -> None:
        """Takes nothing from a peer any more and sends it nothing; what waits for it is dropped."""
        line = self._opened(peer)
        if line is not None:
            line.give_up()

    def send(self, peer: int, message: Any, arrays: Sequence[np.ndarray] = ()) -> None:
        """Queues a message and sends what can be sent at once. Never waits.

        Unless they are copied into shared memory, the arrays are sent from where they lie: they
        must not change until they have arrived.
        """
        line = self._lines.get(peer) or self._opened(peer)
        if line is None:
            raise KeyError(peer)
        line.send(message, arrays)
        if line.blocked:
            self._wake()

    def take(self, timeout_s: float | None = None) -> Happening | None:
        """The next thing that happened; None after the timeout."""
        try:
            return self.inbox.get(timeout=timeout_s) if timeout_s != 0 else self.inbox.get_nowait()
        except Empty:
            return None

    def last_heard_s(self, peer: int) -> float:
        """For how long nothing came from a peer."""
        return time.monotonic() - self._lines[peer].channel.connection.last_heard

    def beat_of(self, peer: int) -> tuple[Heartbeat, float]:
        """A peer's last heartbeat, and how old it is."""
        line = self._lines[peer]
        return line.beat, time.monotonic() - line.beat_at

    def sign_of(self, peer: int) -> tuple[Heartbeat, float, float] | None:
        """A peer's last heartbeat, how old it is, and for how long nothing at all came; None
        where there is no line to it yet."""
        if peer not in self._lines:
            return None
        return *self.beat_of(peer), self.last_heard_s(peer)

    @property
    def resent(self) -> int:
        return sum(line.channel.connection.resent for line in tuple(self._lines.values()))

    @property
    def lines(self) -> int:
        """To how many peers that have not been given up there is a line."""
        return sum(line.open for line in tuple(self._lines.values()))

    @property
    def pending(self) -> bool:
        """Whether a peer that lives lacks something that was sent to it."""
        return any(line.pending for line in tuple(self._lines.values()))

    def compare_clocks(self, peer: int) -> None:
        """Asks a peer what time it is, several times, and from now on again and again."""
        self._lines[peer].tell(self.clocks.begin(peer))

    def is_open(self, peer: int) -> bool:
        """Whether there is a line to a peer that has not been given up."""
        return peer in self._lines and self._lines[peer].open

    def drain(self, timeout_s: float) -> bool:
        """Waits until all peers that live have everything that was sent to them."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if not self.pending:
                return True
            time.sleep(0.001)
        return False

    def acknowledge(self) -> None:
        """Tells all peers what has arrived, at once: before the end."""
        for line in tuple(self._lines.values()):
            line.tell(Ack())

    def close(self, linger_ms: int = 0) -> None:
        """Ends the thread, frees the port; what is on the way has so much time. May be called
        twice."""
        if self._ending:
            return
        self._ending = True
        self._wake()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        self._context.destroy(linger=linger_ms)
        os.close(self._wake_in)
        os.close(self._wake_out)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # it is awake
            os.write(self._wake_in, b"!")

    # --- the I/O thread ---

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:
            self.inbox.put(Broken(error))

    def _loop(self) -> None:
        poller = zmq.Poller()
        assert self._gate.monitor is not None
        for source in (self._inlet, self._gate.zap, self._gate.monitor, self._wake_out):
            poller.register(source, zmq.POLLIN)
        registered: set[int] = set()
        while not self._ending:
            for descriptor in set(self._watched) - registered:
                poller.register(descriptor, zmq.POLLIN)
                registered.add(descriptor)
            before = time.monotonic()
            sleep = max(0.0, self._next_tick - before)
            ready = dict(poller.poll(ceil(sleep * 1000)))
            self._excuse(time.monotonic() - before - sleep)
            if self._inlet in ready:
                self._receive()
            if self._gate.zap in ready:
                self._gate.answer()
            if self._gate.monitor in ready:
                self._gate.note()
            if self._wake_out in ready:
                os.read(self._wake_out, 4096)
                self._next_tick = 0.0
            for descriptor in [d for d in registered if d in ready]:
                if not self._watched[descriptor]():
                    del self._watched[descriptor]
                    registered.remove(descriptor)
                    poller.unregister(descriptor)
            if time.monotonic() >= self._next_tick:
                self._tick()

    def _excuse(self, late_s: float) -> None:
        """This process was stopped, or its host slept: the peers are not to blame."""
        if late_s > 1:
            for line in tuple(self._lines.values()):
                line.excuse(late_s)

    def _receive(self) -> None:
        for _ in range(_BURST):
            try:
                header = self._inlet.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._accept(header, bool(self._inlet.rcvmore))
            except WireError as error:
                self.counters[error.reason.value] += 1
            while self._inlet.rcvmore:
                self._inlet.recv_into(bytearray())

    def _accept(self, header: bytes, more: bool) -> None:
        envelope = codec.decode(header)
        if more != (envelope.payload is not None):
            raise WireError(Refusal.LENGTH, "a payload frame too many, or too few")
        line = self._line_of(envelope)
        if line is None:
            return
        slot = line.slot(envelope)
        data = None
        if slot is not None:
            size = self._inlet.recv_into(slot)
            data = slot[:size] if size <= slot.nbytes and not self._inlet.rcvmore else None
        parcel = line.filled(envelope, data)
        self._next_tick = min(self._next_tick, line.channel.connection.deadline())
        if parcel is not None:
            self._deliver(line, envelope.sender, parcel)

    def _line_of(self, envelope: Envelope) -> Line | None:
        """The sender's line; None where the message can be ignored. Raises WireError."""
        assigned = isinstance(envelope.message, Assign)
        if self.me is None and assigned and self._job in (None, envelope.job):
            self._join(envelope)
        if self.me is None and self._job in (None, envelope.job):
            return None  # from a peer that was told before us; what matters is sent again
        if self.me is None or envelope.job != self.me.job:
            raise WireError(Refusal.JOB)
        line = self._lines.get(envelope.sender) or self._opened(envelope.sender)
        if line is None:
            self._strangers.add(envelope.sender)
            if isinstance(envelope.message, Heartbeat | Ack):
                return None  # a peer that heard of us before we heard of it
            raise WireError(Refusal.SENDER, str(envelope.sender))
        return line

    def _join(self, envelope: Envelope) -> None:
        """Becomes what the driver's first message says."""
        assign = envelope.message
        assert isinstance(assign, Assign)
        if envelope.sender != DRIVER or envelope.sequence != 1 or envelope.to != assign.partition:
            raise WireError(Refusal.SENDER)
        self.me = Process(envelope.job, assign.partition, assign.epoch)
        self.heartbeat_s = assign.heartbeat_s
        driver = Process(envelope.job, DRIVER, envelope.epoch)
        self.connect(driver, assign.driver, assign.silence_s)
        for peer in assign.peers:
            self.connect(Process(envelope.job, peer.process, peer.epoch), peer.endpoint)

    def _deliver(self, line: Line, sender: int, parcel: Parcel) -> None:
        message, at_ns = parcel.message, time.monotonic_ns()
        if isinstance(message, Ack):
            line.flush()
        elif isinstance(message, Heartbeat):
            line.beat, line.beat_at = message, time.monotonic()
        elif isinstance(message, Ping):
            line.tell(answer(message, at_ns))
        elif isinstance(message, Pong):
            if (ping := self.clocks.answered(sender, message, at_ns)) is not None:
                line.tell(ping)
        elif isinstance(message, Recorded) and self.on_notes is not None:
            self.on_notes(sender, parcel)
        else:
            if sender == DRIVER:
                self._note(message)
            self.inbox.put(Arrived(sender, parcel, at_ns))

    def _note(self, message: Any) -> None:
        """Who is where; at once, whatever the owner's thread is at."""
        if isinstance(message, Enter) and self.me is not None:
            peer = Process(self.me.job, message.process, message.epoch)
            self.introduce(peer, message.endpoint)
        elif isinstance(message, Gone):
            self.forget(message.process)

    def _tick(self) -> None:
        """What is due by time, of all lines."""
        now = time.monotonic()
        beat = None
        if self._lines and now >= self._next_beat:
            self._next_beat = now + self.heartbeat_s
            beat = self._beat()
            if self._memory is not None:
                self._memory.tidy(now)
        for peer in self.clocks.due(now):
            self.compare_clocks(peer)
        when = now + _LONGEST_SLEEP_S
        if self._lines:  # else nobody is to hear a heartbeat
            when = min(when, self._next_beat)
        for number, line in tuple(self._lines.items()):
            line.tick(beat, now)
            when = min(when, line.due(now))
            if silent_s := line.silent_s(now):
                self.give_up(number, f"nothing was heard of it for {silent_s:.0f} s")
        self._next_tick = when

    def give_up(self, peer: int, reason: str) -> None:
        """Takes nothing from a peer any more, and says so in the inbox; once."""
        line = self._lines.get(peer)
        if line is not None and not line.give_up():
            return
        if self._on_lost is not None:
            self._on_lost(peer, reason)
        self.inbox.put(Lost(peer, reason))
