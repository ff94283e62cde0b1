"""Which partitions stand on which host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Which partitions stand together.

    Attributes:
        hosts: the host of each partition, numbered in the order in which they come.
        cores: of each host; None: not known.
        pinned: whether each partition runs on one core alone.
    """

    hosts: tuple[int, ...]
    cores: int | None = None
    pinned: bool = False

    @staticmethod
    def of(names: Sequence[str]) -> Layout:
        """Args: names: the host of each partition."""
        numbers = {name: k for k, name in enumerate(dict.fromkeys(names))}
        return Layout(tuple(numbers[name] for name in names))

    @property
    def machines(self) -> tuple[int, ...]:
        """One of each host: those that are measured."""
        return tuple(self.hosts.index(host) for host in dict.fromkeys(self.hosts))
