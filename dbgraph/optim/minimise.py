"""Minimising a loss over a distributed vector space: a method's directions × a line search.

From iterate to iterate:
    direction (the method) → step along it (the line search, each trial a distributed evaluation)
    → the method learns from the step → has it converged?
No vector is held here: see `vectors`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

from dbgraph.errors import UsageError
from dbgraph.optim.interpolate import Point
from dbgraph.optim.linesearch import Found, Wolfe, search
from dbgraph.optim.vectors import PARAMETERS, Axpy, Copy, Dot, Evaluate, MaxAbs, Report, Steps

GRADIENT = "gradient"
"""At the parameters."""
START, START_GRADIENT = "start", "start_gradient"
"""Where the present line search began: the iterate before, once it is done."""
DIRECTION = "direction"


@dataclass(frozen=True, slots=True)
class Line:
    """A direction, which stands in DIRECTION.

    Attributes:
        slope: the scalar product of direction and gradient: below 0 where it leads down.
        first_step: worth trying first, in units of the direction.
    """

    slope: float
    first_step: float


@dataclass(frozen=True, slots=True)
class Taken:
    """A step from START along DIRECTION, of length `step`; `slope` is where it began."""

    step: float
    slope: float


class Method(Protocol):
    """Chooses directions."""

    @property
    def wolfe(self) -> Wolfe:
        """What its steps must fulfil."""

    def direction(self) -> Steps[Line]:
        """Writes DIRECTION, downhill from GRADIENT."""

    def learn(self, taken: Taken) -> Steps[None]:
        """A step was taken; START, START_GRADIENT and DIRECTION are still those of its start."""

    def forget(self) -> bool:
        """Begins anew, with steepest descent; returns whether that changes anything."""


class Status(IntEnum):
    """The codes of SciPy's `minimize(method="L-BFGS-B")`."""

    CONVERGED = 0
    LIMIT = 1
    ABNORMAL = 2


@dataclass(frozen=True, slots=True)
class Stop:
    """When to stop, with the names and defaults of SciPy's L-BFGS-B.

    Attributes:
        gtol: converged where no element of the gradient is larger (the Fortran code's `pgtol`).
        ftol: converged where an iteration reduces the loss by no more than ftol times
            max(|before|, |after|, 1). The Fortran code's `factr` is ftol / 2.2e-16. A loss
            computed in float32 is known to about 1e-6 of itself: ask for no less.
        maxiter: iterations.
        maxfun: evaluations, and perhaps one more that goes back to the best.
    """

    gtol: float = 1e-5
    ftol: float = 2.220446049250313e-09
    maxiter: int = 15000
    maxfun: int = 15000

    def __post_init__(self) -> None:
        for name in ("gtol", "ftol", "maxiter", "maxfun"):
            value = getattr(self, name)
            if not value >= 0:
                raise UsageError(f"{name}={value}: must be at least 0")


@dataclass(frozen=True, slots=True)
class Result:
    """How it ended, at the parameters of least loss that were reached; they stay in PARAMETERS.

    Attributes:
        fun: the loss.
        max_gradient: the largest absolute element of the gradient.
        nit, nfev: iterations, evaluations.
    """

    fun: float
    max_gradient: float
    nit: int
    nfev: int
    status: Status
    message: str

    @property
    def success(self) -> bool:
        return self.status is Status.CONVERGED


def minimise(
    method: Method, stop: Stop | None = None, begun: Report | None = None
) -> Steps[Result]:
    """Minimises the loss from the present PARAMETERS on. The loss must be a function: the same
    parameters always give the same (no dropout, the same examples).

    Args:
        begun: the report at which an earlier run stopped, so that its counts go on.
    """
    return _Minimiser(method, stop or Stop(), begun).run()


class _Minimiser:
    def __init__(self, method: Method, stop: Stop, begun: Report | None) -> None:
        self.method = method
        self.stop = stop
        self.iterations = begun.iteration if begun else 0
        self.evaluations = begun.evaluations if begun else 0
        self.loss = self.max_gradient = self.trial_gradient = math.nan
        self.reduction = math.inf  # relative, by the last iteration
        self.failed = False  # the last line search did
        self.stuck = ""  # why no step can be found any more

    def run(self) -> Steps[Result]:
        yield from self._begin()
        while not (ended := self._ended()):
            line = yield from self.method.direction()
            found = yield from self._search(line)
            if found.point.step:
                yield from self._take(line, found.point)
            else:
                yield (Copy(START, PARAMETERS), Copy(START_GRADIENT, GRADIENT))
                self.reduction = 0.0
            self._judge(line, found)
        return Result(self.loss, self.max_gradient, self.iterations, self.evaluations, *ended)

    def _begin(self) -> Steps[None]:
        (self.loss,) = yield Evaluate(GRADIENT)
        (self.max_gradient,) = yield (MaxAbs(GRADIENT),)
        self.evaluations += 1
        yield self._report(0.0)

    def _ended(self) -> tuple[Status, str] | None:
        stop = self.stop
        if not math.isfinite(self.loss + self.max_gradient):
            at = f"the loss is {self.loss:g}, its largest gradient element {self.max_gradient:g}"
            return Status.ABNORMAL, f"at the start {at}"
        if self.max_gradient <= stop.gtol:
            return Status.CONVERGED, f"the largest element of the gradient is <= gtol={stop.gtol:g}"
        if self.reduction <= stop.ftol:
            return Status.CONVERGED, f"relative reduction of the loss <= ftol={stop.ftol:g}"
        if self.iterations >= stop.maxiter:
            return Status.LIMIT, f"maxiter={stop.maxiter} iterations"
        if self.evaluations >= stop.maxfun:
            return Status.LIMIT, f"maxfun={stop.maxfun} evaluations"
        return (Status.ABNORMAL, self.stuck) if self.stuck else None

    def _search(self, line: Line) -> Steps[Found]:
        yield (Copy(PARAMETERS, START), Copy(GRADIENT, START_GRADIENT))
        start = Point(0.0, self.loss, line.slope)
        if not line.slope < 0:
            return Found(start, f"the direction's slope is {line.slope:g}, not below 0")
        wolfe = self.method.wolfe
        trials = min(wolfe.trials, self.stop.maxfun - self.evaluations)
        wolfe = replace(wolfe, trials=trials)
        return (yield from search(start, line.first_step, wolfe, self._at))

    def _at(self, step: float) -> Steps[Point]:
        yield (Copy(START, PARAMETERS), Axpy(step, DIRECTION, PARAMETERS))
        (loss,) = yield Evaluate(GRADIENT)
        self.evaluations += 1
        slope, self.trial_gradient = yield (Dot(DIRECTION, GRADIENT), MaxAbs(GRADIENT))
        return Point(step, loss, slope)

    def _take(self, line: Line, point: Point) -> Steps[None]:
        before, self.loss = self.loss, point.loss
        self.reduction = (before - self.loss) / max(abs(before), abs(self.loss), 1.0)
        self.iterations += 1
        self.max_gradient = self.trial_gradient
        yield from self.method.learn(Taken(point.step, line.slope))
        yield self._report(point.step)

    def _judge(self, line: Line, found: Found) -> None:
        """A search that failed and gained next to nothing is no convergence."""
        failed = found.problem != "" and self.reduction <= self.stop.ftol
        if failed:
            # Unless even a straight line promises less: then rounding hides what is left.
            promised = -line.slope * line.first_step / max(abs(self.loss), 1.0)
            self.reduction = promised if promised > 0 else math.inf
            if self.reduction > self.stop.ftol and (self.failed or not self.method.forget()):
                self.stuck = f"the line search failed: {found.problem}"
        self.failed = failed

    def _report(self, step: float) -> Report:
        return Report(self.iterations, self.evaluations, self.loss, self.max_gradient, step)
