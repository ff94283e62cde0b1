"""L-BFGS and its neighbours: against the textbook, optax and SciPy; in pieces and in one."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives import (
    METHODS,
    Objective,
    Vector,
    generated,
    logistic,
    network,
    network_start,
    rosenbrock,
    rosenbrock_start,
    solve,
    whole,
)
from scipy.optimize import minimize

from dbgraph.errors import UsageError
from dbgraph.optim.conjugate import ConjugateGradient
from dbgraph.optim.lbfgs import LBFGS, two_loop
from dbgraph.optim.linesearch import Wolfe
from dbgraph.optim.minimise import Method, Stop, minimise
from dbgraph.optim.space import LocalSpace, execute, run
from dbgraph.optim.vectors import (
    PARAMETERS,
    Batch,
    Report,
    Scalars,
    combine,
)

# --- directions ---


def textbook(s: list[Vector], y: list[Vector], gradient: Vector) -> Vector:
    """Nocedal and Wright, Algorithm 7.4, on vectors."""
    q = gradient.copy()
    alphas = []
    for s_i, y_i in zip(reversed(s), reversed(y), strict=True):
        alphas.append(s_i @ q / (s_i @ y_i))
        q -= alphas[-1] * y_i
    r = q * (s[-1] @ y[-1]) / (y[-1] @ y[-1])
    for s_i, y_i, alpha in zip(s, y, reversed(alphas), strict=True):
        r += s_i * (alpha - y_i @ r / (s_i @ y_i))
    return r


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(2, 20), st.integers(0, 10**6))
def test_the_recursion_in_coordinates_is_the_textbooks(m: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    hessian = root @ root.T + np.eye(n)
    s = [rng.normal(size=n) for _ in range(m)]
    y = [hessian @ s_i for s_i in s]
    basis = np.array([*s, *y, gradient := rng.normal(size=n)])
    gram = basis @ basis.T
    unread = np.tril(np.ones((m, m), bool), -1)  # s_i y_j with j < i, and s_i s_j
    gram[:m, m : 2 * m][unread] = gram[m : 2 * m, :m][unread.T] = math.nan
    gram[:m, :m] = math.nan
    gram = np.nan_to_num(gram, nan=0.0)
    expected = textbook(s, y, gradient)
    np.testing.assert_allclose(two_loop(gram) @ basis, expected, rtol=1e-6, atol=1e-8)


def test_directions_are_those_of_optax() -> None:
    """Along the way of 25 iterations with a history of 4."""
    points, gradients, directions = [], [], []

    def watch(report: Report) -> None:
        points.append(space.parameters.copy())
        gradients.append(space.vectors["gradient"].copy())
        if "direction" in space.vectors:
            directions.append(space.vectors["direction"].copy())

    space = LocalSpace(rosenbrock_start(12), rosenbrock)
    run(minimise(LBFGS(history=4), Stop(maxiter=25)), space, watch)
    with jax.enable_x64(True):
        rule = optax.scale_by_lbfgs(memory_size=4)
        state, update = rule.init(jnp.asarray(points[0])), jax.jit(rule.update)
        for place, (point, gradient) in enumerate(zip(points[:-1], gradients[:-1], strict=True)):
            found, state = update(jnp.asarray(gradient), state, jnp.asarray(point))
            if place:  # optax scales its very first one otherwise
                np.testing.assert_allclose(-np.asarray(found), directions[place], rtol=1e-7)


# --- against SciPy ---


def _cancer(decay: float) -> tuple[Objective, Vector]:
    from sklearn.datasets import load_breast_cancer  # slow to import

    cancer = load_breast_cancer()
    scaled = (cancer.data - cancer.data.mean(axis=0)) / cancer.data.std(axis=0)
    inputs = np.c_[scaled, np.ones(len(scaled))]
    loss = logistic(inputs, 2.0 * cancer.target - 1, decay)
    return whole(loss, len(inputs)), np.zeros(31)


def _generated(decay: float) -> tuple[Objective, Vector]:
    return whole(logistic(*generated(500, 40, seed=0), decay), 500), np.zeros(40)


def _digits(seed: int, dtype: type = np.float64) -> tuple[Objective, Vector]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    inputs = (digits.data[:300] / 16).astype(dtype)
    loss = network(inputs, digits.target[:300], hidden=12)
    return whole(loss, 300), network_start(64, 12, seed).astype(dtype)


PROBLEMS: dict[str, Callable[[], tuple[Objective, Vector]]] = {
    **{
        f"rosenbrock-{n}": lambda n=n: (rosenbrock, rosenbrock_start(n))
        for n in (2, 3, 5, 10, 20, 50, 100)
    },
    **{f"cancer-{decay:g}": partial(_cancer, decay) for decay in (1e-2, 1e-4)},
    **{f"generated-{decay:g}": partial(_generated, decay) for decay in (1e-2, 1e-4)},
    **{f"digits-{seed}": partial(_digits, seed) for seed in range(2)},
}
LONG = {"rosenbrock-20", "rosenbrock-50", "rosenbrock-100", "generated-0.0001"}
"""Those that take many hundred evaluations."""


@pytest.mark.parametrize("history", [5, 10])
@pytest.mark.parametrize(
    "problem", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in PROBLEMS]
)
def test_no_worse_than_scipy_with_5_percent_more_evaluations(problem: str, history: int) -> None:
    objective, start = PROBLEMS[problem]()
    limits = {"maxiter": 3000, "ftol": 1e-12, "gtol": 1e-7}
    options = {"maxcor": history, "maxfun": 3000, **limits}
    theirs = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    assert theirs.success
    stop = Stop(maxfun=int(1.05 * theirs.nfev), **limits)  # type: ignore[arg-type]
    ours, space, _ = solve(LBFGS(history), objective, start, stop)
    assert ours.fun == objective(space.parameters)[0]
    assert ours.fun <= theirs.fun + 1e-9 * max(1.0, theirs.fun)


# --- in pieces ---


class PiecesSpace(LocalSpace):
    """The vectors cut over shards; only scalars pass between them."""

    def __init__(self, parameters: Vector, objective: Objective, shards: int) -> None:
        super().__init__(parameters, objective)
        self.shards = [{PARAMETERS: part.copy()} for part in np.array_split(parameters, shards)]

    @property
    def parameters(self) -> Vector:
        return np.concatenate([shard[PARAMETERS] for shard in self.shards])

    def execute(self, batch: Batch) -> Scalars:
        return combine(batch, [execute(batch, shard) for shard in self.shards])

    def evaluate(self, out: str) -> float:
        loss, gradient = self._objective(self.parameters)
        parts = np.array_split(gradient, len(self.shards))
        for shard, part in zip(self.shards, parts, strict=True):
            shard[out] = part.copy()
        return loss


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shards", [2, 3, 7])
@pytest.mark.parametrize("problem", ["logistic", "rosenbrock"])
def test_the_iterates_do_not_depend_on_the_number_of_shards(
    method: Callable[[], Method], shards: int, problem: str
) -> None:
    objective, start = {
        "logistic": (whole(logistic(*generated(300, 30, seed=1), 1e-3), 300), np.zeros(30)),
        "rosenbrock": (rosenbrock, rosenbrock_start(40)),
    }[problem]
    iterates: list[list[Vector]] = []
    for space in (LocalSpace(start, objective), PiecesSpace(start, objective, shards)):
        kept: list[Vector] = []
        stop = Stop(gtol=0, ftol=0, maxiter=30)
        run(
            minimise(method(), stop),
            space,
            lambda _, k=kept, s=space: k.append(s.parameters.copy()),
        )
        iterates.append(kept)
    assert len(iterates[0]) == 31
    for one, cut in zip(*iterates, strict=True):
        assert np.abs(one - cut).max() <= 1e-8 * np.abs(one).max()


def test_float32_comes_to_the_same_loss() -> None:
    found = []
    for dtype in (np.float64, np.float32):
        stop = Stop(gtol=1e-3, ftol=1e-6)
        result, space, _ = solve(LBFGS(), *_digits(0, dtype), stop)
        assert space.vectors["direction"].dtype == dtype
        assert result.success
        found.append(result.fun)
    assert found[1] == pytest.approx(found[0], abs=1e-4)


# --- the methods' own ---


def test_a_pair_without_curvature_is_left_out() -> None:
    """Where the loss curves downwards, and the search ends at its longest step."""
    method = LBFGS(wolfe=Wolfe(longest=0.5))
    solve(method, lambda x: (float(-(x**2).sum()), -2 * x), np.ones(2), Stop(maxiter=3))
    assert method.pairs == []
    method = LBFGS(wolfe=Wolfe(longest=0.5))
    solve(method, lambda x: (float((x**2).sum()), 2 * x), np.ones(2), Stop(maxiter=1))
    assert method.pairs == [0]


def test_the_history_is_no_longer_than_asked_for() -> None:
    method = LBFGS(history=3)
    _, space, _ = solve(method, rosenbrock, rosenbrock_start(10), Stop(maxiter=20))
    assert sorted(method.pairs) == [0, 1, 2]
    assert {n for n in space.vectors if n[0] in "sy" and n[1:].isdigit()} == {
        "s0",
        "s1",
        "s2",
        "y0",
        "y1",
        "y2",
    }


def test_a_run_goes_on_where_another_stopped() -> None:
    """The pairs stand on the space; whoever goes on needs their order and the counts alone."""
    stop = Stop(maxiter=12)
    _, once, reports = solve(LBFGS(4), rosenbrock, rosenbrock_start(10), Stop(maxiter=30))
    first = LBFGS(4)
    _, space, begun = solve(first, rosenbrock, rosenbrock_start(10), stop)
    for name in {*space.vectors} - {PARAMETERS, *first.vectors}:
        del space.vectors[name]
    again = run(minimise(LBFGS(4, pairs=first.pairs), Stop(maxiter=30), begun[-1]), space)
    np.testing.assert_array_equal(space.parameters, once.parameters)
    assert again.nit == 30
    assert again.nfev == reports[-1].evaluations + 1  # the loss where it goes on


def test_after_a_failed_search_the_history_is_forgotten() -> None:
    """The loss changes under the method's feet: its history no longer fits."""
    evaluations = 0

    def changing(x: Vector) -> tuple[float, Vector]:
        nonlocal evaluations
        evaluations += 1
        sign = -1.0 if 10 < evaluations <= 12 + Wolfe().trials else 1.0
        loss, gradient = rosenbrock(x)
        return loss if sign > 0 else math.inf, gradient

    result, _, _ = solve(LBFGS(), changing, rosenbrock_start(4), Stop(ftol=0))
    assert result.success


def test_conjugate_gradients_solve_a_quadratic_in_n_steps() -> None:
    """Their mark: n iterations where the line search is exact."""
    scales = np.array([1.0, 3.0, 10.0, 30.0])
    exact = Wolfe(1e-4, 1e-3, width=1e-9, trials=60)
    result, _, _ = solve(
        ConjugateGradient(exact),
        lambda x: (float(scales @ x**2) / 2, scales * x),
        np.ones(4),
        Stop(gtol=1e-2, ftol=0),
    )
    assert result.nit <= 5


@pytest.mark.parametrize(
    "wrong", [lambda: LBFGS(0), lambda: Stop(gtol=-1), lambda: Stop(maxfun=-1)]
)
def test_wrong_options_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match="must be at least"):
        wrong()
