"""Gradient descent with line search: the direction is the negative gradient."""

from __future__ import annotations

import sys

from dbgraph.optim.linesearch import Wolfe
from dbgraph.optim.minimise import DIRECTION, GRADIENT, Line, Taken
from dbgraph.optim.vectors import Axpy, Dot, Norm, Steps, Zero


def steepest_descent() -> Steps[Line]:
    """DIRECTION = -GRADIENT. The first step is of length 1: the gradient tells no scale."""
    slope, norm = yield (
        Zero(DIRECTION),
        Axpy(-1.0, GRADIENT, DIRECTION),
        Dot(DIRECTION, GRADIENT),
        Norm(GRADIENT),
    )
    return Line(slope, 1.0 / max(norm, sys.float_info.min))


def same_decrease(line: Line, last: Taken) -> Line:
    """The first step promises as much as the last step did (Nocedal and Wright, section 3.5)."""
    return Line(line.slope, last.step * last.slope / line.slope) if line.slope < 0 else line


class GradientDescent:
    """The method; see `minimise.Method`."""

    def __init__(self, wolfe: Wolfe | None = None) -> None:
        self.wolfe = wolfe or Wolfe()
        self._last: Taken | None = None

    def direction(self) -> Steps[Line]:
        line = yield from steepest_descent()
        return same_decrease(line, self._last) if self._last else line

    def learn(self, taken: Taken) -> Steps[None]:
        self._last = taken
        yield from ()

    def forget(self) -> bool:
        knew = self._last is not None
        self._last = None
        return knew
