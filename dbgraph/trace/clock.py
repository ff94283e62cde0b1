"""How far another process's clock is ahead of the driver's, from requests and their replies.

As in NTP (RFC 5905, section 8): a request leaves the driver at t0 and arrives at t1 on the peer's
clock; the reply leaves at t2 and is back at t3. The peer is ahead by ((t1 - t0) + (t2 - t3)) / 2,
and this is wrong by at most half the round trip, (t3 - t0) - (t2 - t1), however unequal the two
ways are. The exchanges with the shortest round trips are anchors, and between two of them the
offset is interpolated, so that a drift is followed.

An offset that may be zero within its uncertainty is taken as zero: processes of one host share
the system's monotonic clock.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TOLERANCE = 100e-6
"""By how much two clocks drift apart at most: a quartz is good to 50 parts in a million."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One exchange, in nanoseconds: `sent` and `back` on the driver's clock, `heard` and
    `answered` on the peer's."""

    sent: int
    heard: int
    answered: int
    back: int

    @property
    def anchor(self) -> Anchor:
        ahead = ((self.heard - self.sent) + (self.answered - self.back)) // 2
        round_trip = (self.back - self.sent) - (self.answered - self.heard)
        return Anchor((self.heard + self.answered) // 2, ahead, max(0, round_trip + 1) // 2)


@dataclass(frozen=True, slots=True)
class Anchor:
    """At `at`, on the peer's clock, this is `ahead` of the driver's; give or take `uncertainty`.
    Nanoseconds."""

    at: int
    ahead: int
    uncertainty: int

    def reaches(self, at: int) -> float:
        """How uncertain it makes the offset at another time."""
        return self.uncertainty + TOLERANCE * abs(at - self.at)


@dataclass(frozen=True)
class Alignment:
    """How one clock is aligned to the driver's.

    Attributes:
        anchors: in order of time; none: the clock is the driver's own.
        estimated: the offset of the best one and its uncertainty, before it was taken as zero.
        samples: of how many exchanges they are the best.
        known: False where there was no exchange: the offset is taken as zero on trust.
    """

    anchors: tuple[Anchor, ...] = ()
    estimated: tuple[int, int] = (0, 0)
    samples: int = 0
    known: bool = True

    def ahead(self, at: int) -> int:
        """How far the peer's clock is ahead at a time on it."""
        anchors = self.anchors
        if not anchors:
            return 0
        after = bisect(anchors, at, key=lambda anchor: anchor.at)
        if after in (0, len(anchors)):
            return anchors[max(0, after - 1)].ahead
        a, b = anchors[after - 1], anchors[after]
        return a.ahead + (b.ahead - a.ahead) * (at - a.at) // (b.at - a.at)

    def uncertainty(self, begin: int, end: int) -> int:
        """How wrong `ahead` is at most between two times on the peer's clock.

        Between two anchors it is wrong by no more than the worse of them, as long as the drift
        does not change; beyond the outermost by what clocks may drift.
        """
        if not self.anchors:
            return 0
        first, last = self.anchors[0], self.anchors[-1]
        inside = (anchor.uncertainty for anchor in self.anchors)
        outside = (first.reaches(min(begin, first.at)), last.reaches(max(end, last.at)))
        return int(max(*outside, *inside))

    @property
    def drift(self) -> float:
        """Seconds that the peer's clock gains in a second."""
        if len(self.anchors) < 2:
            return 0.0
        first, last = self.anchors[0], self.anchors[-1]
        return (last.ahead - first.ahead) / (last.at - first.at)


def align(samples: Iterable[Sample]) -> Alignment:
    """Of all exchanges with one peer."""
    found = sorted((sample.anchor for sample in samples), key=lambda anchor: anchor.at)
    if not found:
        return Alignment(known=False)
    anchors = _best(found)
    best = min(anchors, key=lambda anchor: anchor.uncertainty)
    if all(abs(anchor.ahead) <= anchor.uncertainty for anchor in anchors):
        anchors = [Anchor(anchor.at, 0, anchor.uncertainty) for anchor in anchors]
    return Alignment(tuple(anchors), (best.ahead, best.uncertainty), len(found))


def _best(anchors: Sequence[Anchor]) -> list[Anchor]:
    """Those that no other one beats at their own time, though clocks may have drifted since."""
    kept: list[Anchor] = []
    for anchor in anchors:
        if kept and kept[-1].reaches(anchor.at) <= anchor.uncertainty:
            continue
        while kept and anchor.reaches(kept[-1].at) <= kept[-1].uncertainty:
            kept.pop()
        kept.append(anchor)
    return kept
