"""The cores of one host, and its memory, shared by the machines on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf


@dataclass
class _Share:
    """Some cores, and the tasks on them: processor sharing. Where these together want more cores
    than there are, all slow down by the same factor, as threads do under a fair scheduler.

    All run at one rate, so one clock of work done serves them all: a task ends when that clock
    shows what it showed at its start plus the task's own seconds.
    """

    cores: int
    wanted: int = 0
    done_s: float = 0.0
    tasks: list[tuple[float, int, int, int]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.cores / self.wanted if self.wanted > self.cores else 1.0

    @property
    def left_s(self) -> float:
        """Of the task that ends next, at this rate."""
        return (self.tasks[0][0] - self.done_s) / self.rate if self.tasks else inf


class SharedCores:
    """What the busy machines of a host take from one another.

    Args:
        shares: the number of cores in each share; a machine runs in one of them alone.
        crowding: what each task that runs adds to the time of all others, as they share memory and
            caches: with n of them at once all take 1 + crowding · (n - 1) times as long. No more
            run at once than there are cores.
    """

    def __init__(self, shares: tuple[int, ...], crowding: float = 0.0) -> None:
        self._shares = tuple(_Share(cores) for cores in shares)
        self._crowding = crowding
        self._cores = sum(shares)
        self._begun = self._busy = 0
        self._now = 0.0

    def add(self, machine: int, share: int, seconds: float, cores: int, now: float) -> None:
        """A machine begins a task that takes so long on a host that is free."""
        self._advance(now)
        self._busy += 1
        self._begun += 1
        there = self._shares[share]
        there.wanted += cores
        heappush(there.tasks, (there.done_s + seconds, self._begun, machine, cores))

    def end(self, now: float) -> int:
        """The task that was to end now ends. Returns whose it was."""
        ending = min(self._shares, key=lambda share: share.left_s)
        self._advance(now)
        ending.done_s, _, machine, cores = heappop(ending.tasks)
        ending.wanted -= cores
        self._busy -= 1
        return machine

    def next_end_s(self) -> float:
        """When the next task ends, if none begins before; inf: there is none."""
        left_s = min(share.left_s for share in self._shares)
        return self._now + left_s * self._slowness if left_s < inf else inf

    def _advance(self, now: float) -> None:
        passed_s = (now - self._now) / self._slowness
        for share in self._shares:
            share.done_s += passed_s * share.rate
        self._now = now

    @property
    def _slowness(self) -> float:
        running = min(self._busy, self._cores)
        return 1.0 + self._crowding * max(running - 1, 0)
