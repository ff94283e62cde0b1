"""Which examples a step takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dbgraph.errors import DataError


@dataclass(frozen=True)
class Batches:
    """Which examples each training step takes: a pure function of the step's number, so a run is
    resumed by that number alone.

    Every epoch is a permutation of all examples, by seed and epoch; the examples that fill no
    whole batch at its end are left out of this epoch.

    Args:
        length: number of examples.
        batch: examples per step.
    """

    length: int
    batch: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.length < self.batch:
            raise DataError(
                f"the data has {self.length} examples, a batch takes {self.batch}",
                hint=f"declare the network with batch={self.length} or less, or give more data",
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.length // self.batch

    def epoch(self, step: int) -> int:
        return step // self.steps_per_epoch

    def examples(self, step: int) -> np.ndarray:
        """int64[batch]."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = _permutation(self.length, self.seed, epoch)
        return order[place * self.batch : (place + 1) * self.batch]


@lru_cache(maxsize=2)
def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    """int64[length], read-only. NumPy keeps the streams of RandomState fixed for good, so that a
    run resumes alike under another version."""
    entropy = np.random.SeedSequence((seed % 2**64, epoch))
    order = np.random.RandomState(np.random.MT19937(entropy)).permutation(length)
    order = order.astype(np.int64, copy=False)
    order.setflags(write=False)
    return order


def sweep(length: int, batch: int) -> Iterator[tuple[np.ndarray, int]]:
    """All examples once, in order: (int64[batch], how many of them count).

    The last batch is filled up with its last example.
    """
    for start in range(0, length, batch):
        valid = min(batch, length - start)
        yield np.minimum(np.arange(start, start + batch, dtype=np.int64), length - 1), valid
