"""A mean over any number of examples, by runs of a program whose batch is fixed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbgraph.sampler import sweep


class RunOf(NamedTuple):
    """One run of the program: its part of a sum.

    Attributes:
        examples: int64[batch].
    """

    examples: np.ndarray
    factor: float


def runs_of(examples: np.ndarray, batch: int) -> list[RunOf]:
    """Runs whose losses and gradients, times their factors, add up to the mean over the examples.

    >>> [(run.examples.tolist(), run.factor) for run in runs_of(np.arange(3), 2)]
    [([0, 1], 0.6666666666666666), ([2, 2], 0.6666666666666666), ([2, 2], -0.3333333333333333)]
    """
    count = len(examples)
    found: list[RunOf] = []
    for places, valid in sweep(count, batch):
        found.append(RunOf(examples[places], batch / count))
        if valid < batch:
            copies = np.full_like(places, places[-1])
            found.append(RunOf(examples[copies], (valid - batch) / count))
    return found
