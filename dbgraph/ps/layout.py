"""Which shard owns which region of which parameter.

The boxes that the partitions hold are laid end to end, partition after partition, as one line of
bytes, and the line is cut into one piece per shard, of equal lengths as far as rows allow. So
shards are balanced by bytes, a large parameter spreads over several, and a partition talks only
to the shards whose pieces overlap its own stretch of the line: P partitions and S shards make at
most P + S - 1 connections (without this order they could make P * S).

A cut that falls close to a partition's end moves there, which saves a connection; else, close to a
box's end, there: who fetches a box whole need not put it together. A cut through a box follows its
rows, so that its pieces are contiguous in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from dbgraph.errors import PlanError, UsageError
from dbgraph.ir.region import Region, covers
from dbgraph.ir.types import DTYPE_BYTES, TensorType
from dbgraph.plan.plan import Leaf, Plan

FINE = 64
"""A shard's share has at least so many rows of a box, if it has an axis that is long enough."""
SLACK = 1 / 64
"""A cut moves to an end by no more than this part of a share."""


@dataclass(frozen=True, slots=True)
class Owned:
    """A region of a parameter that one shard owns."""

    parameter: str
    region: Region


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a region that one shard holds."""

    shard: int
    region: Region


@dataclass(frozen=True)
class Layout:
    """The regions of each shard: disjoint, and together all that any partition holds.

    Attributes:
        types: of the parameters.
        shards: by shard what it owns, in the order of the line.
    """

    types: Mapping[str, TensorType]
    shards: tuple[tuple[Owned, ...], ...]

    @staticmethod
    def of(plan: Plan, shards: int) -> Layout:
        """For the regions that a plan's partitions hold; see `lay_out`."""
        leaves = [plan.leaves("parameter", p) for p in range(plan.partitions)]
        return lay_out(plan.parameter_types, leaves, shards)

    def pieces(self, parameter: str, region: Region) -> tuple[Piece, ...]:
        """A region as the pieces that the shards hold, in the order of the shards.

        Raises PlanError where they do not hold all of it.
        """
        found = tuple(
            Piece(shard, owned.intersect(region))
            for shard, owned in self._index.get(parameter, ())
            if owned.rank == region.rank and owned.overlaps(region)
        )
        if not covers(region, (piece.region for piece in found)):
            raise PlanError(
                f"no shard holds all of {parameter!r} [{region}]",
                hint="the layout was made for another network",
            )
        return found

    def size_bytes(self, shard: int) -> int:
        """Of the parameters that a shard owns."""
        return sum(self._bytes(o.parameter, o.region) for o in self.shards[shard])

    def traffic(self, leaves: Sequence[Sequence[Leaf]]) -> dict[tuple[int, int], int]:
        """(partition, shard) → bytes of one fetch, for each pair that is connected.

        Args:
            leaves: by partition what it holds (`Plan.leaves`), of any plan of the network.
        """
        found: dict[tuple[int, int], int] = {}
        for partition, held in enumerate(leaves):
            for leaf in held:
                for piece in self.pieces(leaf.of, leaf.region):
                    pair = partition, piece.shard
                    found[pair] = found.get(pair, 0) + self._bytes(leaf.of, piece.region)
        return found

    def _bytes(self, parameter: str, region: Region) -> int:
        return region.size * DTYPE_BYTES[self.types[parameter].dtype]

    @cached_property
    def _index(self) -> Mapping[str, list[tuple[int, Region]]]:
        found: dict[str, list[tuple[int, Region]]] = {}
        for shard, owned in enumerate(self.shards):
            for one in owned:
                found.setdefault(one.parameter, []).append((shard, one.region))
        return found


def lay_out(
    types: Mapping[str, TensorType], leaves: Sequence[Sequence[Leaf]], shards: int
) -> Layout:
    """Cuts what the partitions hold into shards.

    Args:
        leaves: by partition the regions that it holds; where two partitions hold the same
            elements, they stand where the first one's do.

    Raises UsageError for fewer than one shard, for more than can be given anything, and for a
    network without parameters.
    """
    if shards < 1:
        raise UsageError(f"{shards} shards: there must be at least one")
    boxes, ends = _line(types, leaves)
    if not boxes:
        raise UsageError("there are no parameters for a parameter server to hold")
    found = _cut(types, boxes, ends, shards)
    if not all(found):
        most = _most(lambda count: all(_cut(types, boxes, ends, count)), shards - 1)
        raise UsageError(
            f"{shards} shards are more than the parameters can be cut for", hint=f"use {most}"
        )
    return Layout(types, found)


@dataclass(frozen=True, slots=True)
class _Box:
    """A box on the line."""

    owned: Owned
    start_bytes: int
    size_bytes: int


def _line(
    types: Mapping[str, TensorType], leaves: Sequence[Sequence[Leaf]]
) -> tuple[list[_Box], list[int]]:
    """The boxes end to end, and where each partition's stretch ends."""
    boxes: list[_Box] = []
    ends: list[int] = []
    place = 0
    for held in leaves:
        for leaf in held:
            laid = [b.owned.region for b in boxes if b.owned.parameter == leaf.of]
            for region in _without(leaf.region, laid):
                size = region.size * DTYPE_BYTES[types[leaf.of].dtype]
                boxes.append(_Box(Owned(leaf.of, region), place, size))
                place += size
        ends.append(place)
    return boxes, ends


def _without(region: Region, others: Iterable[Region]) -> list[Region]:
    rest = [region]
    for other in others:
        rest = [part for box in rest for part in box.subtract(other)]
    return [box for box in rest if not box.empty]


def _most(can: Callable[[int], bool], limit: int) -> int:
    """A number up to which it can be, and no more: found by halving, for each try takes long."""
    low, high = 1, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if can(middle) else (low, middle - 1)
    return low


def _cut(
    types: Mapping[str, TensorType], boxes: Sequence[_Box], ends: Sequence[int], shards: int
) -> tuple[tuple[Owned, ...], ...]:
    total = ends[-1] if ends else 0
    share = total / shards
    near = ends, [box.start_bytes + box.size_bytes for box in boxes]
    cuts = [_snapped(share * i, near, SLACK * share) for i in range(1, shards)]
    found: list[list[Owned]] = [[] for _ in range(shards)]
    for box in boxes:
        inside = [(i, c) for i, c in enumerate(cuts, 1) if c > box.start_bytes]
        first = inside[0][0] - 1 if inside else shards - 1
        wanted = [c - box.start_bytes for _, c in inside if c < box.start_bytes + box.size_bytes]
        for offset, region in _split(box, wanted, share):
            found[first + offset].append(Owned(box.owned.parameter, region))
    return tuple(map(tuple, found))


def _snapped(cut: float, near: Iterable[Sequence[int]], slack_bytes: float) -> float:
    """Args: near: places to move to; those of the first sequence are preferred."""
    for ends in near:
        nearest = min(ends, key=lambda end: abs(end - cut), default=cut)
        if abs(nearest - cut) <= slack_bytes:
            return nearest
    return cut


def _split(box: _Box, cuts: Sequence[float], share_bytes: float) -> Iterator[tuple[int, Region]]:
    """(number of the piece, piece) of a box cut at the rows nearest to these bytes; numbers whose
    piece is empty are left out."""
    region = box.owned.region
    axis = _axis(box, share_bytes)
    if axis is None:
        yield sum(cut < box.size_bytes / 2 for cut in cuts), region
        return
    low, high = region.bounds[axis]
    row_bytes = box.size_bytes / (high - low)
    rows = [low, *(low + round(cut / row_bytes) for cut in cuts), high]
    for number, (start, stop) in enumerate(pairwise(rows)):
        if start < stop:
            yield number, region.replace(axis, (start, stop))


def _axis(box: _Box, share_bytes: float) -> int | None:
    """The first axis whose rows are fine enough, else the longest; None: a single number."""
    shape = box.owned.region.shape
    fine = [a for a, n in enumerate(shape) if box.size_bytes / n * FINE <= share_bytes]
    return fine[0] if fine else max(range(len(shape)), key=lambda a: shape[a], default=None)
