"""The gate of a process's port: who may come in, and a count of who was turned away.

ZeroMQ asks over ZAP (RFC 27) whether a client's key is welcome; only the job's own is. What does
not even get so far (garbage, another protocol, a client that does not know our key) is told by
the socket's monitor. Both are served by the I/O thread.
"""

from __future__ import annotations

import struct
from collections import Counter

import zmq
from zmq.utils.z85 import decode as from_z85

from dbgraph.backends.keys import KeyPair
from dbgraph.wire import Refusal

_DOMAIN = "dbgraph"
_EVENT = struct.Struct(
    "=hi"
)  # (event, file of the connection); `zmq.utils.monitor` would load asyncio
_FAILED = zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
_WATCHED = (
    _FAILED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.ACCEPTED
    | zmq.Event.DISCONNECTED
)


class Gate:
    """Guards one socket that is about to bind."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], key: KeyPair, refused: Counter[str]
    ) -> None:
        self._public = from_z85(key.public)
        self._key = key
        self._refused = refused
        self.zap = context.socket(zmq.REP)
        self.zap.linger = 0
        self.zap.bind("inproc://zeromq.zap.01")
        self.monitor: zmq.Socket[bytes] | None = None
        self._young: list[int] = []  # connections that have not shaken hands yet
        self._told = 0  # failures of theirs that were told already

    def guard(self, inlet: zmq.Socket[bytes], *, curve: bool) -> None:
        """Makes a socket ask this gate; without CURVE there is nothing to ask."""
        if curve:
            inlet.curve_server = True
            inlet.curve_publickey = self._key.public.encode()
            inlet.curve_secretkey = self._key.secret.encode()
            inlet.zap_domain = _DOMAIN.encode()
        self.monitor = inlet.get_monitor_socket(_WATCHED)

    def answer(self) -> None:
        """Answers the questions that wait."""
        while True:
            try:
                request = self.zap.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            version, number = (*request, b"", b"")[:2]
            good = (
                len(request) == 7
                and request[5] == b"CURVE"
                and request[2] == _DOMAIN.encode()
                and request[6] == self._public
            )
            if not good:
                self._refused[Refusal.KEY.value] += 1
            verdict = (b"200", b"OK", b"member") if good else (b"400", b"unknown key", b"")
            self.zap.send_multipart([version, number, *verdict, b""])

    def note(self) -> None:
        """Counts the broken handshakes that the monitor tells."""
        assert self.monitor is not None
        while True:
            try:
                told, _ = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._happened(*_EVENT.unpack(told))

    def _happened(self, event: int, connection: int) -> None:
        """ZeroMQ tells no failure of a client that is older than ZMTP 3 or speaks another
        language: it just disconnects. Nor does it tell which connection has shaken hands: the
        oldest is taken, so that the count may be off by one when several do so at once."""
        if event == zmq.Event.ACCEPTED:
            self._young.append(connection)
        elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
            del self._young[:1]
        elif event == zmq.Event.DISCONNECTED:
            if connection in self._young:
                self._young.remove(connection)
                self._count(self._told == 0)
                self._told = max(0, self._told - 1)
        else:
            self._told += 1
            self._count(event != zmq.Event.HANDSHAKE_FAILED_AUTH)  # the key is counted already

    def _count(self, broken: bool) -> None:
        if broken:
            self._refused[Refusal.HANDSHAKE.value] += 1
