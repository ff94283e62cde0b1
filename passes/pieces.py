"""Where a value is: its tiles, found by the regions that readers want."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple, Protocol

from dbgraph.ir.region import Region, grid, grid_parts, most_telling_axis

Splits = tuple[tuple[int, ...], ...]


class Piece(NamedTuple):
    """One tile of a value: its region there, where it stands, the node that computes it."""

    region: Region
    partition: int
    node: str


class Pieces(Protocol):
    """All tiles of one value."""

    def taken(self, region: Region, partition: int) -> Iterable[tuple[Piece, Region]]:
        """The tiles that a reader on a partition takes a region from, each with what it takes,
        in the value's coordinates."""


class Grid:
    """Tiles that form a grid, in row-major order."""

    def __init__(self, pieces: Sequence[Piece], splits: Splits) -> None:
        self.pieces, self.splits = pieces, splits

    def taken(self, region: Region, partition: int) -> Iterable[tuple[Piece, Region]]:
        return [(self.pieces[index], part) for index, part in grid_parts(self.splits, region)]


class Loose:
    """Disjoint tiles that form no grid, sorted along the axis that tells most of them apart."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        axis = most_telling_axis([piece.region for piece in pieces])
        assert axis is not None, "tiles of a scalar are a grid"
        self.axis = axis
        self.pieces = sorted(pieces, key=lambda piece: piece.region.bounds[axis])
        ranges = [piece.region.bounds[axis] for piece in self.pieces]
        self.starts = [a for a, _ in ranges]
        self.longest = max(b - a for a, b in ranges)

    def taken(self, region: Region, partition: int) -> Iterable[tuple[Piece, Region]]:
        a, b = region.bounds[self.axis]
        first = bisect_left(self.starts, a - self.longest)
        near = self.pieces[first : bisect_left(self.starts, b)]
        overlapping = sorted(piece for piece in near if piece.region.overlaps(region))
        return [(piece, piece.region.intersect(region)) for piece in overlapping]


class Local:
    """A leaf of which every partition holds tiles for itself."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self.on: dict[int, list[Piece]] = defaultdict(list)
        for piece in pieces:
            self.on[piece.partition].append(piece)

    def taken(self, region: Region, partition: int) -> Iterable[tuple[Piece, Region]]:
        mine = [piece for piece in self.on[partition] if piece.region.overlaps(region)]
        return [(piece, piece.region.intersect(region)) for piece in mine]


def pieces_of(pieces: Sequence[Piece]) -> Pieces:
    """Disjoint tiles, sorted: a grid where they form one."""
    boxes = [piece.region for piece in pieces]
    axes = zip(*(box.bounds for box in boxes), strict=True)
    splits = tuple(tuple(sorted({edge for pair in axis for edge in pair})) for axis in axes)
    if prod(len(s) - 1 for s in splits) == len(boxes) and list(grid(splits)) == boxes:
        return Grid(pieces, splits)
    return Loose(pieces)
