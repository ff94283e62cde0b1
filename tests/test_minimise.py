"""How a minimisation ends: converged, at a limit, stuck; the parameters are always the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from objectives import (
    METHODS,
    Vector,
    rosenbrock,
    rosenbrock_start,
    solve,
)

from dbgraph.optim.lbfgs import LBFGS
from dbgraph.optim.minimise import Method, Status, Stop


@pytest.mark.parametrize("method", METHODS)
def test_the_parameters_are_always_those_of_the_result(method: Callable[[], Method]) -> None:
    for maxfun in range(1, 60):
        result, space, reports = solve(
            method(), rosenbrock, rosenbrock_start(4), Stop(maxfun=maxfun, ftol=0)
        )
        assert result.nfev <= maxfun + 1
        assert result.fun == rosenbrock(space.parameters)[0] == reports[-1].loss
        assert result.max_gradient == np.abs(rosenbrock(space.parameters)[1]).max()
        assert [report.iteration for report in reports] == [*range(result.nit + 1)]
        assert all(a.loss > b.loss for a, b in pairwise(reports))


@pytest.mark.parametrize("method", METHODS)
def test_a_bowl_is_solved(method: Callable[[], Method]) -> None:
    scales = np.linspace(1, 10, 8)
    result, space, _ = solve(
        method(), lambda x: (float(scales @ x**2) / 2, scales * x), np.ones(8), Stop(ftol=0)
    )
    assert result.success
    assert np.abs(space.parameters).max() < 1e-5


@pytest.mark.parametrize(
    ("stop", "status", "message"),
    [
        (Stop(gtol=1e9), Status.CONVERGED, "gtol=1e+09"),
        (Stop(ftol=0.5), Status.CONVERGED, "ftol=0.5"),
        (Stop(maxiter=3), Status.LIMIT, "maxiter=3 iterations"),
        (Stop(maxfun=5), Status.LIMIT, "maxfun=5 evaluations"),
        (Stop(maxfun=0), Status.LIMIT, "maxfun=0 evaluations"),
    ],
)
def test_it_says_why_it_stopped(stop: Stop, status: Status, message: str) -> None:
    result, _, _ = solve(LBFGS(), rosenbrock, rosenbrock_start(4), stop)
    assert (result.status, result.success) == (status, status is Status.CONVERGED)
    assert message in result.message
    assert result.nit <= stop.maxiter


def test_at_the_minimum_nothing_is_done() -> None:
    result, _, _ = solve(LBFGS(), rosenbrock, np.ones(4), Stop(gtol=0))
    assert (result.status, result.nit, result.nfev) == (Status.CONVERGED, 0, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_start_that_is_not_finite_is_told(bad: float) -> None:
    result, _, _ = solve(LBFGS(), lambda x: (bad, x), np.ones(2))
    assert (result.status, result.nfev) == (Status.ABNORMAL, 1)
    assert "at the start the loss is" in result.message


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_gradient_ends_at_the_best_parameters(method: Callable[[], Method]) -> None:
    def wrong(x: Vector) -> tuple[float, Vector]:
        loss, gradient = rosenbrock(x)
        return loss, gradient if loss > 5 else -gradient

    result, space, reports = solve(method(), wrong, rosenbrock_start(4))
    assert result.status is Status.ABNORMAL
    assert "the line search failed" in result.message
    assert result.fun == rosenbrock(space.parameters)[0] == min(r.loss for r in reports)


@pytest.mark.parametrize("method", METHODS)
def test_it_backs_off_from_where_the_loss_is_not_finite(method: Callable[[], Method]) -> None:
    def barrier(x: Vector) -> tuple[float, Vector]:
        """Its minimum is at 1; it ends at 1.05."""
        with np.errstate(invalid="ignore"):
            loss, slope = -20 * x - np.log(1.05 - x), -20 + 1 / (1.05 - x)
        return float(loss.sum()), slope

    result, space, _ = solve(method(), barrier, np.array([-3.0, 0.0, 0.9]), Stop(ftol=0))
    assert result.success
    np.testing.assert_allclose(space.parameters, 1.0, atol=1e-4)


def test_a_float32_loss_that_rounding_stops_has_converged() -> None:
    def rounded(x: Vector) -> tuple[float, Vector]:
        loss, gradient = rosenbrock(x)
        return float(np.float32(100 + loss)), gradient

    result, space, _ = solve(LBFGS(), rounded, rosenbrock_start(6), Stop(gtol=0, ftol=1e-7))
    assert result.success
    assert "ftol" in result.message
    assert rosenbrock(space.parameters)[0] < 1e-3
