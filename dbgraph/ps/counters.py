"""What a shard has done, for live tables and logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Counters:
    """Of one shard.

    Attributes:
        pushes, fetches: applied, answered.
        duplicates: pushes that came again.
        pushed_bytes, fetched_bytes: of the arrays; staged pushes too.
        saved_bytes: how many more they would have been without compression.
        staleness: number of pushes by their staleness.
    """

    pushes: int = 0
    fetches: int = 0
    duplicates: int = 0
    pushed_bytes: int = 0
    fetched_bytes: int = 0
    saved_bytes: int = 0
    staleness: Counter[int] = field(default_factory=Counter)

    def pushed(self, plain_bytes: int, arrays: Sequence[np.ndarray], staleness: int) -> None:
        self.staged(plain_bytes, arrays)
        self.pushes += 1
        self.staleness[staleness] += 1

    def staged(self, plain_bytes: int, arrays: Sequence[np.ndarray]) -> None:
        """It has come, and is applied later."""
        came_bytes = sum(array.nbytes for array in arrays)
        self.pushed_bytes += came_bytes
        self.saved_bytes += plain_bytes - came_bytes

    def fetched(self, plain_bytes: int, arrays: Sequence[np.ndarray]) -> None:
        sent_bytes = sum(array.nbytes for array in arrays)
        self.fetches += 1
        self.fetched_bytes += sent_bytes
        self.saved_bytes += plain_bytes - sent_bytes
