"""Comparing this process's clock with its peers', in bursts of exchanges (`trace.clock`).

The I/O thread answers and takes answers, whatever the main thread is at. In each burst a request
goes out when the answer to the one before has come, so that none waits behind another.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from dbgraph.trace.clock import Sample
from dbgraph.wire.messages import Ping, Pong

BURST = 8
EVERY_S = 2.0


def answer(ping: Ping, heard_ns: int) -> Pong:
    """To a request that came at that time."""
    return Pong(ping.sent_ns, heard_ns, time.monotonic_ns())


class Comparing:
    """Of one process with those that it asked."""

    def __init__(self) -> None:
        self._samples: dict[int, list[Sample]] = {}
        self._left: dict[int, int] = {}
        self._next_s = time.monotonic() + EVERY_S

    def begin(self, peer: int) -> Ping:
        """The first request of a burst."""
        self._samples.setdefault(peer, [])
        self._left[peer] = BURST
        return Ping(time.monotonic_ns())

    def due(self, now_s: float) -> Iterable[int]:
        """Peers with whom it is time for another burst."""
        if not self._samples or now_s < self._next_s:
            return ()
        self._next_s = now_s + EVERY_S
        return tuple(self._samples)

    def answered(self, peer: int, pong: Pong, back_ns: int) -> Ping | None:
        """An answer came at that time; the next request, if the burst has one more."""
        samples = self._samples.get(peer)
        if samples is None:
            return None
        samples.append(Sample(pong.sent_ns, pong.heard_ns, pong.answered_ns, back_ns))
        self._left[peer] = max(0, self._left[peer] - 1)
        return Ping(time.monotonic_ns()) if self._left[peer] else None

    def is_busy(self, peer: int) -> bool:
        """Whether a burst is under way."""
        return self._left.get(peer, 0) > 0

    def samples(self, peer: int) -> Sequence[Sample]:
        return tuple(self._samples.get(peer, ()))
