"""When to tell people that training goes wrong; asynchronous training may."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from statistics import fmean

WINDOW = 50
"""Losses of single batches are noisy: means over so many are compared."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something is wrong.

    Attributes:
        rule: for people: what, with its values.
        replica, step: where it shows; the step counts in the replica's epoch. Replica None: a
            run without replicas.
    """

    rule: str
    replica: int | None
    step: int
    loss: float


class LossWatch:
    """Watches the losses of all replicas, in the order in which they come; they are finite.

    The loss has risen when the mean of the last WINDOW losses is above the lowest such mean by
    half of the first one, or half of what it had fallen since, whichever is more; it is told
    again only after it has come down.
    """

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._first = self._lowest = inf
        self._has_risen = False

    def told(self, replica: int | None, step: int, loss: float) -> Alarm | None:
        """Takes a step's loss."""
        self._last.append(loss)
        mean = fmean(self._last)
        if len(self._last) < WINDOW:
            return None
        if self._first == inf:
            self._first = mean
        self._lowest = min(self._lowest, mean)
        before = self._has_risen
        fallen = max(abs(self._first), self._first - self._lowest)
        self._has_risen = mean > self._lowest + fallen / 2
        if before or not self._has_risen:
            return None
        rule = (
            f"the loss rises: {mean:.4g} on average over the last {WINDOW} steps, after "
            f"{self._lowest:.4g}; the last one is {_where(replica, step)}"
        )
        return Alarm(rule, replica, step, loss)


def _where(replica: int | None, step: int) -> str:
    return f"step {step}" if replica is None else f"replica {replica}'s step {step}"
