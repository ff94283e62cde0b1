"""Portions of a batch: each one in the committed sum exactly once, whatever happens."""

from __future__ import annotations

import math
import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandblaster_world import Trouble, World, wild

from dbgraph.coordinate.crew import Crew, Outlook, Task
from dbgraph.coordinate.evaluation import Evaluated, Evaluation
from dbgraph.coordinate.messages import Compute, Computed, Deny, Flush, Flushed, Grant
from dbgraph.coordinate.portions import TRANSITIONS, Event, Phase, Portions, cut
from dbgraph.errors import UsageError
from dbgraph.optim.vectors import PARAMETERS, Dot, Evaluate, Report, Scalars, Steps
from dbgraph.ps.messages import Commit, Discard

# --- the table ---


@given(st.integers(1, 200), st.integers(1, 60))
def test_cut_covers_the_batch(examples: int, size: int) -> None:
    ranges = cut(examples, size)
    assert [i for start, stop in ranges for i in range(start, stop)] == [*range(examples)]
    assert all(stop - start == size for start, stop in ranges[:-1])


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(UsageError, match="a batch of 0 examples"):
        cut(0, 4)


def test_the_table_in_the_docstring_is_the_one_that_counts() -> None:
    doc = __import__("dbgraph.coordinate.portions", fromlist=["_"]).__doc__
    lines = [line.strip("| ").split("|") for line in doc.splitlines() if line.startswith("| ")]
    names, *rows = [[cell.strip() for cell in line] for line in lines]
    told = {
        (Phase[row[0].upper()], Event[name.upper()]): Phase[cell.upper()]
        for row in rows
        for name, cell in zip(names[1:], row[1:], strict=False)
        if cell
    }
    assert told == TRANSITIONS


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_the_phase_is_what_replicas_and_pushes_say(count: int, seed: int) -> None:
    """Any allowed order of what may happen to a few portions."""
    rng = random.Random(seed)
    portions = Portions(count)
    computing: list[set[int]] = [set() for _ in range(count)]
    holding: list[set[tuple[int, int, int]]] = [set() for _ in range(count)]
    counted: set[int] = set()
    for sequence in range(60):
        p, push = rng.randrange(count), (0, 0, sequence)
        match rng.choice(("give", "grant", "end", "release", "count")):
            case "give" if p not in counted:
                computing[p].add(replica := rng.randrange(3))
                portions.give(p, replica)
            case "grant" if computing[p] and p not in counted:
                holding[p].add(push)
                portions.grant(p, push)
            case "end" if computing[p]:
                computing[p].remove(replica := rng.choice(sorted(computing[p])))
                portions.end(p, replica)
            case "release" if holding[p]:
                holding[p].remove(push := rng.choice(sorted(holding[p])))
                portions.release(p, push)
            case "count" if holding[p]:
                chosen = rng.choice(sorted(holding[p]))
                assert portions.count_in(p, chosen) == holding[p] - {chosen}
                counted.add(p)
                holding[p] = set()
        expected = [
            Phase.COUNTED
            if q in counted
            else Phase.HELD
            if holding[q]
            else Phase.RUNNING
            if computing[q]
            else Phase.WAITING
            for q in range(count)
        ]
        assert portions.phases == expected
        assert portions.waiting == {q for q in range(count) if expected[q] is Phase.WAITING}
        assert portions.counted == len(counted)


def test_neighbours_come_first() -> None:
    portions = Portions(10)
    assert portions.next_for(None, 6) == 6
    for taken in (0, 1, 6):
        portions.give(taken, 0)
    assert portions.next_for(1, 0) == 2
    assert portions.next_for(9, 7) == 7  # its home
    assert portions.next_for(5, 6) == 4  # the middle of [2, 6)


# --- one evaluation, step by step ---


def started(portions: int, replicas: int, **options: float) -> Evaluation:
    """Replica r has epoch 10 + r; all have begun at time 0."""
    evaluation = Evaluation(cut(10 * portions, 10), **options)  # type: ignore[arg-type]
    for replica in range(replicas):
        assert evaluation.joined(replica, 10 + replica, 0.0) == []
    given = evaluation.begin("g", 0.0)
    assert [type(i) for i in given] == [Compute] * min(portions, replicas)
    return evaluation


def computed(replica: int, portion: int, loss: float = 1.0, evaluation: int = 1) -> Computed:
    return Computed(replica, 10 + replica, evaluation, portion, loss)


def test_one_replica_alone() -> None:
    evaluation = started(3, 1, flush_every=2)
    assert evaluation.computed(computed(0, 0, 1.0), 1.0) == [
        Grant(0, 10, 1, 0, 1, 1 / 3),
        Compute(0, 10, 1, 1, 10, 20, likely=(20, 30)),
    ]
    assert evaluation.computed(computed(0, 1, 2.0), 2.0) == [
        Grant(0, 10, 1, 1, 1, 1 / 3),
        Flush(0, 10, 1),
        Compute(0, 10, 1, 2, 20, 30),
    ]
    assert evaluation.computed(computed(0, 2, 6.0), 3.0) == [
        Grant(0, 10, 1, 2, 2, 1 / 3),
        Flush(0, 10, 2),
    ]
    assert evaluation.flushed(Flushed(0, 10, 1), 4.0) == [Commit(((0, 10, 1),), "g")]
    assert evaluation.flushed(Flushed(0, 10, 2), 4.0) == [
        Commit(((0, 10, 2),), "g"),
        Evaluated(pytest.approx(3.0)),
    ]


def test_the_last_portion_may_be_smaller_and_weighs_less() -> None:
    evaluation = Evaluation(cut(25, 10))
    evaluation.joined(0, 10, 0.0)
    evaluation.begin("g", 0.0)
    weights = []
    for portion in range(3):
        said = evaluation.computed(computed(0, portion, loss=float(portion)), 1.0 + portion)
        weights += [i.weight for i in said if isinstance(i, Grant)]
    assert weights == [0.4, 0.4, 0.2]
    assert evaluation.flushed(Flushed(0, 10, 1), 9.0)[-1] == Evaluated(pytest.approx(0.8))


def test_replicas_begin_apart_and_again_at_home() -> None:
    evaluation = Evaluation(cut(90, 10))
    for replica in range(3):
        evaluation.joined(replica, 10 + replica, 0.0)
    for _ in range(2):
        given = evaluation.begin("g", 0.0)
        assert [(i.replica, i.portion) for i in given if isinstance(i, Compute)] == [
            (0, 0),
            (1, 3),
            (2, 6),
        ]
        now = 0.0
        for first, replica in product(range(3), range(3)):
            now += 1
            evaluation.computed(computed(replica, 3 * replica + first, 1, evaluation.number), now)
        for replica in range(3):
            said = evaluation.flushed(Flushed(replica, 10 + replica, evaluation.number), now)
        assert said[-1] == Evaluated(pytest.approx(1.0))


def test_an_overdue_portion_is_given_to_another_and_the_first_counts() -> None:
    evaluation = started(2, 2, patience=2.0)
    said = evaluation.computed(computed(0, 0), 1.0)
    assert [type(i) for i in said] == [Grant, Flush]
    assert evaluation.deadline() == 2.0
    assert evaluation.tick(1.5) == []
    assert evaluation.tick(2.0) == [Compute(0, 10, 1, 1, 10, 20)]
    assert evaluation.computed(computed(0, 1), 3.0)[0] == Grant(0, 10, 1, 1, 2, 0.5)
    assert evaluation.computed(computed(1, 1), 3.1) == [Deny(1, 11, 1, 1)]


def test_without_duplicates_the_slowest_is_waited_for() -> None:
    evaluation = started(2, 2, duplicate=False)
    evaluation.computed(computed(0, 0), 1.0)
    assert evaluation.deadline() == math.inf
    assert evaluation.tick(1e6) == []


def test_a_portion_is_given_to_whoever_would_be_first() -> None:
    """Replica 0 needs 1 s for a portion, replica 1 needs 3."""
    evaluation = started(6, 2)
    given = []
    for replica, portion, now in ((0, 0, 1.0), (0, 1, 2.0), (1, 3, 3.0), (0, 2, 3.0), (0, 5, 4.0)):
        said = evaluation.computed(computed(replica, portion), now)
        given += [(i.replica, i.portion) for i in said if isinstance(i, Compute)]
    # Replica 1 holds portion 3, and it computes 4 since 3.0: neither will come before 6.0.
    assert given == [(0, 1), (0, 2), (1, 4), (0, 5), (0, 3)]
    # And the slow one is given nothing that the fast one has.
    assert not any(
        isinstance(i, Compute) for i in evaluation.computed(computed(1, 4), 4.5) if i.replica == 1
    )


def test_what_a_stopped_replica_holds_is_computed_again() -> None:
    """Replica 1 holds portion 2, and stops while it computes 3."""
    evaluation = started(4, 2, flush_every=9)
    evaluation.computed(computed(1, 2), 1.0)
    evaluation.computed(computed(0, 0), 1.5)
    assert evaluation.computed(computed(0, 1), 2.5)[-1] == Flush(0, 10, 1)
    assert evaluation.flushed(Flushed(0, 10, 1), 2.6) == [Commit(((0, 10, 1),), "g")]
    assert evaluation.deadline() == 3.0  # it began portion 3 at 1.0, and usually takes 1 s
    assert evaluation.tick(3.0) == [Compute(0, 10, 1, 2, 20, 30)]
    assert evaluation.computed(computed(0, 2), 4.0) == [
        Grant(0, 10, 1, 2, 2, 0.25),
        Flush(0, 10, 2),
        Compute(0, 10, 1, 3, 30, 40),
    ]
    # Its accumulator is void: what it computes now goes into another one.
    assert evaluation.flushed(Flushed(0, 10, 2), 4.1) == [Commit(((0, 10, 2),), "g")]
    assert evaluation.computed(computed(1, 3), 4.5) == [
        Grant(1, 11, 1, 3, 2, 0.25),
        Flush(1, 11, 2),
    ]


def test_the_first_push_with_a_portion_counts_and_the_other_is_discarded() -> None:
    """Replica 1 is asked for its sum of portions 1 and 2, and stops before it is staged."""
    evaluation = started(3, 2, flush_every=2)
    evaluation.computed(computed(1, 1), 1.0)
    evaluation.computed(computed(0, 0), 1.1)
    assert evaluation.computed(computed(1, 2), 2.0)[-1] == Flush(1, 11, 1)
    assert evaluation.flushed(Flushed(0, 10, 1), 2.1) == [Commit(((0, 10, 1),), "g")]
    when = evaluation.deadline()
    assert when == 2.0 + 2.0 * 1.0  # a push took replica 0 one second
    # Both are idle; the fastest gets it, which happens to be replica 1 itself.
    first, second = evaluation.tick(when)
    assert {(first.replica, first.portion), (second.replica, second.portion)} == {(1, 1), (0, 2)}
    assert evaluation.computed(computed(0, 2), when + 1)[:2] == [
        Grant(0, 10, 1, 2, 2, pytest.approx(1 / 3)),
        Flush(0, 10, 2),
    ]
    said = evaluation.flushed(Flushed(0, 10, 2), when + 1.1)
    assert said == [Commit(((0, 10, 2),), "g"), Discard(((1, 11, 1),))]
    assert evaluation.flushed(Flushed(1, 11, 1), when + 1.2) == []  # too late
    assert evaluation.computed(computed(1, 1), when + 1.3) == [
        Grant(1, 11, 1, 1, 2, pytest.approx(1 / 3)),
        Flush(1, 11, 2),
    ]
    assert evaluation.flushed(Flushed(1, 11, 2), when + 1.4)[-1] == Evaluated(pytest.approx(1.0))


def test_what_the_dead_had_is_given_out_again() -> None:
    evaluation = started(3, 2, flush_every=1)
    evaluation.computed(computed(1, 1), 1.0)  # staged soon, but not committed
    said = evaluation.lost(1, 11, 2.0)
    assert said == [Discard(((1, 11, 1),))]
    assert evaluation.flushed(Flushed(1, 11, 1), 2.1) == []
    assert evaluation.computed(computed(1, 2), 2.2) == []
    assert evaluation.joined(1, 11, 2.3) == []  # the epoch that was given up
    given = [i.portion for i in evaluation.computed(computed(0, 0), 3.0) if isinstance(i, Compute)]
    assert given == [1]


def test_who_is_still_at_an_older_evaluation_promises_nothing_for_this_one() -> None:
    crew = Crew(patience=2.0)
    for number, evaluation in ((0, 1), (1, 2)):
        assert crew.welcome(number, 1)
        crew.replicas[number].task = Task(evaluation, 7 + number, begun_s=10.0, replaces=False)
        crew.replicas[number].compute_s = 3.0
    assert crew.outlooks(2, now=11.0) == {8: Outlook(13.0, 16.0)}
    assert crew.outlooks(2, now=16.0) == {8: Outlook(math.inf, 16.0)}


def test_what_several_have_comes_from_whoever_is_first() -> None:
    crew = Crew(patience=2.0)
    for number, seconds in ((0, 5.0), (1, 1.0), (2, None)):
        assert crew.welcome(number, 1)
        crew.replicas[number].task = Task(1, 0, begun_s=0.0, replaces=False)
        crew.replicas[number].compute_s = seconds
    assert crew.outlooks(1, now=0.5) == {0: Outlook(1.0, 10.0)}
    assert crew.outlooks(1, now=3.0) == {0: Outlook(5.0, 10.0)}  # replica 1 is overdue
    assert not crew.welcome(1, 1)


# --- any order of events ---


def only_evaluations(count: int) -> Steps[float]:
    """Evaluates several times, and moves in between; returns the last gradient's square."""
    total = 0.0
    for _ in range(count):
        yield Evaluate("gradient")
        (total,) = yield (Dot("gradient", "gradient"),)
        yield Report(0, 0, 0.0, 0.0, 0.0)
    return total


def ones(parameters: np.ndarray, start: int, stop: int) -> tuple[float, np.ndarray]:
    """Every example's gradient is an axis of its own: what is missing or twice shows."""
    gradient = np.zeros_like(parameters)
    gradient[start:stop] = 1.0 / (stop - start)
    return 1.0, gradient


TROUBLES = st.builds(
    Trouble,
    at=st.floats(0, 3),
    replica=st.integers(0, 4),
    kind=st.sampled_from(("kill", "stop")),
    back_s=st.floats(0.01, 20),
)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(1, 6),
    st.lists(TROUBLES, max_size=6),
)
def test_each_portion_counts_once_whatever_happens(
    seed: int, shards: int, size: int, flush_every: int, troubles: list[Trouble]
) -> None:
    """Delays from microseconds to seconds, deaths, stops and wake-ups; `World` asserts that no
    push is committed twice or after its discard, and that the dead are told nothing."""
    rng = random.Random(seed)
    world = World(
        only_evaluations(3),
        Evaluation(cut(24, size), flush_every),
        ones,
        np.zeros(24),
        shards,
        [rng.choice((0.01, 0.02, 0.3)) for _ in range(5)],
        delay=wild(rng, 1e-3),
        push_s=wild(rng, 2e-2),
        noise=lambda: rng.uniform(0.5, 2),
        troubles=troubles,
    )
    assert world.run() == pytest.approx(24 / 24**2)
    portions = [*range(len(cut(24, size)))]
    assert world.committed() == [portions] * 3
    np.testing.assert_allclose(world.vector("gradient"), 1 / 24, rtol=1e-12)
    np.testing.assert_array_equal(world.vector(PARAMETERS), 0)


def times(portion_s: list[float], portions: int = 320, **options: bool) -> float:
    """Seconds for the second of two evaluations: the first one shows who is slow."""
    rng = random.Random(0)
    ends: list[float] = []

    def watched() -> Steps[float]:
        algorithm = only_evaluations(2)
        answer: Scalars | None = None
        while True:
            try:
                request = next(algorithm) if answer is None else algorithm.send(answer)
            except StopIteration:
                return 0.0
            if isinstance(request, Report):
                ends.append(world.now)
            answer = yield request

    world = World(
        watched(),
        Evaluation(cut(portions, 1), **options),  # type: ignore[arg-type]
        lambda parameters, start, stop: (0.0, np.zeros_like(parameters)),
        np.zeros(4),
        2,
        portion_s,
        noise=lambda: rng.uniform(0.9, 1.1),
    )
    world.run()
    return ends[1] - ends[0]


def test_a_straggler_costs_no_more_than_its_own_work() -> None:
    """16 replicas, 20 portions for each; one of them is ten times slower. Its own work is
    0.9 / 16 of the whole."""
    even, straggler = [0.01] * 16, [0.01] * 15 + [0.1]
    assert times(straggler) <= 1.15 * times(even)
    assert times(straggler, duplicate=False) > 1.25 * times(even)


def test_few_portions_are_computed_in_vain() -> None:
    """Without stragglers, duplicates are rare."""
    rng = random.Random(0)
    world = World(
        only_evaluations(3),
        Evaluation(cut(320, 1)),
        lambda parameters, start, stop: (0.0, np.zeros_like(parameters)),
        np.zeros(4),
        2,
        [0.01] * 16,
        noise=lambda: rng.uniform(0.8, 1.2),
    )
    world.run()
    assert len(world.computed) <= 1.02 * 3 * 320


@pytest.mark.parametrize("wrong", [{"flush_every": 0}, {"patience": 0.5}])
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Evaluation(cut(4, 2), **wrong)  # type: ignore[arg-type]
