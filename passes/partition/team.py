"""Machines that share the work on a layer, each by its speed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod

from dbgraph.cluster import Cluster
from dbgraph.ir.graph import Cut
from dbgraph.ir.region import even_splits


@dataclass(frozen=True)
class Team:
    """Partitions in order, neighbours next to each other, and each one's share of the work.

    Attributes:
        weights: in any unit; all equal on equal machines.
    """

    places: tuple[int, ...]
    weights: tuple[float, ...]

    @staticmethod
    def equal(places: tuple[int, ...]) -> Team:
        return Team(places, (1.0,) * len(places))

    @staticmethod
    def of(cluster: Cluster, places: Sequence[int] | None = None) -> Team:
        """All machines, or these, by their speed."""
        found = tuple(range(len(cluster.machines)) if places is None else places)
        return Team(found, tuple(cluster.machines[p].flop_s for p in found))

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def alike(self) -> bool:
        return len(set(self.weights)) <= 1

    def some(self, count: int) -> Team:
        """That many, spread over the whole team; of unequal ones the fastest.

        >>> Team.equal((0, 1, 2, 3)).some(2).places
        (0, 2)
        """
        n = len(self.places)
        if count >= n:
            return self
        if self.alike:
            kept = [i * n // count for i in range(count)]
        else:
            kept = sorted(sorted(range(n), key=lambda i: -self.weights[i])[:count])
        return Team(tuple(self.places[i] for i in kept), tuple(self.weights[i] for i in kept))

    def slice(self, start: int, stop: int) -> Team:
        """Neighbours."""
        return Team(self.places[start:stop], self.weights[start:stop])

    def only(self, allowed: tuple[int, ...]) -> Team:
        """Those of `allowed`, in its order; each with its weight here, or a mean one."""
        weight = dict(zip(self.places, self.weights, strict=True))
        mean = sum(self.weights) / len(self.weights)
        return Team(allowed, tuple(weight.get(p, mean) for p in allowed))

    def spread(self, count: int) -> tuple[int, ...]:
        """Places for row-major tiles, neighbours kept together, as many each as its weight asks.

        >>> Team((0, 1), (3.0, 1.0)).spread(4)
        (0, 0, 0, 1)
        """
        if self.alike:
            return tuple(self.places[i * len(self.places) // count] for i in range(count))
        ends = list(accumulate(self.weights))
        middles = ((i + 0.5) / count * ends[-1] for i in range(count))
        return tuple(self.places[min(bisect_right(ends, m), len(ends) - 1)] for m in middles)

    def cut(self, shape: tuple[int, ...], pieces: Mapping[int, int]) -> Cut:
        """A grid with so many pieces per axis; axes that are not named stay whole.

        With one tile for each place, widths go by the weights of the places along each axis.
        """
        counts = tuple(min(pieces.get(axis, 1), n) or 1 for axis, n in enumerate(shape))
        count = prod(counts)
        if self.alike or count != len(self.places):
            splits = tuple(even_splits(n, k) for n, k in zip(shape, counts, strict=True))
            return Cut(splits, self.spread(count))
        splits = tuple(shares(n, self._along(counts, axis)) for axis, n in enumerate(shape))
        return Cut(splits, self.places)

    def _along(self, counts: tuple[int, ...], axis: int) -> list[float]:
        """The weights of a grid of places, summed over all other axes."""
        stride = prod(counts[axis + 1 :])
        sums = [0.0] * counts[axis]
        for i, weight in enumerate(self.weights):
            sums[i // stride % counts[axis]] += weight
        return sums


def shares(length: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Bounds of ranges in proportion to weights, none empty. There must be at least as many
    elements as weights.

    >>> shares(10, (3, 1, 1))
    (0, 6, 8, 10)
    """
    total, count = sum(weights), len(weights)
    bounds = [0]
    for k, end in enumerate(accumulate(weights), 1):
        wanted = round(length * end / total) if total > 0 else -(-length * k // count)
        bounds.append(min(max(wanted, bounds[-1] + 1), length - (count - k)))
    return tuple(bounds)
