"""The functions behind the names of `rules.RULES` and `rules.SCHEDULES`. Loads optax and jax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import optax

from dbgraph.optim.adagrad import adagrad

if TYPE_CHECKING:
    from dbgraph.optim.rules import Rule, Schedule

RULE_MAKERS: Mapping[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": optax.sgd,
    "nesterov": partial(optax.sgd, nesterov=True),
    "adagrad": adagrad,
    "adagrad_optax": optax.adagrad,
    "adam": optax.adam,
    "adamw": optax.adamw,
    "rmsprop": optax.rmsprop,
}
"""(learning_rate: a number or a schedule, **options) → the transformation."""


def _cosine(rate: float, steps: int, final: float) -> optax.Schedule:
    return optax.cosine_decay_schedule(rate, steps, alpha=final)


def _linear(rate: float, steps: int, final: float) -> optax.Schedule:
    return optax.linear_schedule(rate, rate * final, steps)


def _exponential(rate: float, steps: int, factor: float) -> optax.Schedule:
    return optax.exponential_decay(rate, steps, factor)


def _step(rate: float, every: int, factor: float) -> optax.Schedule:
    return optax.exponential_decay(rate, every, factor, staircase=True)


def _piecewise(rate: float, at: tuple[int, ...], factor: float) -> optax.Schedule:
    return optax.piecewise_constant_schedule(rate, dict.fromkeys(at, factor))


def _warmup_cosine(rate: float, warmup: int, steps: int, final: float) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(0.0, rate, warmup, steps, rate * final)


SCHEDULE_MAKERS: Mapping[str, Callable[..., optax.Schedule]] = {
    "constant": optax.constant_schedule,
    "cosine": _cosine,
    "linear": _linear,
    "exponential": _exponential,
    "step": _step,
    "piecewise": _piecewise,
    "warmup_cosine": _warmup_cosine,
}
"""(learning rate, **options) → the function from updates done to the learning rate."""


def make_schedule(rate: float, schedule: Schedule) -> optax.Schedule:
    return SCHEDULE_MAKERS[schedule.name](rate, **schedule.options)


def make_transformation(rule: Rule) -> optax.GradientTransformation:
    options: dict[str, Any] = dict(rule.options)
    rate = options.pop("learning_rate")
    if rule.schedule is not None:
        rate = make_schedule(rate, rule.schedule)
    return RULE_MAKERS[rule.name](learning_rate=rate, **options)
