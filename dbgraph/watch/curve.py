"""A curve that may grow for days, in a bounded number of points."""

from __future__ import annotations

import math

import msgspec

LIMIT = 600
"""Points that a curve has at most: as many as a screen can tell apart. Even."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """The mean of some records that follow each other.

    Attributes:
        step, time_s: of the last of them; time in seconds of training, resumed runs together.
    """

    step: int
    time_s: float
    value: float


class Curve(msgspec.Struct, frozen=True):
    """Points in the order of steps. When there are too many, neighbours are merged in pairs.

    Attributes:
        per_point: of how many records each point is the mean.
        in_last: but for the last, which has so many so far.
    """

    points: tuple[Point, ...] = ()
    per_point: int = 1
    in_last: int = 1

    def add(self, step: int, time_s: float, value: float | None) -> Curve:
        """With one more; a value that is missing, or no number, leaves the curve as it is."""
        if value is None or not math.isfinite(value):
            return self
        point = Point(step, time_s, value)
        if self.points and self.in_last < self.per_point:
            last = _mean(self.points[-1], self.in_last, point, 1)
            return Curve((*self.points[:-1], last), self.per_point, self.in_last + 1)
        if len(self.points) < LIMIT:
            return Curve((*self.points, point), self.per_point)
        pairs = zip(self.points[::2], self.points[1::2], strict=True)
        merged = tuple(_mean(a, 1, b, 1) for a, b in pairs)
        return Curve((*merged, point), 2 * self.per_point)

    def until(self, step: int) -> Curve:
        """Without the points after a step: a run was set back to it."""
        kept = tuple(point for point in self.points if point.step <= step)
        if len(kept) == len(self.points):
            return self
        return Curve(kept, self.per_point, self.per_point)


def _mean(a: Point, count_a: int, b: Point, count_b: int) -> Point:
    share = count_b / (count_a + count_b)
    return Point(b.step, b.time_s, a.value + (b.value - a.value) * share)
