"""Synchronous SGD with backup workers, against a sequential model and large-batch SGD."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives import Vector, generated, logistic
from sandblaster_world import Shard

from dbgraph.coordinate.messages import Contribute, Contributed
from dbgraph.coordinate.sync import Phase, Stepped, SyncSgd
from dbgraph.errors import UsageError
from dbgraph.optim.vectors import PARAMETERS, Zero
from dbgraph.ps.messages import Commit, Discard, Execute, Update

EXAMPLES = 240
LOSS = logistic(*generated(EXAMPLES, 12, seed=2), 1e-2)
RATE = 0.1


def share(replica: int, step: int, size: int) -> tuple[int, int]:
    """Which examples a replica takes at a step; each has its own batch size."""
    start = (37 * step + 53 * replica) % (EXAMPLES - size)
    return start, start + size


@dataclass
class World:
    """Replicas and shards; at every turn one of them, drawn by chance, does its next thing."""

    rng: random.Random
    shards: list[Shard]
    coordinator: SyncSgd
    sizes: list[int]
    todo: list[Any] = field(default_factory=list)
    inbox: dict[tuple[int, int], list[Contribute]] = field(default_factory=dict)
    asked: dict[int, list[Execute | tuple[int, int]]] = field(default_factory=dict)
    steps: list[Stepped] = field(default_factory=list)
    starts: list[Vector] = field(default_factory=list)
    epoch: int = 0

    def follow(self, instructions: list[Any]) -> None:
        for instruction in instructions:
            match instruction:
                case Execute():
                    for shard in range(len(self.shards)):
                        self.asked.setdefault(shard, []).append(instruction)
                case Contribute(replica, epoch):
                    assert (replica, epoch) in self.inbox, "an instruction for the dead"
                    self.inbox[replica, epoch].append(instruction)
                case Stepped():
                    self.steps.append(instruction)
                    self.starts.append(self.vector())

    def join(self, replica: int) -> None:
        self.epoch += 1
        self.inbox[replica, self.epoch] = []
        self.follow(self.coordinator.joined(replica, self.epoch))

    def kill(self) -> None:
        replica, epoch = self.rng.choice(sorted(self.inbox))
        del self.inbox[replica, epoch]
        self.follow(self.coordinator.lost(replica, epoch))
        for shard in range(len(self.shards)):  # after what was sent before
            self.asked.setdefault(shard, []).append((replica, epoch))

    def turn(self) -> None:
        """A replica works at its next message, or a shard executes what comes next."""
        ready = [("work", name) for name, messages in self.inbox.items() if messages]
        ready += [("shard", number) for number, orders in self.asked.items() if orders]
        kind, who = self.rng.choice(ready)
        if kind == "work":
            self.work(self.inbox[who].pop(0))
        else:
            message = self.asked[who].pop(0)
            if isinstance(message, Execute):
                self.shards[who].execute(message)
                self.follow(self.coordinator.executed(who, message.number))
            else:
                self.shards[who].close(*message)

    def work(self, work: Contribute) -> None:
        size = self.sizes[work.replica]
        loss, gradient = LOSS(self.vector(), *share(work.replica, work.step, size))
        push = (work.replica, work.epoch, work.sequence)
        parts = np.array_split(size * gradient, len(self.shards))
        for shard, part in zip(self.shards, parts, strict=True):
            assert shard.stage(push, part)
        self.follow(
            self.coordinator.contributed(
                Contributed(work.replica, work.epoch, work.step, size, loss)
            )
        )

    def vector(self) -> Vector:
        return np.concatenate([shard.vectors[PARAMETERS] for shard in self.shards])


class RateShard(Shard):
    """Its rule is gradient descent with RATE."""

    def execute(self, message: Execute) -> tuple[float, ...]:
        orders = [
            Update(order.x, RATE * order.factor) if isinstance(order, Update) else order
            for order in message.orders
        ]
        return super().execute(Execute(message.number, tuple(orders)))


def world_of(seed: int, shards: int, replicas: int, needed: int) -> World:
    rng = random.Random(seed)
    parts = np.array_split(np.zeros(12), shards)
    sizes = [rng.randint(1, 30) for _ in range(replicas)]
    world = World(rng, [RateShard(p) for p in parts], SyncSgd(needed, shards), sizes)
    for replica in range(replicas):
        world.join(replica)
    return world


def assert_large_batch(world: World) -> None:
    """Each step is one of gradient descent over exactly the examples that counted."""
    w = np.zeros(12)
    for number, (stepped, found) in enumerate(zip(world.steps, world.starts, strict=True)):
        assert stepped.step == number
        ranges = [share(r, number, world.sizes[r]) for r, _ in stepped.counted]
        examples = sum(stop - start for start, stop in ranges)
        parts = [LOSS(w, start, stop) for start, stop in ranges]
        weights = [(stop - start) / examples for start, stop in ranges]
        assert stepped.examples == examples
        assert stepped.loss == pytest.approx(
            sum(weight * loss for weight, (loss, _) in zip(weights, parts, strict=True))
        )
        gradients = [gradient for _, gradient in parts]
        w = w - RATE * sum(weight * g for weight, g in zip(weights, gradients, strict=True))
        np.testing.assert_allclose(found, w, rtol=1e-6, atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.booleans()
)
def test_it_is_large_batch_sgd_over_those_that_counted(
    seed: int, shards: int, needed: int, backups: int, deaths: bool
) -> None:
    world = world_of(seed, shards, needed + backups, needed)
    while len(world.steps) < 12:
        world.turn()
        if deaths and world.rng.random() < 0.03 and len(world.inbox) > 1:
            world.kill()
        missing = set(range(needed + backups)) - {replica for replica, _ in world.inbox}
        if missing and world.rng.random() < 0.05:
            world.join(min(missing))
    assert_large_batch(world)
    for stepped in world.steps:
        assert len(set(stepped.counted)) == len(stepped.counted) <= needed
        assert deaths or len(stepped.counted) == needed
    # Nothing that did not count is left on the shards, but of the step under way.
    for shard in world.shards:
        assert {sequence for _, _, sequence in shard.staged} <= {12, 13}


def test_without_backups_it_is_every_replica() -> None:
    world = world_of(3, shards=2, replicas=4, needed=4)
    while len(world.steps) < 30:
        world.turn()
    assert_large_batch(world)
    assert all(len(stepped.counted) == 4 for stepped in world.steps)


# --- step by step ---


def test_the_first_r_count_and_the_late_are_discarded() -> None:
    sync = SyncSgd(replicas=2, shards=1)
    assert [sync.joined(replica, 5) for replica in range(3)] == [
        [Contribute(replica, 5, 0, 1)] for replica in range(3)
    ]
    assert sync.contributed(Contributed(2, 5, 0, 30, 1.0)) == []
    assert sync.contributed(Contributed(0, 5, 0, 10, 2.0)) == [
        Execute(
            1,
            (
                Zero("gradient"),
                Commit(((0, 5, 1), (2, 5, 1)), "gradient"),
                Discard(((1, 5, 1),)),
                Update("gradient", 1 / 40),
            ),
        )
    ]
    assert sync.phase is Phase.UPDATING
    assert sync.contributed(Contributed(1, 5, 0, 10, 9.0)) == []  # late
    assert sync.joined(3, 6) == []  # it begins with the next step
    assert sync.executed(0, 1) == [
        Stepped(0, 1.25, 40, ((0, 5), (2, 5))),
        *(Contribute(replica, 5, 1, 2) for replica in range(3)),
        Contribute(3, 6, 1, 2),
    ]
    assert sync.contributed(Contributed(1, 5, 0, 10, 9.0)) == []  # later still


def test_who_dies_after_its_contribution_does_not_count() -> None:
    sync = SyncSgd(replicas=2, shards=1)
    for replica in range(3):
        sync.joined(replica, 5)
    sync.contributed(Contributed(0, 5, 0, 10, 1.0))
    assert sync.lost(0, 5) == []
    assert sync.joined(0, 5) == []  # the epoch that was given up
    sync.contributed(Contributed(1, 5, 0, 10, 1.0))
    (execute,) = sync.contributed(Contributed(2, 5, 0, 10, 1.0))
    assert isinstance(execute, Execute)
    assert execute.orders[1:3] == (
        Commit(((1, 5, 1), (2, 5, 1)), "gradient"),
        Discard((), epochs=((0, 5),)),
    )


def test_who_comes_back_anew_contributes_anew() -> None:
    sync = SyncSgd(replicas=1, shards=1)
    sync.joined(0, 5)
    assert sync.joined(0, 6) == [Contribute(0, 6, 0, 1)]
    assert sync.contributed(Contributed(0, 5, 0, 10, 1.0)) == []
    (execute,) = sync.contributed(Contributed(0, 6, 0, 10, 1.0))
    assert isinstance(execute, Execute)
    assert execute.orders[1:3] == (
        Commit(((0, 6, 1),), "gradient"),
        Discard((), epochs=((0, 5),)),
    )


def test_with_fewer_replicas_than_asked_for_it_takes_those_there_are() -> None:
    sync = SyncSgd(replicas=3, shards=1)
    for replica in range(2):
        sync.joined(replica, 5)
    sync.contributed(Contributed(0, 5, 0, 10, 1.0))
    (execute,) = sync.lost(1, 5)
    assert isinstance(execute, Execute)
    sync.executed(0, 1)
    assert sync.lost(0, 5) == []  # nobody: it waits
    assert sync.joined(1, 6) == [Contribute(1, 6, 1, 2)]
    assert len(sync.contributed(Contributed(1, 6, 1, 10, 1.0))) == 1


def test_no_replicas_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        SyncSgd(0, 1)
