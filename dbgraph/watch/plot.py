"""Curves as text: two by four dots a character (Unicode's Braille patterns). Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Points = Sequence[tuple[float, float]]
"""(x, y), in the order of x; finite."""

_WIDE, _HIGH = 2, 4
_BLANK = 0x2800
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Of the dot in row 0 to 3 (from above) and column 0 or 1 of a character."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A character, and whose it is: where curves meet, the last one's."""

    text: str
    curve: int | None


@dataclass(frozen=True, slots=True)
class Range:
    """What an axis shows. `high` is larger than `low`."""

    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Range:
        """All of the values; some room where they are all the same."""
        low, high = min(values), max(values)
        room = 0.0 if high > low else max(abs(low) / 10, 0.1)
        return Range(low - room, high + room)

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        return (value - self.low) / (self.high - self.low)


def plot(curves: Sequence[Points], columns: int, rows: int) -> tuple[list[list[Cell]], Range]:
    """Rows of characters, from above, and what the height stands for.

    Args:
        curves: those without points are not drawn; one has some.
        columns, rows: of characters; at least one.
    """
    xs = Range.of([x for points in curves for x, _ in points])
    ys = Range.of([y for points in curves for _, y in points])
    bits = [[0] * columns for _ in range(rows)]
    owner: list[list[int | None]] = [[None] * columns for _ in range(rows)]
    for curve, points in enumerate(curves):
        for x, y in _dots(points, xs, ys, columns * _WIDE, rows * _HIGH):
            column, row = x // _WIDE, y // _HIGH
            bits[row][column] |= _BITS[y % _HIGH][x % _WIDE]
            owner[row][column] = curve
    cells = [
        [Cell(chr(_BLANK + b) if b else " ", o) for b, o in zip(*line, strict=True)]
        for line in zip(bits, owner, strict=True)
    ]
    return cells, ys


def _dots(
    points: Points, xs: Range, ys: Range, width: int, height: int
) -> Iterator[tuple[int, int]]:
    """The dots of one curve: straight lines between its points, with no gaps."""
    before: tuple[int, int] | None = None
    for x, y in points:
        at = round(xs.share(x) * (width - 1)), round((1 - ys.share(y)) * (height - 1))
        yield from _line(before or at, at)
        before = at


def _line(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """All dots from one to the other, ends included."""
    (x0, y0), (x1, y1) = start, end
    count = max(abs(x1 - x0), abs(y1 - y0), 1)
    for i in range(count + 1):
        yield x0 + round(i * (x1 - x0) / count), y0 + round(i * (y1 - y0) / count)


def logarithms(points: Points) -> Points:
    """(x, log10 y)."""
    return [(x, math.log10(y)) for x, y in points]
