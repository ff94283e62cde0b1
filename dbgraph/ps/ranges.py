"""Sets of whole numbers that come mostly in runs: the batches that were used."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Pairs = tuple[tuple[int, int], ...]
"""Half-open ranges: the form that travels and is stored."""


class Ranges:
    """A set of whole numbers, kept as half-open ranges that neither overlap nor touch.

    >>> used = Ranges([(0, 4), (6, 8)])
    >>> used.add(4, 6)
    >>> used.pairs
    ((0, 8),)
    """

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self.update(pairs)

    @property
    def pairs(self) -> Pairs:
        """In rising order."""
        return tuple(zip(self._starts, self._stops, strict=True))

    def add(self, start: int, stop: int) -> None:
        """Adds all numbers of [start, stop)."""
        if start >= stop:
            return
        first, last = self._touched(start, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def update(self, pairs: Iterable[tuple[int, int]]) -> None:
        for start, stop in pairs:
            self.add(start, stop)

    def remove(self, start: int, stop: int) -> None:
        """Takes all numbers of [start, stop) out."""
        if start >= stop:
            return
        first, last = self._touched(start, stop)
        held = [*zip(self._starts[first:last], self._stops[first:last], strict=True)]
        rest = [(a, min(b, start)) for a, b in held] + [(max(a, stop), b) for a, b in held]
        kept = sorted((a, b) for a, b in rest if a < b)
        self._starts[first:last] = [a for a, _ in kept]
        self._stops[first:last] = [b for _, b in kept]

    def _touched(self, start: int, stop: int) -> tuple[int, int]:
        """Index range of the held ranges that overlap or touch [start, stop)."""
        first = bisect_right(self._stops, start - 1)
        return first, max(first, bisect_right(self._starts, stop))

    def intersect(self, pairs: Iterable[tuple[int, int]]) -> Ranges:
        common = Ranges()
        for start, stop in pairs:
            first, last = self._touched(start, stop)
            for a, b in zip(self._starts[first:last], self._stops[first:last], strict=True):
                common.add(max(a, start), min(b, stop))
        return common

    def subtract(self, pairs: Iterable[tuple[int, int]]) -> Ranges:
        rest = self.copy()
        for start, stop in pairs:
            rest.remove(start, stop)
        return rest

    def copy(self) -> Ranges:
        return Ranges(self.pairs)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self._starts, number) - 1
        return place >= 0 and number < self._stops[place]

    def __iter__(self) -> Iterator[int]:
        for start, stop in self.pairs:
            yield from range(start, stop)

    def __len__(self) -> int:
        return sum(self._stops) - sum(self._starts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ranges) and self.pairs == other.pairs

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Ranges({list(self.pairs)})"
