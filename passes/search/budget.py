"""How long a search may take: in seconds, or in steps, which are the same everywhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import inf

STEPS_PER_EFFORT = 50_000
"""Steps in one second of CP-SAT's deterministic time: about as many moves as are tried in one."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a search; whichever is reached first ends it.

    Attributes:
        seconds: wall-clock; inf for none. Where this ends the search, the result depends on the
            machine.
        steps: moves tried, or their equivalent. The same seed and steps give the same result.
    """

    seconds: float = 10.0
    steps: float = inf

    def start(self) -> Clock:
        return Clock(self)


@dataclass(slots=True)
class Clock:
    """A budget that runs."""

    budget: Budget
    spent: float = 0.0
    _begun: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._begun

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.budget.seconds - self.elapsed_s)

    @property
    def steps_left(self) -> float:
        return max(0.0, self.budget.steps - self.spent)

    @property
    def effort_left_s(self) -> float:
        """The steps left, in CP-SAT's deterministic time."""
        return self.steps_left / STEPS_PER_EFFORT

    @property
    def over(self) -> bool:
        return self.spent >= self.budget.steps or self.elapsed_s >= self.budget.seconds

    def spend(self, steps: float) -> None:
        self.spent += steps

    def spend_effort(self, effort_s: float) -> None:
        self.spend(effort_s * STEPS_PER_EFFORT)

    def part(self, share: float) -> Clock:
        """A clock of its own for a share of what is left; what it spends is to be added here."""
        return Budget(self.seconds_left * share, self.steps_left * share).start()


__all__ = ["STEPS_PER_EFFORT", "Budget", "Clock"]
