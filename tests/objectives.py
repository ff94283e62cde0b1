"""Losses with gradients, as functions of a flat float vector, and how tests minimise them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dbgraph.optim.conjugate import ConjugateGradient
from dbgraph.optim.lbfgs import LBFGS
from dbgraph.optim.minimise import Method, Result, Stop, minimise
from dbgraph.optim.space import LocalSpace, run
from dbgraph.optim.steepest import GradientDescent
from dbgraph.optim.vectors import Report

Vector = np.ndarray[Any, Any]
Objective = Callable[[Vector], tuple[float, Vector]]
OfExamples = Callable[[Vector, int, int], tuple[float, Vector]]
"""(parameters, start, stop) → mean loss and mean gradient over these examples."""


def rosenbrock(x: Vector) -> tuple[float, Vector]:
    """The chained form: sum of 100 (x[i+1] - x[i]²)² + (1 - x[i])²."""
    rise, rest = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    gradient = np.zeros_like(x)
    gradient[1:] = 200 * rise
    gradient[:-1] -= 400 * x[:-1] * rise + 2 * rest
    return float((100 * rise**2 + rest**2).sum()), gradient


def rosenbrock_start(n: int) -> Vector:
    return np.where(np.arange(n) % 2 == 0, -1.2, 1.0)


def logistic(inputs: Vector, labels: Vector, decay: float) -> OfExamples:
    """Logistic regression: inputs[examples, n], labels -1 or 1."""

    def loss(w: Vector, start: int, stop: int) -> tuple[float, Vector]:
        x, y = inputs[start:stop], labels[start:stop]
        margin = y * (x @ w)
        wrong = np.exp(-np.logaddexp(0, margin))
        gradient = decay * w - x.T @ (y * wrong) / len(y)
        return float(np.logaddexp(0, -margin).mean() + decay / 2 * w @ w), gradient

    return loss


def generated(examples: int, n: int, seed: int) -> tuple[Vector, Vector]:
    """Badly scaled inputs[examples, n] and labels that no plane separates."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(examples, n)) * np.logspace(-2, 1, n)
    return inputs, np.sign(inputs @ rng.normal(size=n) + rng.normal(size=examples))


def network(inputs: Vector, classes: Vector, hidden: int, of: int = 10) -> OfExamples:
    """One tanh layer and a softmax."""
    width = inputs.shape[1]
    shapes = ((width, hidden), (hidden,), (hidden, of), (of,))
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    wanted = np.eye(of, dtype=inputs.dtype)[classes]

    def loss(w: Vector, start: int, stop: int) -> tuple[float, Vector]:
        parts = np.split(w, ends[:-1])
        w1, b1, w2, b2 = (part.reshape(s) for part, s in zip(parts, shapes, strict=True))
        x, t = inputs[start:stop], wanted[start:stop]
        h = np.tanh(x @ w1 + b1)
        z = h @ w2 + b2
        z -= z.max(axis=1, keepdims=True)
        total = np.log(np.exp(z).sum(axis=1))
        d_z = (np.exp(z - total[:, None]) - t) / len(x)
        d_h = (d_z @ w2.T) * (1 - h * h)
        gradients = (x.T @ d_h, d_h.sum(axis=0), h.T @ d_z, d_z.sum(axis=0))
        flat = np.concatenate([gradient.ravel() for gradient in gradients])
        return float((total - (z * t).sum(axis=1)).mean()), flat

    return loss


def network_start(width: int, hidden: int, seed: int, of: int = 10) -> Vector:
    rng = np.random.default_rng(seed)
    w1 = rng.normal(size=(width, hidden)) / np.sqrt(width)
    w2 = rng.normal(size=(hidden, of)) / np.sqrt(hidden)
    return np.concatenate([w1.ravel(), np.zeros(hidden), w2.ravel(), np.zeros(of)])


def whole(loss: OfExamples, examples: int) -> Objective:
    return lambda w: loss(w, 0, examples)


METHODS: list[Callable[[], Method]] = [LBFGS, ConjugateGradient, GradientDescent]


def solve(
    method: Method, objective: Objective, start: Vector, stop: Stop | None = None
) -> tuple[Result, LocalSpace, list[Report]]:
    space, reports = LocalSpace(start, objective), []  # type: ignore[var-annotated]
    result = run(minimise(method, stop), space, reports.append)
    return result, space, reports
