"""Line search for the strong Wolfe conditions, after Moré and Thuente.

Moré and Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM Transactions
on Mathematical Software 20(3), 1994; the constants are those of MINPACK-2's `dcsrch`, which is
also what L-BFGS-B uses. The conditions (Nocedal and Wright, "Numerical Optimization", 2nd
edition, eq. 3.7), for step a from a start with loss f(0) and slope f'(0) < 0:
    f(a) <= f(0) + c1 a f'(0)        sufficient decrease
    |f'(a)| <= c2 |f'(0)|            curvature
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from dbgraph.errors import UsageError
from dbgraph.optim.interpolate import Point, next_trial

Y = TypeVar("Y")
S = TypeVar("S")

_REACH = 4.0
"""While there is no interval, the next trial is at most so many times as far beyond the last as
that was beyond the best."""


@dataclass(frozen=True, slots=True)
class Wolfe:
    """What a step must fulfil, and when to give up.

    Attributes:
        decrease: c1.
        curvature: c2; 0.9 for Newton-like directions, 0.1 for conjugate gradients.
        trials: at most so many, and one more where the best was not the last.
        width: an interval whose width is below this fraction of its far end is narrow enough.
        longest: step.
    """

    decrease: float = 1e-3
    curvature: float = 0.9
    trials: int = 20
    width: float = 0.1
    longest: float = 1e10

    def __post_init__(self) -> None:
        if not 0 < self.decrease < self.curvature < 1:
            raise UsageError(
                f"line search: 0 < decrease={self.decrease} < curvature={self.curvature} < 1 "
                "must hold",
                hint="decrease=1e-3, curvature=0.9 suit L-BFGS",
            )
        if self.trials < 1:
            raise UsageError(f"line search: trials={self.trials}: must be at least 1")


@dataclass(frozen=True, slots=True)
class Found:
    """How a search ended.

    Attributes:
        point: the best; its step is 0 where no trial was better than the start.
        problem: why the conditions do not hold there; "" where they do.
    """

    point: Point
    problem: str = ""


def search(
    start: Point, first_step: float, wolfe: Wolfe, at: Callable[[float], Generator[Y, S, Point]]
) -> Generator[Y, S, Found]:
    """Looks for a step that fulfils the strong Wolfe conditions.

    A loss or slope that is not finite is taken as infinitely high: the search backs off.

    Args:
        start: its loss is finite, its slope below 0.
        at: evaluates the loss at a step; a generator, whose requests are passed on. Its last call
            is for the point that is returned, unless that is the start.
    """
    interval = _Interval(start, wolfe)
    step = min(first_step, wolfe.longest)
    for _ in range(wolfe.trials):
        trial = _finite((yield from at(step)))
        if interval.accepts(trial):
            return Found(trial)
        if problem := interval.ended(trial):
            break
        step = interval.narrow(trial)
        if problem := interval.too_narrow(step):
            break
    else:
        problem = f"no step fulfils the Wolfe conditions after {wolfe.trials} trials"
    best = interval.best
    if best.step not in (0.0, trial.step):
        yield from at(best.step)  # go back there
    return Found(best, problem)


def _finite(point: Point) -> Point:
    known = math.isfinite(point.loss) and math.isfinite(point.slope)
    return point if known else Point(point.step, math.inf, math.inf)


class _Interval:
    """Where the minimum is sought: between `best` and `other`, or beyond `best`."""

    def __init__(self, start: Point, wolfe: Wolfe) -> None:
        self.start, self.wolfe = start, wolfe
        self.best = start
        self.other: Point | None = None
        # Section 3: until a trial has the decrease and a slope >= 0, the minimum of the function
        # tilted by c1 f'(0) is sought, which is sure to lie where the decrease is sufficient.
        self._tilted = True
        self._widths = (math.inf, math.inf)  # of the last two intervals

    @property
    def _tilt(self) -> float:
        return self.wolfe.decrease * self.start.slope

    def _decreased(self, trial: Point) -> bool:
        return trial.loss <= self.start.loss + trial.step * self._tilt

    def accepts(self, trial: Point) -> bool:
        """Whether the strong Wolfe conditions hold."""
        steepest = -self.wolfe.curvature * self.start.slope
        return self._decreased(trial) and abs(trial.slope) <= steepest

    def ended(self, trial: Point) -> str:
        """Why there is no use in going on; "" where there is."""
        at_end = trial.step == self.wolfe.longest
        if at_end and self._decreased(trial) and trial.slope <= self._tilt:
            self.best = trial
            return f"the loss still falls at the longest step, {trial.step:g}"
        return ""

    def narrow(self, trial: Point) -> float:
        """Takes a trial in; returns the next step."""
        decreased = self._decreased(trial)
        if decreased and trial.slope >= 0:
            self._tilted = False
        tilt = self._tilt if self._tilted and not decreased and self._better(trial) else 0.0
        step = self._interpolate(trial, tilt)
        self._replace_end(trial, tilt)
        if self.other:
            step = self._bisect_when_slow(step, self.other)
        return min(max(step, 0.0), self.wolfe.longest)

    def _better(self, trial: Point) -> bool:
        return trial.loss <= self.best.loss

    def _interpolate(self, trial: Point, tilt: float) -> float:
        reach = trial.step + _REACH * (trial.step - self.best.step)
        other = self.other.tilted(tilt) if self.other else None
        return next_trial(self.best.tilted(tilt), other, trial.tilted(tilt), reach)

    def _replace_end(self, trial: Point, tilt: float) -> None:
        """Section 2, the updating algorithm: the interval goes on holding a minimum."""
        new, old = trial.tilted(tilt), self.best.tilted(tilt)
        if new.loss > old.loss:
            self.other = trial
            return
        if new.slope * old.slope < 0:
            self.other = self.best
        self.best = trial

    def _bisect_when_slow(self, step: float, other: Point) -> float:
        width = abs(other.step - self.best.step)
        slow = width >= 0.66 * self._widths[0]
        self._widths = (self._widths[1], width)
        return self.best.step + 0.5 * (other.step - self.best.step) if slow else step

    def too_narrow(self, step: float) -> str:
        """Why the interval is of no more use; "" where it is."""
        if not self.other:
            return ""
        low, high = sorted((self.best.step, self.other.step))
        if not low < step < high:
            return f"rounding leaves no step between {low:g} and {high:g}"
        if high - low <= self.wolfe.width * high:
            return f"between {low:g} and {high:g} no step fulfils the Wolfe conditions"
        return ""
