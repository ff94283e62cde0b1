"""Times hand-made plans on real workers, one after another in rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dbgraph.backends.base import Backend
from dbgraph.job import Job, Step
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan

_LONG_S = 5e-3
"""A difference between two steps must be this long to stand out of their own scatter."""
FIRST = "first"
_WANT = frozenset({"loss"})

Say = Callable[[float], None]
"""Is told which part of the work is done, from 0 to 1."""


def typical_s(values: Sequence[float]) -> float:
    """The lower quartile: what else a host does makes steps longer, never shorter."""
    return float(np.quantile(values, 0.25))


@dataclass(frozen=True)
class Ladder:
    """One thing to be timed: plans that do it 1, 4, 16, … times.

    Attributes:
        counts: of each plan.
    """

    counts: tuple[int, ...]
    plans: tuple[Plan, ...]

    @staticmethod
    def of(make: Callable[[int], Plan], counts: tuple[int, ...]) -> Ladder:
        return Ladder(counts, tuple(make(count) for count in counts))


class Stopwatch:
    """Starts a job of hand-made plans, and times steps of it.

    Args:
        plans: further ones, by name; the first of all must have the parameters of all.
    """

    def __init__(
        self,
        backend: Backend,
        ladders: Mapping[str, Ladder],
        plans: Mapping[str, Plan],
        rule: Rule | None = None,
    ) -> None:
        self._backend, self._ladders = backend, ladders
        self._number = 0
        rungs = {
            f"{name} x{count}": plan
            for name, ladder in ladders.items()
            for count, plan in zip(ladder.counts, ladder.plans, strict=True)
        }
        backend.start(Job({**plans, **rungs}, rule))
        backend.load(None)

    def plan_s(self, name: str) -> float:
        """Seconds of one step of a plan of the job."""
        self._number += 1
        step = Step(name, self._number, feeds={}, want=_WANT)
        begin = time.perf_counter()
        self._backend.step(step)
        return time.perf_counter() - begin

    def step_s(self, name: str, count: int) -> float:
        """Seconds of one step of a ladder's plan."""
        return self.plan_s(f"{name} x{count}")

    def each_s(
        self, names: Sequence[str], rounds: int, say: Say = lambda done: None
    ) -> dict[str, float]:
        """Seconds of one time of each ladder's thing, over so many rounds; below zero where they
        drown in noise."""
        chosen = {}
        for done, name in enumerate(names):
            say(done / len(names) / 2)
            chosen[name] = self._long_enough(name)
        found: dict[str, list[float]] = {name: [] for name in names}
        for done in range(rounds):
            say((1 + done / rounds) / 2)
            for name, (low, high) in chosen.items():
                more_s = self.step_s(name, high) - self.step_s(name, low)
                found[name].append(more_s / (high - low))
        return {name: typical_s(values) for name, values in found.items()}

    def _long_enough(self, name: str) -> tuple[int, int]:
        """The smallest count, and the first that takes longer enough. Compiles both."""
        low, *higher = self._ladders[name].counts
        self.step_s(name, low)
        for high in higher:
            self.step_s(name, high)
            least_s = min(self.step_s(name, high) - self.step_s(name, low) for _ in range(2))
            if least_s > _LONG_S:
                break
        return low, high
