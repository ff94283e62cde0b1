"""Snapshots: exactly the pushes that they name, while training goes on; restored onto anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ps_tools import World, chooser, leaves, make_shards, server_values, whole_state

import dbgraph as dbg
from dbgraph import checkpoint
from dbgraph import layers as L
from dbgraph.errors import CheckpointError
from dbgraph.ir.types import TensorType
from dbgraph.job import Job
from dbgraph.machine import Machine
from dbgraph.manifest import Meta
from dbgraph.optim.rules import Rule
from dbgraph.ps.layout import Layout, lay_out
from dbgraph.ps.ledger import Ledger, numbers
from dbgraph.ps.messages import (
    Admit,
    Applied,
    Close,
    Cut,
    Execute,
    Mark,
    Marked,
    Push,
    Refused,
    Snapped,
)
from dbgraph.ps.options import Downpour
from dbgraph.ps.packing import part_of
from dbgraph.ps.shard import Shard
from dbgraph.ps.snapshot import RECORD, Snapshot, Snapshotting, record_of
from dbgraph.sampler import Batches
from dbgraph.state import State

TYPES = {"a": TensorType((12, 2), "float64"), "b": TensorType((12,), "float64")}
BATCHES = Batches(40, 4, 0)
ONE = Rule.of("sgd", learning_rate=1.0)


def whole_numbers(batch: int, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Gradients of which no two batches have the same; sums and squares are exact."""
    rng = np.random.default_rng(batch)
    return {leaf: rng.integers(-99, 99, v.shape).astype(v.dtype) for leaf, v in parameters.items()}


class Watched(World):
    """Keeps every push, by shard and name."""

    def _send(
        self, source: Any, to: Any, message: Any, arrays: tuple[np.ndarray, ...] = ()
    ) -> None:
        if isinstance(message, Push):
            name = message.replica, message.partition, message.epoch, message.sequence
            self.__dict__.setdefault("pushes", {})[to, name] = message, arrays
        super()._send(source, to, message, arrays)


def named(world: Watched, snapshot: Snapshot, shard: int) -> dict[str, tuple[Any, Any]]:
    """By parameter the sum, and the sum of squares, of the pushes that a shard names."""
    sums = {n: (np.zeros(t.shape), np.zeros(t.shape)) for n, t in TYPES.items()}
    for a in snapshot.shards[shard]:
        for sequence in range(1, a.sequence + 1):
            push, arrays = world.__dict__["pushes"][shard, (*a_name(a), sequence)]
            for part, array in zip(push.parts, arrays, strict=True):
                where = tuple(slice(low, high) for low, high in part.bounds)
                sums[part.name][0][where] += array
                sums[part.name][1][where] += array**2
    return sums


def a_name(a: Applied) -> tuple[int, int, int]:
    return a.replica, a.partition, a.epoch


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 1 << 30),
    shards=st.integers(1, 3),
    partitions=st.integers(1, 2),
    n_push=st.integers(1, 2),
    rule=st.sampled_from(["sgd", "adagrad"]),
)
def test_a_snapshot_is_exactly_the_pushes_that_it_names(
    seed: int, shards: int, partitions: int, n_push: int, rule: str
) -> None:
    choose = chooser(seed)
    options = Downpour(n_fetch=1 + seed % 2, n_push=n_push, share=2)
    ledger = Ledger(BATCHES, 24)
    made = Rule.of(rule, learning_rate=1.0)
    world = Watched(TYPES, shards, partitions, made, options, ledger, whole_numbers, choose)
    pids = [world.join(), world.join()]
    killed: set[int] = set()
    for turn in range(10_000):
        if not world.turn():
            break
        if choose(12) == 0:
            world.snapshot()
        if turn > 40 and choose(60) == 0 and len(pids) < 5:
            pid = pids[choose(len(pids))]
            if world.processes[pid].is_over:
                continue
            killed.add(world.processes[pid].replica)
            world.kill(pid, choose)
            pids.append(world.join())
    assert world.is_finished
    assert world.snapshots
    for snapshot in world.snapshots:
        for shard, owned in enumerate(world.layout.shards):
            sums = named(world, snapshot, shard)
            for one in owned:
                where = one.region.slices()
                if rule == "sgd":
                    value = snapshot.state.region(one.parameter, one.region)
                    np.testing.assert_array_equal(value, -sums[one.parameter][0][where])
                else:
                    slot = snapshot.state.region(one.parameter, one.region, "0.sum_of_squares")
                    np.testing.assert_array_equal(slot, sums[one.parameter][1][where])
        agree(snapshot, killed)
    assert_progress(world)


def agree(snapshot: Snapshot, killed: set[int]) -> None:
    """All shards name the same pushes, but of replicas that were killed."""
    everywhere: dict[tuple[int, int], set[int]] = {}
    for a in (a for applied in snapshot.shards for a in applied):
        everywhere.setdefault((a.replica, a.epoch), set()).add(a.sequence)
    differing = {replica for (replica, _), found in everywhere.items() if len(found) > 1}
    assert differing <= killed
    count = sum(max(found) for found in everywhere.values())
    assert differing or snapshot.state.step == count
    assert bool(snapshot.partial) <= bool(differing)


def assert_progress(world: World) -> None:
    steps = [snapshot.state.step for snapshot in world.snapshots]
    assert steps == sorted(steps)


# One replica that stops half-way through a push


def two_shards() -> tuple[Layout, list[Shard]]:
    layout = lay_out(TYPES, leaves(TYPES, 1), 2)
    zero = whole_state({n: np.zeros(t.shape) for n, t in TYPES.items()})
    shards = make_shards(layout, ONE, zero)
    for shard in shards:
        for replica in (0, 1):
            shard.receive("coordinator", Admit(replica, 1, (0,)))
    return layout, shards


def push_to(layout: Layout, shards: list[Shard], shard: int, replica: int, sequence: int) -> Any:
    owned = layout.shards[shard]
    parts = tuple(map(part_of, owned))
    batches = ((10 * replica + sequence, 10 * replica + sequence + 1),)
    push = Push(replica, 0, 1, sequence, 0, 0, batches, parts)
    arrays = tuple(np.full(one.region.shape, 10.0**replica) for one in owned)
    return shards[shard].receive("replica", push, arrays)


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_replica_stopped_in_the_middle_of_a_push_holds_up_the_snapshot_only(
    comes_back: bool,
) -> None:
    layout, shards = two_shards()
    push_to(layout, shards, 0, 0, 1)  # shard 0 has it; shard 1 never, or later
    for shard in (0, 1):
        push_to(layout, shards, shard, 1, 1)
    taking = Snapshotting(5, 2)
    cuts = []
    for order in taking.begin():
        (reply,) = shards[order.shard].receive("coordinator", order.message)
        assert isinstance(reply.message, Marked)
        cuts += taking.marked(order.shard, reply.message)
    assert taking.marked(0, Marked(5, ())) == [], "told twice"
    snapped: list[Any] = []
    for order in cuts:
        snapped += shards[order.shard].receive("coordinator", order.message)
    assert [type(reply.message) for reply in snapped] == [Snapped], "shard 1 waits for replica 0"
    for shard in (0, 1):  # training goes on, on both
        assert len(push_to(layout, shards, shard, 1, 2)) == 1
    if comes_back:
        _, last = push_to(layout, shards, 1, 0, 1)
    else:
        _, last = shards[1].receive("coordinator", Close(0, 1))
    assert taking.snapped(0, snapped[0].message, snapped[0].arrays) is None
    snapshot = taking.snapped(1, last.message, last.arrays)
    assert snapshot is not None
    expected = {0: -11.0, 1: -11.0 if comes_back else -10.0}
    for shard, owned in enumerate(layout.shards):
        for one in owned:
            value = snapshot.state.region(one.parameter, one.region)
            np.testing.assert_array_equal(value, np.full(one.region.shape, expected[shard]))
    sequences = [{a.replica: a.sequence for a in applied} for applied in snapshot.shards]
    assert sequences == [{0: 1, 1: 1}, {0: 1 if comes_back else 0, 1: 1}]
    assert snapshot.used == ((1, 2), (11, 12))
    assert snapshot.partial == (() if comes_back else ((1, 2),))
    live = server_values(layout, shards)
    missing = 1.0 if not comes_back else 0.0
    for shard, owned in enumerate(layout.shards):
        for one in owned:
            want = -21.0 + (missing if shard == 1 else 0.0)
            assert np.all(live[one.parameter][one.region.slices()] == want)


def test_a_cut_without_its_mark_is_refused() -> None:
    _, shards = two_shards()
    (reply,) = shards[0].receive("coordinator", Cut(3, ()))
    assert isinstance(reply.message, Refused)
    (first,) = shards[0].receive("coordinator", Mark(3))
    (again,) = shards[0].receive("coordinator", Mark(3))
    assert first.message == again.message
    assert Snapshotting(4, 2).marked(0, Marked(3, ())) == []
    assert Snapshotting(4, 1).snapped(0, Snapped(3, 0, (), (), ()), ()) is None


def test_named_vectors_may_belong_to_it() -> None:
    """An L-BFGS history is resumed too."""
    from dbgraph.optim.vectors import Axpy, Copy

    layout, shards = two_shards()
    orders = Copy("parameters", "s"), Axpy(2.0, "s", "s"), Copy("s", "trial")
    for shard in (0, 1):
        push_to(layout, shards, shard, 0, 1)
        shards[shard].receive("coordinator", Execute(1, orders))
    snapshot = take(shards, ("s", "never"))
    assert {slot for slot, _ in snapshot.state.tensors} == {"", "vector.s"}
    again = make_shards(lay_out(TYPES, leaves(TYPES, 1), 3), ONE, snapshot.state)
    for shard in again:
        assert shard._blocks.vectors == {"parameters", "s"}
        for block in shard._blocks:
            np.testing.assert_array_equal(block.array("s"), np.full(block.region.shape, -3.0))


def take(shards: list[Shard], vectors: tuple[str, ...] = ()) -> Snapshot:
    """At a moment when nothing is under way."""
    taking = Snapshotting(9, len(shards), vectors)
    orders = taking.begin()
    while orders:
        order = orders.pop(0)
        for reply in shards[order.shard].receive("coordinator", order.message):
            if isinstance(reply.message, Marked):
                orders += taking.marked(order.shard, reply.message)
            else:
                snapshot = taking.snapped(order.shard, reply.message, reply.arrays)
    assert snapshot is not None
    return snapshot


# Restoring


@pytest.mark.parametrize(
    ("rule", "shards", "partitions"),
    [
        ("momentum:learning_rate=0.1@exponential:steps=5,factor=0.5", 1, 1),
        ("adam", 3, 3),
        ("adagrad", 5, 1),
    ],
)
def test_a_restored_model_goes_on_as_it_would_have(rule: str, shards: int, partitions: int) -> None:
    """Saved on 2 shards and 2 partitions, slots included."""
    before = lay_out(TYPES, leaves(TYPES, 2), 2)
    start = {n: np.linspace(1, 2, t.size).reshape(t.shape) for n, t in TYPES.items()}
    first = make_shards(before, Rule.parse(rule), whole_state(start))
    go_on(before, first, 3)
    state = take(first).state
    assert state.step == 3
    after = lay_out(TYPES, leaves(TYPES, partitions), shards)
    second = make_shards(after, Rule.parse(rule), state)
    for layout, made in ((before, first), (after, second)):
        go_on(layout, made, 4, replica=1)
    one, other = take(first).state, take(second).state
    assert one.step == other.step == 7
    assert set(one.tensors) == set(other.tensors)
    assert set(one.scalars) == set(other.scalars)
    for slot, name in one.tensors:
        np.testing.assert_allclose(one.whole(name, slot), other.whole(name, slot), rtol=1e-12)
    for name, value in one.scalars.items():
        np.testing.assert_array_equal(value, other.scalars[name])


def go_on(layout: Layout, shards: list[Shard], pushes: int, replica: int = 0) -> None:
    for shard, owned in zip(shards, layout.shards, strict=True):
        shard.receive("coordinator", Admit(replica, 1, (0,)))
        for sequence in range(1, pushes + 1):
            whole = {n: np.sin(np.arange(t.size) * sequence) for n, t in TYPES.items()}
            arrays = tuple(
                whole[o.parameter].reshape(TYPES[o.parameter].shape)[o.region.slices()]
                for o in owned
            )
            push = Push(replica, 0, 1, sequence, 0, 0, (), tuple(map(part_of, owned)))
            shard.receive("replica", push, arrays)


@pytest.mark.parametrize("seed", range(6))
def test_a_run_resumes_with_other_shards_replicas_and_partitions(seed: int, tmp_path: Path) -> None:
    """Batch n's gradient is 1 at element n: in the end every element was moved once."""
    choose = chooser(seed)
    total = 30
    types = {n: TensorType((total,), "float64") for n in ("a", "b")}

    def once(partitions: int) -> Any:
        bounds = {
            leaf.node: leaf.region.bounds[0] for held in leaves(types, partitions) for leaf in held
        }

        def compute(batch: int, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {leaf: (np.arange(*bounds[leaf]) == batch).astype(float) for leaf in parameters}

        return compute

    ledger = Ledger(BATCHES, total)
    options = Downpour(n_push=1 + seed % 3, share=3)
    world = World(types, 2, 2, ONE, options, ledger, once(2), choose)
    for _ in range(3):
        world.join()
    for _ in range(60):
        world.turn()
    world.kill(1, choose)
    world.join()
    for _ in range(20):
        world.turn()
    world.snapshot()
    while not world.snapshots:
        assert world.turn()
    snapshot = world.snapshots[0]
    checkpoint.save(str(tmp_path), snapshot.recorded(world.coordinator.ledger), Meta("toy"))

    state, meta = checkpoint.load(str(tmp_path), types)
    assert meta.step == snapshot.state.step > 0
    record = record_of(state)
    assert record is not None
    assert record.shards == snapshot.shards
    assert record.ledger.used == snapshot.used
    for name in types:
        moved = np.flatnonzero(state.whole(name))
        assert set(moved) <= set(numbers(snapshot.used))
        assert set(numbers(snapshot.used)) - set(moved) <= set(numbers(snapshot.partial))
    ledger = Ledger.resume(record.ledger, BATCHES, total)
    again = World(types, 3, 1, ONE, Downpour(n_fetch=2), ledger, once(1), choose, state)
    again.join()
    again.join()
    again.run()
    assert again.is_finished
    assert ledger.used == ((0, total),)
    lost = set(numbers(snapshot.partial))
    for value in again.values().values():
        assert np.all((value == -1) | ((value == 0) & np.isin(np.arange(total), list(lost))))


def test_one_machine_goes_on_with_the_checkpoint_of_many(tmp_path: Path) -> None:
    with dbg.Network("toy", batch=4) as net:
        h = L.Dense(3, name="h")(dbg.input("x", (5,)))
        dbg.loss(L.MeanSquaredError()(h, dbg.input("t", (3,))))
    plan = dbg.make_plan(net, 2)
    rule = Rule.of("adam")
    layout = Layout.of(plan, 3)
    start = {n: np.ones(t.shape, np.float32) for n, t in plan.parameter_types.items()}
    shards = make_shards(layout, rule, whole_state(start))
    for shard, owned in zip(shards, layout.shards, strict=True):
        shard.receive("coordinator", Admit(0, 1, (0,)))
        arrays = tuple(np.full(o.region.shape, 0.5, np.float32) for o in owned)
        parts = tuple(map(part_of, owned))
        shard.receive("replica", Push(0, 0, 1, 1, 0, 0, ((0, 1),), parts), arrays)
    state = take(shards).recorded(Ledger(BATCHES, 9))
    checkpoint.save(str(tmp_path), state, Meta(net.name, net.fingerprint, rule=str(rule)))
    loaded, _ = checkpoint.load(str(tmp_path), plan.parameter_types, plan.fingerprint)
    machines = [Machine(Job({"train": plan}, rule), partition) for partition in (0, 1)]
    for machine in machines:
        machine.load(loaded)
    held = State.merge(machine.collect() for machine in machines)
    assert held.step == 1
    assert set(loaded.scalars) - set(held.scalars) == {RECORD}
    for slot, name in held.tensors:
        np.testing.assert_array_equal(held.whole(name, slot), loaded.whole(name, slot))
    assert record_of(held) is None


def test_a_broken_record_is_refused() -> None:
    state = State(0, {}, {RECORD: np.frombuffer(b'{"shards": 3}', np.uint8)})
    with pytest.raises(CheckpointError, match="record of replicas is broken"):
        record_of(state)
