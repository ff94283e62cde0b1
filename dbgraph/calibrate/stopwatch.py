"""Times hand-made plans on real workers, one after another in rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dbgraph.backends.base import Backend
from dbgraph.calibrate.sketch import Sketch
from dbgraph.job import Job, Step
from dbgraph.plan.plan import Plan

_LONG_S = 5e-3
"""Both steps that are compared are longer: threads that have slept for some milliseconds wake
more slowly, and steps of a network are of that kind."""
_WANT = frozenset({"loss"})

Say = Callable[[float], None]
"""Is told which part of the work is done, from 0 to 1."""


def typical_s(values: Sequence[float]) -> float:
    """The lower quartile: what else a host does makes steps longer, never shorter."""
    return float(np.quantile(values, 0.25))


@dataclass(frozen=True)
class Ladder:
    """One thing to be timed: plans that do it 1, 2, 4, … times.

    Attributes:
        counts: of each plan.
    """

    counts: tuple[int, ...]
    plans: tuple[Plan, ...]

    @staticmethod
    def of(make: Callable[[int], Plan], counts: tuple[int, ...]) -> Ladder:
        return Ladder(counts, tuple(make(count) for count in counts))


class Stopwatch:
    """Starts a job of hand-made plans, and times steps of it."""

    def __init__(self, backend: Backend, ladders: Mapping[str, Ladder]) -> None:
        self._backend, self._ladders = backend, ladders
        self._number = 0
        rungs = {
            f"{name} x{count}": plan
            for name, ladder in ladders.items()
            for count, plan in zip(ladder.counts, ladder.plans, strict=True)
        }
        backend.start(Job({"parameters": _parameters(ladders.values()), **rungs}))
        backend.load(None)

    def step_s(self, name: str, count: int) -> float:
        """Seconds of one step of a ladder's plan."""
        self._number += 1
        step = Step(f"{name} x{count}", self._number, feeds={}, want=_WANT)
        begin = time.perf_counter()
        self._backend.step(step)
        return time.perf_counter() - begin

    def each_s(
        self, names: Sequence[str], rounds: int, say: Say = lambda done: None
    ) -> dict[str, float]:
        """What each ladder's thing takes, over so many rounds: a step that does it n times takes
        so much longer with every time. Noise may bring it below zero."""
        low: dict[str, int] = {}
        for done, name in enumerate(names):
            say(done / len(names) / 2)
            low[name] = self._long_enough(name)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for done in range(rounds):
            say((1 + done / rounds) / 2)
            for name, rung in low.items():
                one, two = self._ladders[name].counts[rung : rung + 2]
                found[name].append((self.step_s(name, one), self.step_s(name, two)))
        return {name: self._each_s(name, low[name], times) for name, times in found.items()}

    def _each_s(self, name: str, rung: int, times: Sequence[tuple[float, float]]) -> float:
        one, two = self._ladders[name].counts[rung : rung + 2]
        one_s, two_s = (typical_s(values) for values in zip(*times, strict=True))
        return (two_s - one_s) / (two - one)

    def _long_enough(self, name: str) -> int:
        """The first rung that takes long, and is not the last. Compiles it and the next."""
        counts = self._ladders[name].counts
        last = len(counts) - 2
        rung = next((k for k in range(last) if self._is_long(name, counts[k])), last)
        self.step_s(name, counts[rung + 1])
        return rung

    def _is_long(self, name: str, count: int) -> bool:
        self.step_s(name, count)  # compiles
        return min(self.step_s(name, count) for _ in range(2)) > _LONG_S


def _parameters(ladders: Collection[Ladder]) -> Plan:
    """A job's first plan has the parameters of all others."""
    plans = [ladder.plans[0] for ladder in ladders]
    sketch = Sketch(max(plan.partitions for plan in plans))
    for plan in plans:
        sketch.take_parameters(plan.graph)
    return sketch.plan()
