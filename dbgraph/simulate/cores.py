"""The cores of one host, shared by the machines on it."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf


class SharedCores:
    """Processor sharing. Every task keeps some cores busy; where together they want more than the
    host has, all slow down by the same factor, as threads do under a fair scheduler.

    All run at one rate, so one clock of work done serves them all: a task ends when that clock
    shows what it showed at its start plus the task's own seconds.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self._wanted = 0
        self._begun = 0
        self._done_s = 0.0
        self._now = 0.0
        self._tasks: list[tuple[float, int, int, int]] = []

    def add(self, machine: int, seconds: float, cores: int, now: float) -> None:
        """A machine begins a task that takes so long on free cores."""
        self._done_s += (now - self._now) * self._rate
        self._now = now
        self._wanted += cores
        self._begun += 1
        heappush(self._tasks, (self._done_s + seconds, self._begun, machine, cores))

    def end(self, now: float) -> int:
        """The task that was to end now ends. Returns whose it was."""
        self._done_s, _, machine, cores = heappop(self._tasks)
        self._now = now
        self._wanted -= cores
        return machine

    def next_end_s(self) -> float:
        """When the next task ends, if none begins before; inf: there is none."""
        if not self._tasks:
            return inf
        return self._now + (self._tasks[0][0] - self._done_s) / self._rate

    @property
    def _rate(self) -> float:
        return self.cores / self._wanted if self._wanted > self.cores else 1.0
