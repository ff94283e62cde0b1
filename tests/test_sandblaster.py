"""The Sandblaster coordinator: an algorithm's iterates are those of one process, over any number of
shards, replicas and portions, with duplicates, deaths and stops."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives import (
    METHODS,
    OfExamples,
    Vector,
    generated,
    logistic,
    network,
    network_start,
    whole,
)
from sandblaster_world import Trouble, World, wild
from sklearn.datasets import load_digits

from dbgraph.coordinate.evaluation import Evaluation
from dbgraph.coordinate.messages import Computed, Flushed
from dbgraph.coordinate.portions import cut
from dbgraph.coordinate.sandblaster import Finished, Sandblaster, Waiting
from dbgraph.optim.lbfgs import LBFGS
from dbgraph.optim.minimise import Method, Result, Stop, minimise
from dbgraph.optim.space import LocalSpace, run
from dbgraph.optim.vectors import Axpy, Copy, Dot, Evaluate, Norm, Report, Steps, Zero
from dbgraph.ps.messages import Execute

THIRTY = Stop(gtol=0, ftol=0, maxiter=30)
EXAMPLES = 300


@lru_cache
def problem(name: str, dtype: type = np.float64) -> tuple[OfExamples, Vector]:
    if name == "logistic":
        return logistic(*generated(EXAMPLES, 30, seed=1), 1e-3), np.zeros(30)
    digits = load_digits()
    inputs = (digits.data[:EXAMPLES] / 16).astype(dtype)
    start = network_start(64, 8, seed=0).astype(dtype)
    return network(inputs, digits.target[:EXAMPLES], hidden=8), start


@lru_cache
def in_one_process(name: str, method: Callable[[], Method]) -> list[Vector]:
    objective, start = problem(name)
    space, iterates = LocalSpace(start, whole(objective, EXAMPLES)), []  # type: ignore[var-annotated]
    run(minimise(method(), THIRTY), space, lambda _: iterates.append(space.parameters.copy()))
    assert len(iterates) == 31
    return iterates


def assert_same(found: list[Vector], expected: list[Vector]) -> None:
    """Within 1e-8, relative to the largest parameter."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one - other).max() <= 1e-8 * max(np.abs(other).max(), 1e-3)


TROUBLES = st.builds(
    Trouble,
    at=st.floats(0, 5),
    replica=st.integers(0, 2),
    kind=st.sampled_from(("kill", "stop")),
    back_s=st.floats(0.01, 20),
)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from(("logistic", "digits")),
    st.integers(1, 5),
    st.sampled_from((7, 25, 64, 300)),
    st.lists(TROUBLES, max_size=4),
)
def test_the_iterates_are_those_of_one_process(
    seed: int, name: str, shards: int, size: int, troubles: list[Trouble]
) -> None:
    rng = random.Random(seed)
    objective, start = problem(name)
    world = World(
        minimise(LBFGS(), THIRTY),
        Evaluation(cut(EXAMPLES, size), flush_every=rng.randint(1, 5)),
        objective,
        start,
        shards,
        [rng.choice((0.01, 0.01, 0.1)) for _ in range(3)],
        delay=wild(rng, 1e-4),
        push_s=wild(rng, 1e-3),
        noise=lambda: rng.uniform(0.5, 2),
        troubles=troubles,
    )
    result = world.run()
    assert_same(world.iterates, in_one_process(name, LBFGS))
    assert world.committed() == [[*range(len(cut(EXAMPLES, size)))]] * result.nfev


@pytest.mark.parametrize("method", METHODS[1:])
def test_other_methods_run_on_the_same_frame(method: Callable[[], Method]) -> None:
    objective, start = problem("logistic")
    evaluation = Evaluation(cut(EXAMPLES, 40))
    world = World(minimise(method(), THIRTY), evaluation, objective, start, 3, [0.01] * 4)
    world.run()
    assert_same(world.iterates, in_one_process("logistic", method))


def test_float32_comes_to_the_same_loss() -> None:
    losses = []
    for dtype in (np.float64, np.float32):
        objective, start = problem("digits", dtype)
        stop = Stop(gtol=1e-3, ftol=1e-6)
        evaluation = Evaluation(cut(EXAMPLES, 25))
        world = World(minimise(LBFGS(), stop), evaluation, objective, start, 3, [0.01] * 4)
        result: Result = world.run()
        assert result.success
        assert world.vector("gradient").dtype == dtype
        losses.append(result.fun)
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_parameters_are_read_only_when_all_shards_have_them() -> None:
    """Commands without an answer travel with the next; the evaluation waits for every shard."""

    def algorithm() -> Steps[float]:
        yield (Zero("d"),)
        yield (Copy("parameters", "start"), Axpy(1.0, "d", "parameters"))
        (loss,) = yield Evaluate("g")
        yield (Copy("g", "old"),)
        (dot, norm) = yield (Dot("g", "old"), Norm("g"))
        yield Report(0, 1, loss, 0.0, 0.0)
        yield (Copy("start", "parameters"),)
        return dot + norm

    evaluation = Evaluation(cut(4, 4))
    evaluation.joined(0, 1, 0.0)
    coordinator = Sandblaster(algorithm(), evaluation, shards=2, executed=7)
    (first,) = coordinator.start()
    assert first == Execute(
        8, (Zero("d"), Copy("parameters", "start"), Axpy(1.0, "d", "parameters"), Zero("g"))
    )
    assert coordinator.executed(1, 8, (), 0.0) == []
    assert coordinator.executed(1, 8, (), 0.0) == []  # the same shard once more
    assert coordinator.waiting is Waiting.SHARDS
    (compute,) = coordinator.executed(0, 8, (), 0.0)
    name = (compute.replica, compute.epoch, compute.evaluation, compute.portion)  # type: ignore[union-attr]
    coordinator.computed(Computed(*name, 5.0), 1.0)
    commit, asked = coordinator.flushed(Flushed(0, 1, 1), 2.0)
    assert (commit.number, asked.number) == (9, 10)  # type: ignore[union-attr]
    assert asked.orders == (Copy("g", "old"), Dot("g", "old"), Norm("g"))  # type: ignore[union-attr]
    assert coordinator.executed(0, 9, (), 2.0) == []  # nobody waits for that
    assert coordinator.executed(0, 10, (1.0, 3.0), 2.0) == []
    (barrier,) = coordinator.executed(1, 10, (2.0, 4.0), 2.0)
    assert barrier == Execute(11, ())
    coordinator.executed(0, 11, (), 3.0)
    assert coordinator.executed(1, 11, (), 3.0) == [Report(0, 1, 5.0, 0.0, 0.0)]
    assert coordinator.waiting is Waiting.CALLER
    assert coordinator.go_on() == [Execute(12, (Copy("start", "parameters"),))]
    assert coordinator.go_on() == []
    coordinator.executed(0, 12, (), 4.0)
    assert coordinator.executed(1, 12, (), 4.0) == [Finished(1.0 + 2.0 + 5.0)]
    assert coordinator.waiting is Waiting.NOTHING


def test_round_trips_per_iteration() -> None:
    """Each costs the latency of the slowest shard: 5 for an iteration with one trial."""
    objective, start = problem("logistic")
    world = World(
        minimise(LBFGS(), THIRTY), Evaluation(cut(EXAMPLES, 300)), objective, start, 2, [0.01]
    )
    result: Result = world.run()
    commits = result.nfev
    trips = world.shards[0].number - commits
    # Per evaluation: there, and the slope. Per iteration: the pair, the report, the direction.
    assert trips <= 2 * result.nfev + 3 * result.nit + 2
