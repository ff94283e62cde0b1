"""Limited-memory BFGS, with the history as vectors of the space.

Nocedal and Wright, "Numerical Optimization", 2nd edition, Algorithm 7.4 (the two-loop recursion)
and eq. 7.20 (its initial matrix). Word for word, the recursion waits for 2 m scalar products one
after the other. Yet it only ever combines the vectors s, y and the gradient: so we run it on
coordinates in that basis, where a scalar product needs the basis' scalar products alone, all of
them asked for in one batch (Chen, Wang and Zhou, "Large-scale L-BFGS using MapReduce", NIPS 2014).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from dbgraph.errors import UsageError
from dbgraph.optim.linesearch import Wolfe
from dbgraph.optim.minimise import DIRECTION, GRADIENT, START_GRADIENT, Line, Taken
from dbgraph.optim.vectors import AnyCommand, Axpy, Copy, Dot, Norm, Scale, Steps, Zero

Coordinates = npt.NDArray[np.float64]
Pair = tuple[str, str]


def two_loop(gram: npt.NDArray[np.float64]) -> Coordinates:
    """Algorithm 7.4: the coordinates of the inverse Hessian's product with the gradient.

    Args:
        gram: [2m + 1, 2m + 1], m >= 1: the scalar products of s_1 … s_m, y_1 … y_m, gradient,
            oldest first. Those of s_i with s_j, and of s_i with y_j for j < i, are not needed:
            give 0.

    Returns [2m + 1].
    """
    m = len(gram) // 2
    s, y, g = range(m), range(m, 2 * m), 2 * m
    curvature = gram[s, y]
    alpha = np.zeros(m)
    q = np.zeros(2 * m + 1)
    q[g] = 1.0
    for i in reversed(range(m)):
        alpha[i] = gram[s[i]] @ q / curvature[i]
        q[y[i]] -= alpha[i]
    r: Coordinates = q * curvature[-1] / gram[y[-1], y[-1]]
    for i in range(m):
        beta = gram[y[i]] @ r / curvature[i]
        r[s[i]] += alpha[i] - beta
    return r


class LBFGS:
    """The method; see `minimise.Method`.

    Args:
        history: pairs (s, y) that are kept, each two vectors.
        pairs: those that stand on the space already, oldest first, so that a run can go on:
            `pairs` of the method that ran before, whose `vectors` were saved.
    """

    def __init__(
        self, history: int = 10, wolfe: Wolfe | None = None, pairs: Iterable[int] = ()
    ) -> None:
        if history < 1:
            raise UsageError(f"L-BFGS: history={history}: must be at least 1")
        self.history = history
        self.wolfe = wolfe or Wolfe()
        self.pairs = list(pairs)
        self._products: dict[Pair, float] = {}

    @property
    def vectors(self) -> tuple[str, ...]:
        """Those of its pairs: what a snapshot needs beside the parameters."""
        return (*map(_s, self.pairs), *map(_y, self.pairs))

    def direction(self) -> Steps[Line]:
        if not self.pairs:
            slope, norm = yield (*_towards([(-1.0, GRADIENT)]), Norm(GRADIENT))
            return Line(slope, 1.0 / max(norm, sys.float_info.min))
        yield from self._measure()
        names = (*self.vectors, GRADIENT)
        coordinates = two_loop(self._gram(names))
        (slope,) = yield _towards(zip(-coordinates, names, strict=True))
        return Line(slope, 1.0)

    def learn(self, taken: Taken) -> Steps[None]:
        place = self._place()
        s, y = _s(place), _y(place)
        self.pairs = [pair for pair in self.pairs if pair != place] + [place]
        self._products = {
            pair: value
            for pair, value in self._products.items()
            if not {s, y, GRADIENT} & set(pair)
        }
        step = (Copy(DIRECTION, s), Scale(taken.step, s))
        change = (Copy(GRADIENT, y), Axpy(-1.0, START_GRADIENT, y))
        yield from self._measure(*step, *change)
        if not self._products[s, y] > sys.float_info.epsilon * self._products[y, y]:
            self.pairs.pop()  # Byrd, Lu, Nocedal and Zhu 1995, eq. 3.9: keep the matrix positive

    def forget(self) -> bool:
        knew = bool(self.pairs)
        self.pairs = []
        return knew

    def _place(self) -> int:
        """Where the next pair goes: a free place, or that of the oldest."""
        free = set(range(self.history)) - set(self.pairs)
        return min(free, default=self.pairs[0] if self.pairs else 0)

    def _measure(self, *first: AnyCommand) -> Steps[None]:
        """Asks, after the commands given, for all scalar products that the recursion reads."""
        missing = [pair for pair in self._needed() if pair not in self._products]
        if missing:
            answers = yield (*first, *(Dot(*pair) for pair in missing))
            self._products.update(zip(missing, answers, strict=True))

    def _needed(self) -> Iterable[Pair]:
        for age, older in enumerate(self.pairs):
            yield (_s(older), GRADIENT)
            yield (_y(older), GRADIENT)
            for newer in self.pairs[age:]:
                yield (_s(older), _y(newer))
                yield (_y(older), _y(newer))

    def _gram(self, names: tuple[str, ...]) -> npt.NDArray[np.float64]:
        def product(a: str, b: str) -> float:
            return self._products.get((a, b), self._products.get((b, a), 0.0))

        return np.array([[product(a, b) for b in names] for a in names])


def _towards(terms: Iterable[tuple[float, str]]) -> tuple[AnyCommand, ...]:
    """DIRECTION = the sum of factor × vector; its slope is asked for."""
    sums = (Axpy(float(factor), name, DIRECTION) for factor, name in terms)
    return (Zero(DIRECTION), *sums, Dot(DIRECTION, GRADIENT))


def _s(pair: int) -> str:
    return f"s{pair}"


def _y(pair: int) -> str:
    return f"y{pair}"
