"""One suite over all backends that are installed: what `dbgraph.backends.base` promises."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from uncut import Results, initial_parameters, results

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.backends.base import Backend, backends, make_backend
from dbgraph.compile import Options, make_plans
from dbgraph.data import ArraySource
from dbgraph.errors import DataError, UsageError
from dbgraph.job import Job, Step, StepResult
from dbgraph.optim.rules import Rule

BATCH = 8
EVERYTHING = frozenset({"loss", "output", "gradient"})


def network() -> dbg.Network:
    """Halos, a shared parameter, dropout, an inner cut and two losses, in little."""
    with dbg.Network("conformance", batch=BATCH) as net:
        image = dbg.input("image", (6, 6, 1))
        label = dbg.input("label", (), dtype="int32")
        h = L.LocallyConnected2D(maps=2, patch=(3, 3), activation="tanh", cut={"rows": 2})(image)
        h = L.Conv2D(maps=2, patch=(3, 3), padding="same", cut={"rows": 2})(h)
        h = L.Dropout(0.25)(h)
        scores = L.Dense(5, cut={"rows": 2}, l2=0.01)(h)
        dbg.loss(L.SoftmaxCrossEntropy()(scores, label), name="class")
        dbg.output("class", L.ArgMax()(scores))
        dbg.output("scores", scores)
    return net


NETWORK = network()


def arrays(examples: int = BATCH) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {
        "image": rng.normal(size=(examples, 6, 6, 1)).astype("float32"),
        "label": rng.integers(0, 5, examples).astype("int32"),
    }


def job(microbatches: int = 1, rule: Rule | None = None, partitions: int = 2) -> Job:
    options = Options(partitions, microbatches, "tiles", ("training", "evaluation"))
    plans = make_plans(NETWORK, options)
    source = ArraySource(arrays(3 * BATCH))
    return Job(
        {"train": plans["training"], "evaluate": plans["evaluation"]}, rule, {"train": source}
    )


@pytest.fixture(
    params=[
        pytest.param(name, marks=[] if name == "local" else pytest.mark.slow)
        for name in sorted(backends())
    ]
)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    made = make_backend(request.param)
    yield made
    made.stop()


def one_step(backend: Backend, given: Job, **what: object) -> StepResult:
    backend.start(given)
    backend.load(None)
    return backend.step(Step("train", feeds=arrays(), want=EVERYTHING, **what))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def expected() -> Results:
    """Of the whole network, at step 5."""
    return results(NETWORK, initial_parameters(NETWORK), arrays(), step=5)


@pytest.mark.parametrize("microbatches", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_step_computes_what_the_uncut_network_does(
    backend: Backend, microbatches: int, expected: Results
) -> None:
    losses, outputs, gradients = expected
    got = one_step(backend, job(microbatches), number=5)
    assert got.losses["loss"] == pytest.approx(losses["loss"], rel=1e-5)
    assert got.losses["class"] == pytest.approx(losses["class"], rel=1e-5)
    np.testing.assert_array_equal(got.outputs["class"], outputs["class"])
    np.testing.assert_allclose(got.outputs["scores"], outputs["scores"], rtol=1e-4, atol=1e-5)
    assert set(got.gradients) == set(gradients)
    for name, value in gradients.items():
        np.testing.assert_allclose(got.gradients[name], value, rtol=1e-4, atol=1e-6)


def test_only_what_is_wanted_comes_back(backend: Backend) -> None:
    backend.start(job())
    backend.load(None)
    got = backend.step(Step("train", feeds=arrays(), want=frozenset({"loss"})))
    assert set(got.losses) >= {"loss", "class"}
    assert not got.outputs
    assert not got.gradients


def test_evaluation_sees_the_trained_parameters_and_no_dropout(backend: Backend) -> None:
    backend.start(job(rule=Rule.of("sgd", learning_rate=0.1)))
    backend.load(None)
    evaluate = Step("evaluate", feeds=arrays())
    before = backend.step(evaluate).losses["loss"]
    assert backend.step(evaluate).losses["loss"] == before
    for number in range(5):
        backend.step(Step("train", number=number, feeds=arrays()))
    assert backend.step(evaluate).losses["loss"] < before


def test_a_collected_state_goes_on_as_if_nothing_had_happened(backend: Backend) -> None:
    rule = Rule.of("momentum", learning_rate=0.1)
    backend.start(job(rule=rule))
    backend.load(None)
    for number in range(3):
        backend.step(Step("train", number=number, feeds=arrays()))
    state = backend.collect()
    assert state.step == 3
    expected = backend.step(Step("train", number=3, feeds=arrays())).losses
    after = backend.collect()
    backend.load(state)
    assert backend.step(Step("train", number=3, feeds=arrays())).losses == expected
    again = backend.collect()
    assert again.step == after.step == 4
    for (slot, name), pieces in after.tensors.items():
        for region, value in pieces:
            np.testing.assert_array_equal(again.region(name, region, slot), value)


def test_machines_read_their_own_data(backend: Backend) -> None:
    examples = np.asarray([17, 3, 5, 23, 0, 8, 9, 2])
    whole = arrays(3 * BATCH)
    backend.start(job())
    backend.load(None)
    read = backend.step(Step("train", examples=examples, want=EVERYTHING))
    chosen = {name: array[examples] for name, array in whole.items()}
    fed = backend.step(Step("train", feeds=chosen, want=EVERYTHING))
    assert read.losses == fed.losses
    for name, value in fed.gradients.items():
        np.testing.assert_array_equal(read.gradients[name], value)


def test_feeds_that_do_not_fit_are_refused(backend: Backend) -> None:
    backend.start(job())
    backend.load(None)
    for name, wrong in (
        ("image", np.zeros((BATCH, 6, 5, 1), "float32")),
        ("label", np.zeros(BATCH, "int64")),
        ("colour", np.zeros(BATCH, "int32")),
    ):
        with pytest.raises(DataError, match=name):
            backend.step(Step("train", feeds={**arrays(), name: wrong}))
        assert backend.step(Step("train", feeds=arrays())).losses


def test_stop_may_come_at_any_time_and_twice(backend: Backend) -> None:
    backend.stop()
    backend.start(job())
    backend.stop()
    backend.stop()


def test_an_unknown_backend_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no backend 'lokal'") as error:
        make_backend("lokal")
    assert "local" in str(error.value)
