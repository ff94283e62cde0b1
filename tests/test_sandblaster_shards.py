"""The coordinators' orders, executed by the parameter server's own shards."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest
from objectives import Vector, generated, logistic, whole
from ps_tools import leaves, make_shards, server_values, whole_state

from dbgraph.coordinate.evaluation import Evaluation
from dbgraph.coordinate.messages import (
    Compute,
    Computed,
    Contribute,
    Contributed,
    Deny,
    Flush,
    Flushed,
    Grant,
)
from dbgraph.coordinate.portions import cut
from dbgraph.coordinate.sandblaster import Finished, Sandblaster
from dbgraph.coordinate.sync import Stepped, SyncSgd
from dbgraph.ir.types import TensorType
from dbgraph.optim.lbfgs import LBFGS
from dbgraph.optim.minimise import Stop, minimise
from dbgraph.optim.rules import Rule
from dbgraph.optim.space import LocalSpace, run
from dbgraph.optim.vectors import Report
from dbgraph.ps.layout import lay_out
from dbgraph.ps.messages import Admit, Execute, Stage, Staged
from dbgraph.ps.packing import part_of

EXAMPLES, SIZE = 300, 30
LOSS = logistic(*generated(EXAMPLES, SIZE, seed=1), 1e-3)


class Cluster:
    """Shards and replicas of one partition; what is asked first is done first."""

    def __init__(self, shards: int, replicas: int, rule: Rule | None) -> None:
        types = {"w": TensorType((SIZE, 1), "float64")}
        self.layout = lay_out(types, leaves(types, 1), shards)
        self.shards = make_shards(self.layout, rule, whole_state({"w": np.zeros((SIZE, 1))}))
        self.todo: deque[Any] = deque()
        self.gradients: dict[tuple[int, int], Vector] = {}
        self.sums: dict[tuple[int, int], Vector] = {}
        for shard in self.shards:
            for replica in range(replicas):
                shard.receive("coordinator", Admit(replica, 1, (0,)))

    def values(self) -> Vector:
        return server_values(self.layout, self.shards)["w"].ravel()

    def execute(self, message: Execute) -> list[tuple[int, int, tuple[float, ...]]]:
        answers = []
        for number, shard in enumerate(self.shards):
            (reply,) = shard.receive("coordinator", message)
            answers.append((number, reply.message.number, reply.message.scalars))
        return answers

    def stage(self, replica: int, sequence: int, gradient: Vector) -> None:
        for shard, owned in zip(self.shards, self.layout.shards, strict=True):
            parts = tuple(map(part_of, owned))
            arrays = tuple(gradient.reshape(SIZE, 1)[one.region.slices()] for one in owned)
            (reply,) = shard.receive(replica, Stage(replica, 0, 1, sequence, parts), arrays)
            assert reply.message == Staged(replica, 0, 1, sequence)


@pytest.mark.parametrize("shards", [1, 3])
def test_sandblaster_on_the_servers_shards_is_that_of_one_process(shards: int) -> None:
    stop = Stop(gtol=0, ftol=0, maxiter=12)
    space, expected = LocalSpace(np.zeros(SIZE), whole(LOSS, EXAMPLES)), []  # type: ignore[var-annotated]
    run(minimise(LBFGS(4), stop), space, lambda _: expected.append(space.parameters.copy()))

    cluster, found = Cluster(shards, replicas=2, rule=None), []
    evaluation = Evaluation(cut(EXAMPLES, 40), flush_every=2)
    for replica in range(2):
        evaluation.joined(replica, 1, 0.0)
    coordinator: Sandblaster[Any] = Sandblaster(minimise(LBFGS(4), stop), evaluation, shards)
    todo = deque(coordinator.start())
    while not isinstance(one := todo.popleft(), Finished):
        match one:
            case Execute():
                for answer in cluster.execute(one):
                    todo += coordinator.executed(*answer, 0.0)
            case Report():
                found.append(cluster.values())
                todo += coordinator.go_on()
            case Compute(replica, _, evaluated, portion, start, end):
                loss, gradient = LOSS(cluster.values(), start, end)
                cluster.gradients[replica, portion] = gradient
                todo += coordinator.computed(Computed(replica, 1, evaluated, portion, loss), 0.0)
            case Grant(replica, _, _, portion, sequence, weight):
                share = weight * cluster.gradients.pop((replica, portion))
                cluster.sums[replica, sequence] = share + cluster.sums.get((replica, sequence), 0)
            case Flush(replica, _, sequence):
                cluster.stage(replica, sequence, cluster.sums.pop((replica, sequence)))
                todo += coordinator.flushed(Flushed(replica, 1, sequence), 0.0)
            case Deny(replica, _, _, portion):
                del cluster.gradients[replica, portion]
    assert len(found) == 13
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-11)


def test_synchronous_sgd_on_the_servers_shards_is_large_batch_sgd() -> None:
    cluster = Cluster(shards=2, replicas=3, rule=Rule.of("sgd", learning_rate=0.1))
    coordinator = SyncSgd(replicas=2, shards=2)
    todo: deque[Any] = deque()
    for replica in range(3):
        todo += coordinator.joined(replica, 1)
    expected = np.zeros(SIZE)
    while coordinator.step < 5:
        match todo.popleft():
            case Contribute(replica, _, step, sequence):
                start, size = 40 * replica + step, 10 + replica
                loss, gradient = LOSS(cluster.values(), start, start + size)
                cluster.stage(replica, sequence, size * gradient)
                todo += coordinator.contributed(Contributed(replica, 1, step, size, loss))
            case Execute() as message:
                for shard, number, _ in cluster.execute(message):
                    todo += coordinator.executed(shard, number)
            case Stepped(step, _, examples, counted):
                assert counted == ((0, 1), (1, 1))
                ranges = [(40 * r + step, 40 * r + step + 10 + r) for r, _ in counted]
                gradients = [(b - a) * LOSS(expected, a, b)[1] for a, b in ranges]
                expected = expected - 0.1 * sum(gradients) / examples
                np.testing.assert_allclose(cluster.values(), expected, rtol=1e-6, atol=1e-12)
