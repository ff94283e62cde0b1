"""Sandblaster on the local backend: distributed L-BFGS equals that of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from replica_tools import arrays, network, train, wholes
from scipy.optimize import minimize

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.actors.sandblaster import progress_of
from dbgraph.compile import make_plan
from dbgraph.errors import UsageError
from dbgraph.job import Job, Step
from dbgraph.machine import Finished, Machine
from dbgraph.optim.lbfgs import LBFGS
from dbgraph.optim.minimise import Stop, minimise
from dbgraph.optim.space import LocalSpace, run
from dbgraph.state import State

EXAMPLES = 43
"""No multiple of the batch: the last portion is shorter."""
ITERATIONS = 30


class OneProcess:
    """The whole network and the whole batch on one machine, as a function of a flat vector."""

    def __init__(self, data: dict[str, np.ndarray], net: dbg.Network) -> None:
        plan = make_plan(net, mode="training")
        self.machine = Machine(Job({"train": plan}), 0)
        self.machine.load(None)
        self.feeds = {leaf.node: data[leaf.of] for leaf in plan.leaves("input", 0)}
        self.leaves = plan.leaves("parameter", 0)
        state = self.machine.collect()
        self.start = np.concatenate([state.whole(leaf.of).ravel() for leaf in self.leaves])

    def __call__(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        ends = np.cumsum([leaf.region.size for leaf in self.leaves])[:-1]
        parts = zip(self.leaves, np.split(flat, ends), strict=True)
        self.machine.set_parameters(
            {leaf.node: part.reshape(leaf.region.shape).copy() for leaf, part in parts}
        )
        self.machine.begin(Step("train"), self.feeds)
        assert isinstance(self.machine.advance(), Finished)
        found = self.machine.gradients()
        gradient = np.concatenate([found[leaf.node].ravel() for leaf in self.leaves])
        return self.machine.result().losses["loss"], gradient

    def flat(self, state: State) -> np.ndarray:
        return np.concatenate([state.whole(leaf.of).ravel() for leaf in self.leaves])


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    return arrays(EXAMPLES, dtype="float64")


@pytest.fixture(scope="module")
def expected(data: dict[str, np.ndarray]) -> tuple[list[float], np.ndarray, OneProcess]:
    """(losses by iteration, the parameters after them)."""
    one = OneProcess(data, network(EXAMPLES, dtype="float64"))
    space = LocalSpace(one.start, one)
    losses: list[float] = []
    stop = Stop(maxiter=ITERATIONS)
    run(minimise(LBFGS(), stop), space, lambda report: losses.append(report.loss))
    return losses[1:], space.parameters, one


@pytest.mark.parametrize(
    ("replicas", "shards", "partitions", "options"),
    [
        (1, 1, 1, {}),
        (3, 2, 1, {"portion": 5, "flush_every": 2}),
        (2, 3, 2, {"portion": 20, "duplicate": False}),
        (4, 2, 2, {"portion": 3, "patience": 1.0}),
    ],
)
def test_the_iterates_are_those_of_one_process(
    replicas: int,
    shards: int,
    partitions: int,
    options: dict[str, object],
    data: dict[str, np.ndarray],
    expected: tuple[list[float], np.ndarray, OneProcess],
) -> None:
    losses, parameters, one = expected
    found = train(
        network(dtype="float64"), data, algorithm=dbg.Sandblaster(**options), steps=ITERATIONS,
        replicas=replicas, shards=shards, partitions=partitions,
    )  # fmt: skip
    assert len(found.losses) == found.step == ITERATIONS
    np.testing.assert_allclose(found.losses, losses, rtol=1e-8)
    scale = np.abs(parameters).max()
    np.testing.assert_allclose(one.flat(found.final), parameters, rtol=1e-8, atol=1e-8 * scale)


def logistic(batch: int) -> dbg.Network:
    with dbg.Network("logistic", batch=batch, seed=1, dtype="float64") as net:
        x, y = dbg.input("x", (6,)), dbg.input("y", (), dtype="int32")
        dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(3, l2=0.01, name="scores")(x), y))
    return net


def digits(batch: int) -> dbg.Network:
    with dbg.Network("digits", batch=batch, seed=1, dtype="float64") as net:
        x, y = dbg.input("x", (64,)), dbg.input("y", (), dtype="int32")
        h = L.Dense(12, activation="tanh", l2=1e-3, name="hidden")(x)
        dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(10, l2=1e-3, name="scores")(h), y))
    return net


def of_digits() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits

    held = load_digits()
    return {"x": held.data[:300] / 16, "y": held.target[:300].astype(np.int32)}


@pytest.mark.parametrize(
    ("net", "data", "portion", "history"),
    [
        (logistic, lambda: arrays(EXAMPLES, dtype="float64"), 5, 5),
        (logistic, lambda: arrays(EXAMPLES, dtype="float64"), 5, 10),
        pytest.param(digits, of_digits, 60, 10, marks=pytest.mark.slow),
    ],
)
def test_no_worse_than_scipy_with_5_percent_more_evaluations(
    net: Callable[[int], dbg.Network],
    data: Callable[[], dict[str, np.ndarray]],
    portion: int,
    history: int,
) -> None:
    """Over shards and replicas, as the command runs it; `test_lbfgs` has more problems."""
    given = data()
    one, limits = OneProcess(given, net(len(given["y"]))), {"gtol": 1e-5, "ftol": 1e-9}
    options = {"maxcor": history, **limits}
    theirs = minimize(one, one.start, jac=True, method="L-BFGS-B", options=options)
    assert theirs.success
    algorithm = dbg.Sandblaster(history=history, portion=portion, **limits)
    found = train(net(portion), given, algorithm=algorithm, replicas=3, shards=2, steps=5000)
    record = progress_of(found.final)
    assert record is not None
    assert record.report.evaluations <= 1.05 * theirs.nfev
    assert found.losses[-1] <= theirs.fun + 1e-6


@pytest.mark.slow
def test_float32_comes_to_the_same_loss() -> None:
    data = arrays(EXAMPLES)
    one, losses = OneProcess(data, network(EXAMPLES)), list[float]()
    stop = Stop(gtol=0, ftol=0, maxiter=ITERATIONS)
    run(minimise(LBFGS(), stop), LocalSpace(one.start, one), lambda r: losses.append(r.loss))
    found = train(
        data=data, algorithm=dbg.Sandblaster(portion=5, flush_every=2, gtol=0, ftol=0),
        replicas=3, shards=2, partitions=2, steps=ITERATIONS,
    )  # fmt: skip
    assert found.step == ITERATIONS
    np.testing.assert_allclose(found.losses[-1], losses[-1], rtol=1e-4)


def test_a_run_that_goes_on_is_one_that_did_not_stop(
    tmp_path: Path,
    data: dict[str, np.ndarray],
    expected: tuple[list[float], np.ndarray, OneProcess],
) -> None:
    """The history comes along, onto other numbers of shards, replicas and partitions."""
    net, folder = network(dtype="float64"), tmp_path / "run"
    first = train(net, data, algorithm="sandblaster", shards=2, steps=12, checkpoint=folder)
    assert first.reason.startswith("maxiter")
    found = train(
        net, data, algorithm="sandblaster", shards=3, replicas=2, partitions=2,
        steps=ITERATIONS, checkpoint=folder, resume=True,
    )  # fmt: skip
    np.testing.assert_allclose([*first.losses, *found.losses], expected[0], rtol=1e-8)


def test_it_stops_where_it_has_converged() -> None:
    net = network(dtype="float64")
    found = train(net, arrays(24, dtype="float64"), algorithm=dbg.Sandblaster(gtol=1e-2), steps=500)
    assert found.step < 500
    assert "gtol" in found.reason


def test_the_methods_are_known() -> None:
    data = arrays(24)
    losses = {
        method: train(data=data, algorithm=dbg.Sandblaster(method), steps=8).losses
        for method in ("lbfgs", "cg", "gd")
    }
    assert all(found[-1] < found[0] for found in losses.values())
    assert losses["lbfgs"][-1] < losses["gd"][-1]


def test_what_it_can_not_do_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"layer 'drop'.*is dropout"):
        train(network(dropout=0.5), algorithm="sandblaster")
    with pytest.raises(UsageError, match="optimizer adam"):
        train(algorithm="sandblaster", optimizer="adam")
    with pytest.raises(UsageError, match="no method 'lbfg'"):
        dbg.Sandblaster("lbfg")


@pytest.mark.parametrize("after", [pytest.param(None, marks=pytest.mark.slow), "downpour"])
def test_sgd_goes_on_from_it_and_it_from_sgd(after: str | None, tmp_path: Path) -> None:
    train(steps=3, optimizer="momentum", checkpoint=tmp_path)
    middle = train(steps=6, algorithm="sandblaster", checkpoint=tmp_path, resume=True)
    assert len(middle.losses) == 3
    found = train(steps=9, algorithm=after, optimizer="adam", checkpoint=tmp_path, resume=True)
    assert found.step == 9
    assert set(wholes(found.final)) >= {("0.mu", "hidden/weights"), ("", "scores/biases")}


@pytest.mark.slow
def test_a_line_search_that_fails_is_told_and_the_best_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train(
        data=arrays(24), algorithm=dbg.Sandblaster(gtol=0, ftol=0), steps=2000,
        checkpoint=tmp_path, progress="lines",
    )  # fmt: skip
    assert found.reason.startswith("the line search failed")
    assert found.reason in capsys.readouterr().err
    assert found.checkpoint is not None
    assert found.losses[-1] == min(found.losses)
