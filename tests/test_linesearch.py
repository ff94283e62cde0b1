"""The line search on functions of one variable: those of the paper, random ones, bad ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.errors import UsageError
from dbgraph.optim.interpolate import Point, next_trial
from dbgraph.optim.linesearch import Found, Wolfe, search

Function = Callable[[float], tuple[float, float]]
"""step → (loss, slope)."""


def find(function: Function, first: float, wolfe: Wolfe) -> tuple[Found, list[float]]:
    """What is found, and the steps that were tried."""
    tried: list[float] = []

    def at(step: float) -> Generator[None, None, Point]:
        tried.append(step)
        return Point(step, *function(step))
        yield

    searching = search(Point(0.0, *function(0.0)), first, wolfe, at)
    try:
        next(searching)
    except StopIteration as end:
        found: Found = end.value
    return found, tried


def holds(function: Function, found: Found, wolfe: Wolfe) -> bool:
    """The strong Wolfe conditions, as in their definition."""
    loss, slope = function(0.0)
    point = found.point
    assert (point.loss, point.slope) == function(point.step)
    enough = point.loss <= loss + wolfe.decrease * point.step * slope
    return enough and abs(point.slope) <= -wolfe.curvature * slope


# Moré and Thuente 1994, section 5.


def paper_1(a: float, beta: float = 2.0) -> tuple[float, float]:
    """Eq. 5.1."""
    return -a / (a * a + beta), (a * a - beta) / (a * a + beta) ** 2


def paper_2(a: float, beta: float = 0.004) -> tuple[float, float]:
    """Eq. 5.2."""
    return (a + beta) ** 5 - 2 * (a + beta) ** 4, 5 * (a + beta) ** 4 - 8 * (a + beta) ** 3


def paper_3(a: float, beta: float = 0.01, waves: float = 39) -> tuple[float, float]:
    """Eq. 5.3: it wiggles."""
    if a <= 1 - beta:
        loss, slope = 1 - a, -1.0
    elif a >= 1 + beta:
        loss, slope = a - 1, 1.0
    else:
        loss, slope = (a - 1) ** 2 / (2 * beta) + beta / 2, (a - 1) / beta
    angle = waves * math.pi / 2 * a
    wiggle = 2 * (1 - beta) / (waves * math.pi)
    return loss + wiggle * math.sin(angle), slope + (1 - beta) * math.cos(angle)


def yanai(beta_1: float, beta_2: float) -> Function:
    """Eq. 5.4: a corner at each end."""

    def gamma(beta: float) -> float:
        return math.sqrt(1 + beta**2) - beta

    def function(a: float) -> tuple[float, float]:
        left, right = math.hypot(1 - a, beta_2), math.hypot(a, beta_1)
        loss = gamma(beta_1) * left + gamma(beta_2) * right
        return loss, gamma(beta_1) * (a - 1) / left + gamma(beta_2) * a / right

    return function


# The paper's tables 1 to 6: for first steps 1e-3, 1e-1, 1e1, 1e3 the evaluations it took.
TABLES = [
    pytest.param(paper_1, Wolfe(1e-3, 0.1), (6, 3, 1, 4), id="table 1"),
    pytest.param(paper_2, Wolfe(0.1 - 1e-12, 0.1), (12, 8, 8, 11), id="table 2"),
    pytest.param(paper_3, Wolfe(0.1 - 1e-12, 0.1), (12, 12, 10, 13), id="table 3"),
    pytest.param(yanai(0.001, 0.001), Wolfe(1e-3 - 1e-9, 1e-3), (4, 1, 3, 4), id="table 4"),
    pytest.param(yanai(0.01, 0.001), Wolfe(1e-3 - 1e-9, 1e-3), (6, 3, 7, 8), id="table 5"),
    pytest.param(yanai(0.001, 0.01), Wolfe(1e-3 - 1e-9, 1e-3), (13, 11, 8, 11), id="table 6"),
]


@pytest.mark.parametrize(("function", "wolfe", "evaluations"), TABLES)
def test_as_few_evaluations_as_in_the_paper(
    function: Function, wolfe: Wolfe, evaluations: tuple[int, ...]
) -> None:
    exact = Wolfe(wolfe.decrease, wolfe.curvature, width=1e-10, trials=50)
    for first, expected in zip((1e-3, 1e-1, 1e1, 1e3), evaluations, strict=True):
        found, tried = find(function, first, exact)
        assert not found.problem
        assert holds(function, found, exact)
        assert len(tried) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.1, 5), st.floats(0.1, 6), st.floats(0, 6.3)), max_size=4),
    st.floats(0.01, 10),
    st.floats(1e-4, 1e4),
    st.sampled_from(((1e-3, 0.9), (1e-4, 0.1))),
)
def test_found_without_a_problem_the_conditions_hold(
    waves: list[tuple[float, float, float]],
    curvature: float,
    first: float,
    c: tuple[float, float],
) -> None:
    def function(a: float) -> tuple[float, float]:
        loss, slope = curvature * (a - 3) ** 2 / 2, curvature * (a - 3)
        for height, frequency, phase in waves:
            loss += height * math.cos(frequency * a + phase)
            slope -= height * frequency * math.sin(frequency * a + phase)
        return loss, slope

    if not function(0.0)[1] < 0:
        return
    wolfe = Wolfe(*c)
    found, tried = find(function, first, wolfe)
    assert all(step > 0 for step in tried)
    assert len(tried) <= wolfe.trials + 1
    assert found.problem or holds(function, found, wolfe)
    assert found.point.step in (0.0, tried[-1])
    assert found.point.loss < function(0.0)[0] or found.point.step == 0


def test_a_smooth_bowl_is_never_a_problem() -> None:
    for first in (1e-6, 1e-3, 1.0, 1e3, 1e6):
        found, _ = find(lambda a: ((a - 2) ** 2, 2 * (a - 2)), first, Wolfe())
        assert not found.problem


@pytest.mark.parametrize("beyond", [math.inf, math.nan])
@pytest.mark.parametrize("edge", [0.003, 1.2, 40.0])
def test_backs_off_from_where_the_loss_is_not_finite(beyond: float, edge: float) -> None:
    def barrier(a: float) -> tuple[float, float]:
        """Its minimum is at half of the edge."""
        if a >= edge:
            return beyond, beyond
        return -math.log(edge - a) - a / (0.5 * edge), 1 / (edge - a) - 1 / (0.5 * edge)

    found, tried = find(barrier, 50.0, Wolfe(1e-4, 0.1))
    assert max(tried) >= edge
    assert not found.problem
    assert found.point.step == pytest.approx(0.5 * edge, rel=0.3)


def test_finite_nowhere_but_at_the_start_stays_there() -> None:
    found, tried = find(lambda a: (1.0, -1.0) if a == 0 else (math.nan, 0.0), 1.0, Wolfe())
    assert (found.point.step, len(tried)) == (0.0, Wolfe().trials)
    assert "20 trials" in found.problem


def test_a_gradient_that_is_not_the_losss_is_found_out() -> None:
    found, _ = find(lambda a: (a, -1.0), 1.0, Wolfe())
    assert found.point.step == 0
    assert found.problem


def test_a_loss_that_falls_for_ever_ends_at_the_longest_step() -> None:
    found, tried = find(lambda a: (-a, -1.0), 1.0, Wolfe(longest=1e3))
    assert found.point.step == tried[-1] == 1e3
    assert "still falls" in found.problem


def test_the_best_is_evaluated_again_where_it_was_not_the_last() -> None:
    def ravine(a: float) -> tuple[float, float]:
        return (-a, -1.0) if a < 1 else (100 * (a - 1) - 1, 100.0)

    found, tried = find(ravine, 0.9, Wolfe(trials=2))
    assert tried == [0.9, 4.5, 0.9]
    assert found.point.step == 0.9
    assert found.problem


def test_points_that_lie_one_on_the_other_give_a_number() -> None:
    same = Point(1.0, 1.0, -1.0)
    assert math.isfinite(next_trial(same, same, same, 2.0))


@pytest.mark.parametrize("wrong", [{"decrease": 0.0}, {"decrease": 0.95}, {"trials": 0}])
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="line search"):
        Wolfe(**wrong)  # type: ignore[arg-type]
