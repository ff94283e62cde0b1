"""The interpreter as a pure state machine: events in, instructions out."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.errors import RunError
from dbgraph.plan.program import Run, Update
from dbgraph.worker import Finished, Outgoing, Waiting, Worker


def chain(partitions: int = 2, microbatches: int = 1) -> dbg.Plan:
    with dbg.Network("chain", batch=4) as net:
        h = dbg.input("x", (4,))
        for k in range(partitions):
            with dbg.partition(k):
                h = L.Dense(4, name=f"s{k}")(h)
                if k == partitions - 1:
                    dbg.loss(L.MeanSquaredError()(h, dbg.input("t", (4,))))
    return dbg.make_plan(net, partitions, microbatches=microbatches)


def leaves(plan: dbg.Plan, partition: int) -> dict[tuple[str, int], str]:
    return {
        (n.name, m): n.name
        for n in plan.graph
        if n.op in ("input", "parameter") and n.partition == partition
        for m in range(plan.microbatches)
    }


def run(worker: Worker, action: Run | Update) -> None:
    """Symbolically: a value is its own name."""
    if isinstance(action, Run):
        segment = worker.program.segments[action.segment]
        for name in segment.inputs:
            assert worker.value(name, action.microbatch) == name
        worker.store(((name, name) for name in segment.outputs), action.microbatch)
    else:
        worker.store(())


def test_a_program_from_begin_to_finished() -> None:
    plan = chain()
    worker = Worker(plan, 0)
    assert isinstance(worker.next(), Finished)
    worker.begin(leaves(plan, 0))
    action = worker.next()
    assert isinstance(action, Run)
    assert worker.next() == action, "a RUN is asked for until its outputs are stored"
    run(worker, action)
    sent = worker.next()
    assert isinstance(sent, Outgoing)
    assert sent.value == plan.transfers[sent.transfer].value
    waiting = worker.next()
    assert isinstance(waiting, Waiting)
    assert worker.next() == waiting
    assert worker.describe(waiting) == "s1→s0, microbatch 0, from partition 1"
    worker.deliver(waiting.transfer, 0, plan.transfers[waiting.transfer].recv)
    run(worker, worker.next())
    assert isinstance(worker.next(), Update)
    run(worker, worker.next())
    assert isinstance(worker.next(), Finished)
    kept = {name for name, _ in worker.values}
    assert {r.value for r in plan.results(0)} <= kept
    assert waiting not in kept


def test_what_is_not_expected_is_refused() -> None:
    plan = chain()
    worker = Worker(plan, 0)
    worker.begin(leaves(plan, 0))
    mine = next(t.index for t in plan.transfers if t.to == 0)
    other = next(t.index for t in plan.transfers if t.to == 1)
    worker.deliver(mine, 0, "value")
    with pytest.raises(RunError, match="came twice"):
        worker.deliver(mine, 0, "value")
    with pytest.raises(RunError, match=f"transfer {other} is not for it"):
        worker.deliver(other, 0, "value")
    with pytest.raises(RunError, match="is not for it"):
        worker.deliver(mine, 7, "value")
    with pytest.raises(RunError, match="there is no transfer 99"):
        worker.deliver(99, 0, "value")


@given(st.integers(1, 4), st.sampled_from([1, 2, 4]), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_any_order_of_arrival_and_of_turns_ends(partitions, microbatches, random) -> None:
    """Messages overtake each other, machines take turns at random: all programs finish, each
    value read is the right one, and nothing but results is left."""
    plan = chain(partitions, microbatches)
    workers = [Worker(plan, p) for p in range(partitions)]
    for p, worker in enumerate(workers):
        worker.begin(leaves(plan, p))
    travelling: list[Outgoing] = []
    unfinished = list(range(partitions))
    while unfinished:
        turns = [("turn", p) for p in unfinished]
        kind, which = random.choice(turns + [("arrive", i) for i in range(len(travelling))])
        if kind == "arrive":
            sent = travelling.pop(which)
            transfer = plan.transfers[sent.transfer]
            assert sent.value == transfer.value
            workers[transfer.to].deliver(sent.transfer, sent.microbatch, transfer.recv)
            continue
        action = workers[which].next()
        if isinstance(action, Outgoing):
            travelling.append(action)
        elif isinstance(action, Finished):
            unfinished.remove(which)
        elif not isinstance(action, Waiting):
            run(workers[which], action)
    assert not travelling
    for p, worker in enumerate(workers):
        wanted = {r.value for r in plan.results(p)}
        unread = {n for n, _ in worker.values} - wanted
        assert all(plan.graph[n].op in ("input", "parameter") for n in unread)


def test_what_comes_once_serves_all_microbatches() -> None:
    with dbg.Network("rows", batch=4) as net:
        conv = L.Conv2D(maps=1, patch=(1, 1), use_bias=False, cut={"rows": 2}, name="conv")
        dbg.output("y", conv(dbg.input("x", (4, 2, 1))))
    plan = dbg.make_plan(net, 2, microbatches=2, strategy="tiles", mode="inference")
    (weights,) = [t for t in plan.transfers if t.invariant]
    worker = Worker(plan, weights.to)
    worker.begin(leaves(plan, weights.to))
    with pytest.raises(RunError, match="not for it"):
        worker.deliver(weights.index, 1, weights.recv)
    assert worker.next() == Waiting(weights.index, 0)
    worker.deliver(weights.index, 0, weights.recv)
    for _ in range(2):
        assert (weights.recv, 0) in worker.values
        action = worker.next()
        assert isinstance(action, Run)
        run(worker, action)
    assert (weights.recv, 0) not in worker.values, "it goes after its last reader"
    assert isinstance(worker.next(), Finished)
