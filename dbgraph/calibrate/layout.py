"""Which partitions stand on which host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

Pair = tuple[int, int]
"""Two partitions."""


@dataclass(frozen=True)
class Layout:
    """Which partitions stand together.

    Attributes:
        hosts: the host of each partition, numbered in the order in which they come.
    """

    hosts: tuple[int, ...]

    @staticmethod
    def of(names: Sequence[str]) -> Layout:
        """Args: names: the host of each partition."""
        numbers = {name: k for k, name in enumerate(dict.fromkeys(names))}
        return Layout(tuple(numbers[name] for name in names))

    @property
    def machines(self) -> tuple[int, ...]:
        """One of each host: those that are measured."""
        return tuple(self.hosts.index(host) for host in dict.fromkeys(self.hosts))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """One inside a host, and one between hosts, where there are such."""
        kinds: dict[bool, Pair] = {}
        for a, b in combinations(range(len(self.hosts)), 2):
            kinds.setdefault(self.hosts[a] == self.hosts[b], (a, b))
        return tuple(kinds.values())
