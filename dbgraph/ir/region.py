"""Regions: boxes in a tensor, and their algebra.

Everything that a cut needs follows from this arithmetic: halos, the columns of a weight matrix
that a machine owns, which bytes cross which boundary.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, product
from math import prod
from typing import NamedTuple


class Region(NamedTuple):
    """A half-open range per axis.

    >>> Region.of((0, 64), (2, 5)).shape
    (64, 3)
    """

    bounds: tuple[tuple[int, int], ...]

    @staticmethod
    def of(*bounds: tuple[int, int]) -> Region:
        return Region(bounds)

    @staticmethod
    def whole(shape: Sequence[int]) -> Region:
        return Region(tuple((0, n) for n in shape))

    @staticmethod
    def at(start: Sequence[int], shape: Sequence[int]) -> Region:
        """The box of a shape that begins at `start`."""
        return Region(tuple((a, a + n) for a, n in zip(start, shape, strict=True)))

    @property
    def rank(self) -> int:
        return len(self.bounds)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in self.bounds)

    @property
    def start(self) -> tuple[int, ...]:
        return tuple(a for a, _ in self.bounds)

    @property
    def stop(self) -> tuple[int, ...]:
        return tuple(b for _, b in self.bounds)

    @property
    def size(self) -> int:
        """Number of elements; 0 when empty."""
        return prod(max(0, b - a) for a, b in self.bounds)

    @property
    def empty(self) -> bool:
        return any(b <= a for a, b in self.bounds)

    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in self.bounds)

    def contains(self, other: Region) -> bool:
        return other.empty or all(
            a <= c and d <= b for (a, b), (c, d) in zip(self.bounds, other.bounds, strict=True)
        )

    def intersect(self, other: Region) -> Region:
        """The common box; may be empty."""
        return Region(
            tuple(
                (max(a, c), min(b, d))
                for (a, b), (c, d) in zip(self.bounds, other.bounds, strict=True)
            )
        )

    def overlaps(self, other: Region) -> bool:
        return all(
            max(a, c) < min(b, d) for (a, b), (c, d) in zip(self.bounds, other.bounds, strict=True)
        )

    def hull(self, other: Region) -> Region:
        """The smallest box that contains both."""
        return Region(
            tuple(
                (min(a, c), max(b, d))
                for (a, b), (c, d) in zip(self.bounds, other.bounds, strict=True)
            )
        )

    def shift(self, offset: Sequence[int]) -> Region:
        return Region(
            tuple((a + o, b + o) for (a, b), o in zip(self.bounds, offset, strict=True))
        )

    def within(self, frame: Region) -> Region:
        """The same box in the coordinates of `frame`, whose start becomes the origin."""
        return Region(
            tuple((a - o, b - o) for (a, b), (o, _) in zip(self.bounds, frame.bounds, strict=True))
        )

    def replace(self, axis: int, bounds: tuple[int, int]) -> Region:
        return Region((*self.bounds[:axis], bounds, *self.bounds[axis + 1 :]))

    def subtract(self, other: Region) -> list[Region]:
        """This box without the other, as disjoint boxes (at most two per axis)."""
        common = self.intersect(other)
        if common.empty:
            return [] if self.empty else [self]
        rest: list[Region] = []
        core = self
        for axis, (a, b) in enumerate(self.bounds):
            low, high = common.bounds[axis]
            if a < low:
                rest.append(core.replace(axis, (a, low)))
            if high < b:
                rest.append(core.replace(axis, (high, b)))
            core = core.replace(axis, (low, high))
        return rest

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in self.bounds)

    @staticmethod
    def parse(text: str) -> Region:
        """The inverse of `str`. Raises ValueError."""
        if not text:
            return Region(())
        bounds = []
        for part in text.split(","):
            a, colon, b = part.partition(":")
            if not colon:
                raise ValueError(f"{text!r} is no region such as 0:64,2:5")
            bounds.append((int(a), int(b)))
        return Region(tuple(bounds))


def even_splits(length: int, pieces: int) -> tuple[int, ...]:
    """Bounds of `pieces` ranges whose lengths differ by at most one.

    >>> even_splits(10, 4)
    (0, 3, 5, 8, 10)
    """
    return tuple(-(-length * i // pieces) for i in range(pieces + 1))


def grid(splits: Sequence[Sequence[int]]) -> Iterator[Region]:
    """All boxes of a grid given by its bounds per axis, in row-major order."""
    ranges = [tuple(pairwise(s)) for s in splits]
    for bounds in product(*ranges):
        yield Region(bounds)


def grid_overlap(splits: Sequence[Sequence[int]], region: Region) -> Iterator[int]:
    """Row-major indices of the grid's boxes that overlap a region inside the grid.

    >>> list(grid_overlap([(0, 2, 4, 6)], Region.of((3, 5))))
    [1, 2]
    """
    ranges = [
        range(bisect_right(s, a) - 1, bisect_left(s, b))
        for s, (a, b) in zip(splits, region.bounds, strict=True)
    ]
    for index in product(*ranges):
        flat = 0
        for i, s in zip(index, splits, strict=True):
            flat = flat * (len(s) - 1) + i
        yield flat


def grid_shares(
    splits: Sequence[Sequence[int]], region: Region
) -> Iterator[tuple[int, int]]:
    """Like `grid_overlap`, each index with the number of elements that its box shares.

    >>> list(grid_shares([(0, 2, 4, 6)], Region.of((3, 6))))
    [(1, 1), (2, 2)]
    """
    found = [(0, 1)]
    for s, (a, b) in zip(splits, region.bounds, strict=True):
        along = [
            (i, min(b, s[i + 1]) - max(a, s[i]))
            for i in range(bisect_right(s, a) - 1, bisect_left(s, b))
        ]
        width = len(s) - 1
        found = [(flat * width + i, size * n) for flat, size in found for i, n in along]
    yield from found


def disjoint(regions: Iterable[Region]) -> list[Region]:
    """Disjoint boxes with the same union, few of them: each element once.

    Larger boxes come first, so that a halo that contains another swallows it; boxes that
    together form a box are joined.
    """
    done: list[Region] = []
    for region in sorted(set(regions), key=lambda r: (-r.size, r)):
        pieces = [region]
        for other in done:
            pieces = [rest for piece in pieces for rest in piece.subtract(other)]
        done.extend(piece for piece in pieces if not piece.empty)
    return _joined(done)


def _joined(boxes: list[Region]) -> list[Region]:
    """Joins boxes that touch along one axis and agree in the others, until none do."""
    count = len(boxes) + 1
    while len(boxes) < count:
        count = len(boxes)
        for axis in range(boxes[0].rank if boxes else 0):
            boxes = _joined_along(boxes, axis)
    return sorted(boxes)


def _joined_along(boxes: list[Region], axis: int) -> list[Region]:
    rows: dict[Region, list[tuple[int, int]]] = {}
    for box in sorted(boxes):
        ranges = rows.setdefault(box.replace(axis, (0, 0)), [])
        low, high = box.bounds[axis]
        if ranges and ranges[-1][1] == low:
            ranges[-1] = (ranges[-1][0], high)
        else:
            ranges.append((low, high))
    return [row.replace(axis, bounds) for row, ranges in rows.items() for bounds in ranges]


def covers(region: Region, pieces: Iterable[Region]) -> bool:
    """Whether the pieces together contain the whole region."""
    rest = [region]
    for piece in pieces:
        rest = [part for box in rest for part in box.subtract(piece)]
        if not rest:
            return True
    return all(box.empty for box in rest)


def overlapping(boxes: Sequence[Region]) -> tuple[Region, Region] | None:
    """Two of the boxes that have an element in common; None where all are disjoint.

    A sweep along the axis that tells most of them apart.
    """
    rank = boxes[0].rank if boxes else 0
    if not rank:
        return (boxes[0], boxes[1]) if len(boxes) > 1 else None
    axis = max(range(rank), key=lambda a: len({box.bounds[a] for box in boxes}))
    active: list[Region] = []
    for box in sorted(boxes, key=lambda box: box.bounds[axis]):
        active = [other for other in active if other.bounds[axis][1] > box.bounds[axis][0]]
        for other in active:
            if other.overlaps(box):
                return other, box
        active.append(box)
    return None


class Clip(NamedTuple):
    """What a window reads along one axis: the range inside the tensor, and the zeros around it."""

    range: tuple[int, int]
    padding: tuple[int, int]


def window_range(out: tuple[int, int], size: int, stride: int, low: int, length: int) -> Clip:
    """The input range of a sliding window for an output range, one axis.

    Output i reads inputs [i*stride - low, i*stride - low + size); positions outside
    [0, length) are padding.
    """
    first, last = out[0] * stride - low, (out[1] - 1) * stride - low + size
    start, stop = max(first, 0), min(last, length)
    return Clip((start, stop), (start - first, last - stop))
