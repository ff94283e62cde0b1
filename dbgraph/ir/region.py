"""Regions: boxes in a tensor, and their algebra.

Everything that a cut needs follows from this arithmetic: halos, the columns of a weight matrix
that a machine owns, which bytes cross which boundary. A plan for many machines takes millions of
these steps; hence lists inside `tuple` and plain loops, which are faster than generators.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise, product
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
        return Region(tuple([(0, n) for n in shape]))

    @staticmethod
    def at(start: Sequence[int], shape: Sequence[int]) -> Region:
        """The box of a shape that begins at `start`."""
        return Region(tuple([(a, a + n) for a, n in zip(start, shape, strict=True)]))

    @property
    def rank(self) -> int:
        return len(self.bounds)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple([b - a for a, b in self.bounds])

    @property
    def start(self) -> tuple[int, ...]:
        return tuple([a for a, _ in self.bounds])

    @property
    def stop(self) -> tuple[int, ...]:
        return tuple([b for _, b in self.bounds])

    @property
    def size(self) -> int:
        """Number of elements; 0 when empty."""
        return prod([b - a if b > a else 0 for a, b in self.bounds])

    @property
    def empty(self) -> bool:
        return min(self.shape, default=1) <= 0

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
                [
                    (a if a > c else c, b if b < d else d)
                    for (a, b), (c, d) in zip(self.bounds, other.bounds, strict=True)
                ]
            )
        )

    def overlaps(self, other: Region) -> bool:
        """Whether they have an element in common."""
        for (a, b), (c, d) in zip(self.bounds, other.bounds, strict=True):
            if (a if a > c else c) >= (b if b < d else d):
                return False
        return True

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
            tuple([(a + o, b + o) for (a, b), o in zip(self.bounds, offset, strict=True)])
        )

    def within(self, frame: Region) -> Region:
        """The same box in the coordinates of `frame`, whose start becomes the origin."""
        pairs = zip(self.bounds, frame.bounds, strict=True)
        return Region(tuple([(a - o, b - o) for (a, b), (o, _) in pairs]))

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


def grid_parts(splits: Sequence[Sequence[int]], region: Region) -> list[tuple[int, Region]]:
    """Row-major indices of the grid's boxes that overlap a region inside the grid, each with the
    box that they share.

    >>> [(index, str(box)) for index, box in grid_parts([(0, 2, 4, 6)], Region.of((3, 6)))]
    [(1, '3:4'), (2, '4:6')]
    """
    found: list[tuple[int, tuple[tuple[int, int], ...]]] = [(0, ())]
    for s, bounds in zip(splits, region.bounds, strict=True):
        a, b = bounds
        first, stop, width = bisect_right(s, a) - 1, bisect_left(s, b), len(s) - 1
        if stop - first == 1:
            along = [(first, bounds)]
        else:
            along = [(i, (max(a, s[i]), min(b, s[i + 1]))) for i in range(first, stop)]
        found = [(flat * width + i, (*box, part)) for flat, box in found for i, part in along]
    return [(flat, Region(box)) for flat, box in found]


def grid_shares(splits: Sequence[Sequence[int]], region: Region) -> Iterator[tuple[int, int]]:
    """Like `grid_parts`, each index with the number of elements that its box shares.

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
    distinct = set(regions)
    if len(distinct) == 1:
        return [region for region in distinct if not region.empty]
    done: list[Region] = []
    for region in sorted(distinct, key=lambda r: (-r.size, r)):
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
    """Two of the boxes that have an element in common; None where all are disjoint."""
    return next(overlapping_pairs(boxes), None)


def overlapping_pairs(boxes: Sequence[Region]) -> Iterator[tuple[Region, Region]]:
    """All pairs of boxes that have an element in common.

    A sweep along the axis that tells most of the boxes apart.
    """
    if len(boxes) < 2:
        return
    axis = most_telling_axis(boxes)
    if axis is None:
        yield from combinations(boxes, 2)
        return
    active: list[Region] = []
    for box in sorted(boxes, key=lambda box: box.bounds[axis]):
        start = box.bounds[axis][0]
        active = [other for other in active if other.bounds[axis][1] > start]
        for other in active:
            if other.overlaps(box):
                yield other, box
        active.append(box)


def most_telling_axis(boxes: Sequence[Region]) -> int | None:
    """The axis along which the boxes have most different ranges; None where they have no axis."""
    axes = range(boxes[0].rank)
    return max(axes, key=lambda axis: len({box.bounds[axis] for box in boxes}), default=None)


def touching(boxes: Sequence[Region]) -> list[list[Region]]:
    """The boxes in groups: two that overlap, directly or by way of others, are in one group."""
    group = {box: [box] for box in boxes}
    for a, b in overlapping_pairs(boxes):
        mine, other = sorted((group[a], group[b]), key=len)
        if mine is not other:
            other += mine
            group.update(dict.fromkeys(mine, other))
    return list({id(members): members for members in group.values()}.values())


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
