"""The coordinator: replicas join, are lost, and leave; every batch is used once; alarms."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ps_tools import World, chooser, leaves

from dbgraph.ir.types import TensorType
from dbgraph.optim.rules import Rule
from dbgraph.ps.alarm import WINDOW, Alarm, LossWatch
from dbgraph.ps.downpour import Coordinator, Doing, Finished, Gone, ToReplica
from dbgraph.ps.ledger import Ledger, numbers
from dbgraph.ps.messages import Admitted, Closed, End, Join, Leave, Progress, Train, Work
from dbgraph.ps.options import Downpour
from dbgraph.ps.replica import Over, ReplicaDriver, Tell
from dbgraph.ps.snapshot import ToShard
from dbgraph.sampler import Batches

TOTAL = 26
TYPES = {name: TensorType((TOTAL,), "float64") for name in ("a", "b")}
BATCHES = Batches(40, 4, 0)
ONE = Rule.of("sgd", learning_rate=1.0)


def world_of(
    choose: Any, options: Downpour, shards: int = 2, partitions: int = 1, total: int = TOTAL
) -> World:
    """Batch n's gradient is 1 at element n of both parameters, which are on two shards."""
    bounds = {
        leaf.node: leaf.region.bounds[0] for held in leaves(TYPES, partitions) for leaf in held
    }

    def compute(batch: int, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {leaf: (np.arange(*bounds[leaf]) == batch).astype(float) for leaf in parameters}

    ledger = Ledger(BATCHES, total)
    return World(TYPES, shards, partitions, ONE, options, ledger, compute, choose)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1 << 30),
    shards=st.integers(1, 3),
    partitions=st.integers(1, 2),
    n_fetch=st.integers(1, 3),
    n_push=st.integers(1, 3),
    max_staleness=st.sampled_from([None, 0, 2]),
    warm_start=st.sampled_from([0, 5]),
)
def test_every_batch_is_used_once_whoever_joins_and_dies(
    seed: int,
    shards: int,
    partitions: int,
    n_fetch: int,
    n_push: int,
    max_staleness: int | None,
    warm_start: int,
) -> None:
    choose = chooser(seed)
    options = Downpour(n_fetch, n_push, warm_start=warm_start, max_staleness=max_staleness, share=4)
    world = world_of(choose, options, shards, partitions)
    pids = [world.join(), world.join()]
    for _ in range(20_000):
        if not world.turn():
            break
        if choose(70) == 0 and len(pids) < 7:
            living = [pid for pid in pids if not world.processes[pid].is_over]
            if not living:
                continue
            event, pid = choose(3), living[choose(len(living))]
            if event == 0:
                world.kill(pid, choose)
            elif event == 1:
                world._coordinate(world.coordinator.remove(world.processes[pid].replica))
            pids.append(world.join())
    assert world.is_finished, "it does not come to an end"
    assert world.coordinator.ledger.used == ((0, TOTAL),)
    partial = set(numbers(world.coordinator.ledger.partial.pairs))
    assert sum(gone.halved for gone in world.gone) == len(partial)
    for value in world.values().values():
        assert not np.any(value < -1), "used twice"
        assert set(np.flatnonzero(value == 0)) <= partial, "lost"
    assert all(process.is_over for process in world.processes.values())


def test_replicas_share_the_data() -> None:
    world = world_of(chooser(1), Downpour(share=2))
    pids = [world.join() for _ in range(3)]
    world.run()
    for pid in pids:
        used = world.processes[pid].clients[0].applied
        assert len(used) >= TOTAL // 6
    assert sum(len(world.processes[p].clients[0].applied) for p in pids) <= TOTAL


def test_one_replica_warms_up_before_the_others_begin() -> None:
    world = world_of(chooser(2), Downpour(warm_start=8, share=2))
    world.join()
    world.join()
    replicas = world.coordinator.replicas
    while replicas[1].doing is Doing.WAITING:
        assert replicas[0].steps < 8
        assert world.turn()
    assert replicas[0].steps == 8
    world.run()
    assert world.is_finished
    assert world.coordinator.ledger.used == ((0, TOTAL),)


def test_another_one_warms_up_when_the_first_dies() -> None:
    world = world_of(chooser(3), Downpour(warm_start=20, share=2))
    pid = world.join()
    world.join()
    for _ in range(40):
        world.turn()
    assert world.coordinator.replicas[1].doing is Doing.WAITING
    world.kill(pid, chooser(3))
    world.run()
    assert world.is_finished
    assert world.coordinator.ledger.used == ((0, TOTAL),)


def test_late_writes_of_a_replica_that_was_given_up_are_refused() -> None:
    """SIGSTOP, then SIGCONT: it is thought dead, and goes on."""
    world = world_of(chooser(4), Downpour(share=4))
    stopped, _ = world.join(), world.join()
    while world.processes[stopped].computing == {}:
        world.turn()
    number = world.processes[stopped].replica
    frozen = dict(world.processes[stopped].computing)
    world.processes[stopped].computing.clear()
    world._coordinate(world.coordinator.lost(number))
    for _ in range(60):
        world.turn()
    world.join()  # takes its number
    assert world.coordinator.replicas[number].epoch == 2
    world.processes[stopped].computing.update(frozen)
    world.processes[stopped].replica = -2  # its lines from the coordinator are cut
    world.run()
    assert world.processes[stopped].is_over, "a shard's refusal tells it to end"

    assert world.is_finished
    for value in world.values().values():
        np.testing.assert_array_equal(value, -np.ones(TOTAL))


@pytest.mark.parametrize("max_staleness", [0, 1, 3])
def test_bounded_staleness_bounds_who_is_ahead(max_staleness: int) -> None:
    world = world_of(chooser(5), Downpour(max_staleness=max_staleness, share=2))
    for _ in range(3):
        world.join()
    while world.turn():
        for shard in world.shards:
            members = shard._streams._members
            clocks = [m.clock + s.sequence for m in members.values() for s in m.streams.values()]
            # One more push may be under way after the last fetch that was answered.
            assert max(clocks, default=0) - min(clocks, default=0) <= max_staleness + 1
    assert world.is_finished


def coordinator_of(total: int = TOTAL, **options: Any) -> Coordinator:
    ledger = Ledger(BATCHES, total)
    return Coordinator("net", {0: (0,), 1: (0,)}, Downpour(**options), ledger, 4)


def train(coordinator: Coordinator, number: int, epoch: int = 1) -> None:
    for shard in (0, 1):
        found = coordinator.admitted(shard, Admitted(number, epoch))
    assert found == [ToReplica(number, Train(number, epoch))]


def test_a_replica_of_another_network_is_sent_away() -> None:
    number, found = coordinator_of().join(Join("other"))
    assert found == [ToReplica(number, End("its network is other, that of this run net"))]


def test_a_backend_may_number_its_replicas_itself() -> None:
    coordinator = coordinator_of()
    assert coordinator.join(Join("net"), 5)[0] == 5
    assert coordinator.join(Join("net"))[0] == 0
    assert set(coordinator.replicas) == {0, 5}


def test_messages_of_an_epoch_that_is_over_are_not_taken() -> None:
    coordinator = coordinator_of()
    coordinator.join(Join("net"))
    assert coordinator.progress(Progress(0, 1, 0, 0.0, 0, (), True)) == [], "not admitted yet"
    train(coordinator, 0)
    (work,) = coordinator.progress(Progress(0, 1, 0, 0.0, 0, (), True))
    assert work == ToReplica(0, Work(((0, 4),)))
    closes = coordinator.lost(0)
    assert [type(c) for c in closes] == [ToShard, ToShard]
    assert coordinator.lost(0) == []
    assert coordinator.progress(Progress(0, 1, 3, nan, 1, ((0, 3),), True)) == []
    assert coordinator.leave(Leave(0, 1)) == []
    assert coordinator.closed(0, Closed(0, 1, ())) == []
    assert coordinator.closed(1, Closed(0, 2, ())) == []
    assert coordinator.closed(1, Closed(0, 1, ())) == [Gone(0, ((0, 4),))]
    assert coordinator.ledger.free == TOTAL
    assert coordinator.lost(0) == coordinator.remove(0) == []


def test_who_is_removed_before_it_trains_is_gone() -> None:
    coordinator = coordinator_of(warm_start=3)
    coordinator.join(Join("net"))
    coordinator.join(Join("net"))
    end, gone = coordinator.remove(1)
    assert (end, gone) == (ToReplica(1, End("it was removed")), Gone(1, ()))
    told, *closes = coordinator.remove(0)  # the shards are admitting it
    assert told == ToReplica(0, End("it was removed"))
    assert len(closes) == 2
    assert coordinator.admitted(0, Admitted(0, 1)) == []


def test_a_run_without_anything_left_is_finished_at_once() -> None:
    coordinator = coordinator_of(total=0)
    _, found = coordinator.join(Join("net"))
    assert found == [ToReplica(0, End("all batches are used")), Finished()]
    assert coordinator.join(Join("net")) == (1, [ToReplica(1, End("all batches are used"))])


def test_a_driver_that_never_trained_ends_at_once() -> None:
    assert ReplicaDriver(2).end(End("why")) == [Over("why")]
    driver = ReplicaDriver(1)
    driver.train(Train(0, 1))
    assert driver.dismissed("closed") == [Over("closed")]


def test_a_driver_stops_all_partitions_after_the_same_step() -> None:
    driver = ReplicaDriver(2)
    driver.train(Train(0, 1))
    for partition in (0, 1):
        assert driver.ready(partition, 0) == []
    assert len(driver.work(Work(((5, 9),)))) == 2
    driver.computed(0, {"loss": 2.0})
    (step,) = driver.ready(0, 1)
    assert (step.batch, step.step) == (6, 1)  # type: ignore[union-attr]
    assert driver.end(End("why")) == [], "partition 1 has step 1 to do"
    (told,) = driver.computed(1, {})
    assert isinstance(told, Tell)
    assert (told.message.step, told.message.loss) == (1, 2.0)  # type: ignore[union-attr]
    (step,) = driver.ready(1, 1)
    assert step.batch == 6  # type: ignore[union-attr]
    for partition in (0, 1):
        driver.computed(partition, {})
        (stop,) = driver.ready(partition, 2)
        assert stop.partition == partition  # type: ignore[union-attr]
    assert driver.ended(0) == []
    assert driver.ended(1) == [Tell(Leave(0, 1)), Over("why")]


# Alarms


def losses(watch: LossWatch, values: Any) -> list[Alarm]:
    alarms = [watch.told(i % 3, i, value) for i, value in enumerate(values)]
    return [alarm for alarm in alarms if alarm is not None]


def noisy(values: np.ndarray) -> np.ndarray:
    return values * np.random.default_rng(0).uniform(0.5, 1.5, len(values))


def test_a_loss_that_falls_with_noise_raises_no_alarm() -> None:
    falling = 2.3 * np.exp(-np.arange(1000) / 200) + 0.05
    assert losses(LossWatch(), noisy(falling)) == []
    assert losses(LossWatch(), noisy(falling) - 5) == [], "a loss may be below zero"


def test_a_loss_that_rises_raises_one() -> None:
    down, up = np.linspace(2.3, 0.3, 300), np.linspace(0.3, 9.0, 300)
    (alarm,) = losses(LossWatch(), noisy(np.concatenate((down, up))))
    assert 300 < alarm.step < 300 + 100
    assert "the loss rises" in alarm.rule
    assert f"replica {alarm.replica}'s step {alarm.step}" in alarm.rule
    both = np.concatenate((down, up, down[-1:].repeat(2 * WINDOW), up))
    assert len(losses(LossWatch(), both)) == 2, "told again when it rises again"


def test_a_loss_that_only_rises_raises_one() -> None:
    (alarm,) = losses(LossWatch(), np.linspace(2.3, 50.0, 300))
    assert alarm.step < 150
