"""Nonlinear conjugate gradients, after Polak and Ribière.

Nocedal and Wright, "Numerical Optimization", 2nd edition, Algorithm 5.4 with eq. 5.44 and 5.45
(PR+): where beta would be negative the method restarts with steepest descent.
"""

from __future__ import annotations

from dbgraph.optim.linesearch import Wolfe
from dbgraph.optim.minimise import DIRECTION, GRADIENT, START_GRADIENT, Line, Taken
from dbgraph.optim.steepest import same_decrease, steepest_descent
from dbgraph.optim.vectors import Axpy, Dot, Scale, Steps


class ConjugateGradient:
    """The method; see `minimise.Method`. Its line search must be rather exact: curvature 0.1."""

    def __init__(self, wolfe: Wolfe | None = None) -> None:
        self.wolfe = wolfe or Wolfe(decrease=1e-4, curvature=0.1)
        self._last: Taken | None = None
        self._beta = 0.0

    def direction(self) -> Steps[Line]:
        if self._last is None:
            return (yield from steepest_descent())
        (slope,) = yield (
            Scale(self._beta, DIRECTION),
            Axpy(-1.0, GRADIENT, DIRECTION),
            Dot(DIRECTION, GRADIENT),
        )
        return same_decrease(Line(slope, 1.0), self._last)

    def learn(self, taken: Taken) -> Steps[None]:
        new, mixed, old = yield (
            Dot(GRADIENT, GRADIENT),
            Dot(GRADIENT, START_GRADIENT),
            Dot(START_GRADIENT, START_GRADIENT),
        )
        self._last = taken
        self._beta = max(0.0, (new - mixed) / old)

    def forget(self) -> bool:
        knew = self._last is not None
        self._last = None
        return knew
