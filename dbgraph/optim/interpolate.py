"""The next trial of a line search, by interpolation of what is known at three points.

Moré and Thuente, "Line search algorithms with guaranteed sufficient decrease", ACM Transactions
on Mathematical Software 20(3), 1994, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """What is known of a loss along a line.

    Attributes:
        step: where, from 0, the start.
        loss, slope: there; `slope` is the derivative by the step.
    """

    step: float
    loss: float
    slope: float

    def tilted(self, slope: float) -> Point:
        """The same point of the function loss(step) - slope * step."""
        return Point(self.step, self.loss - slope * self.step, self.slope - slope)


def next_trial(best: Point, other: Point | None, trial: Point, reach: float) -> float:
    """Where to try next: the paper's four cases.

    Args:
        best: the point of least loss so far.
        other: the other end of an interval that holds a minimum; None while there is none.
        trial: the newest point; a loss there that is infinite is a case 1.
        reach: as far as one may go while there is no interval.
    """
    found = _by_case(best, other, trial, reach)
    return found if math.isfinite(found) else _middle(best, trial)  # rounding, overflow


def _by_case(best: Point, other: Point | None, trial: Point, reach: float) -> float:
    if trial.loss > best.loss:  # a minimum lies between
        return _between(best, trial)
    if trial.slope * best.slope < 0:  # again, and the trial is better
        return _farther(trial.step, _cubic(trial, best), _secant(trial, best))
    if abs(trial.slope) < abs(best.slope):  # downhill still, but less so
        return _beyond(best, other, trial, reach)
    if other is None:
        return reach
    return _cubic(trial, other) if math.isfinite(other.loss) else _middle(trial, other)


def _between(best: Point, trial: Point) -> float:
    if not math.isfinite(trial.loss):
        return _middle(best, trial)
    cubic, quadratic = _cubic(best, trial), _quadratic(best, trial)
    if abs(cubic - best.step) < abs(quadratic - best.step):
        return cubic
    return cubic + (quadratic - cubic) / 2


def _beyond(best: Point, other: Point | None, trial: Point, reach: float) -> float:
    end = other.step if other else reach
    cubic, secant = _cubic_ahead(trial, best, end), _secant(trial, best)
    if other is None:
        return min(_farther(trial.step, cubic, secant), reach)
    nearer = cubic if abs(cubic - trial.step) < abs(secant - trial.step) else secant
    limit = trial.step + 0.66 * (other.step - trial.step)
    return min(limit, nearer) if trial.step > best.step else max(limit, nearer)


def _farther(step: float, a: float, b: float) -> float:
    return a if abs(a - step) > abs(b - step) else b


def _middle(a: Point, b: Point) -> float:
    return a.step + (b.step - a.step) / 2


def _secant(a: Point, b: Point) -> float:
    """Where the slope, linear between the two, is zero."""
    return a.step + _divide(a.slope, a.slope - b.slope) * (b.step - a.step)


def _quadratic(a: Point, b: Point) -> float:
    """Minimiser of the parabola through both losses and a's slope."""
    width = b.step - a.step
    return a.step + _divide(a.slope, _divide(a.loss - b.loss, width) + a.slope) / 2 * width


def _cubic(a: Point, b: Point) -> float:
    """Minimiser of the cubic through both losses and slopes; their middle where there is none."""
    found = _cubic_ratio(a, b)
    return _middle(a, b) if found is None else a.step + found * (b.step - a.step)


def _cubic_ahead(a: Point, b: Point, end: float) -> float:
    """The same where it lies on a's side that is away from b; else `end`."""
    found = _cubic_ratio(a, b)
    return a.step + found * (b.step - a.step) if found is not None and found < 0 else end


def _cubic_ratio(a: Point, b: Point) -> float | None:
    """The minimiser's place, from a (0) to b (1)."""
    theta = _divide(3 * (b.loss - a.loss), a.step - b.step) + a.slope + b.slope
    scale = max(abs(theta), abs(a.slope), abs(b.slope))
    root = _divide(theta, scale) ** 2 - _divide(a.slope, scale) * _divide(b.slope, scale)
    if not root > 0:
        return None
    gamma = math.copysign(scale * math.sqrt(root), b.step - a.step)
    bottom = (gamma - a.slope) + gamma + b.slope
    return _divide((gamma - a.slope) + theta, bottom)


def _divide(a: float, b: float) -> float:
    return a / b if b else math.nan
