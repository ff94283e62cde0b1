"""A shard: exactly once, who may write, staleness, rows, orders, staged gradients."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ps_tools import leaves, make_shards, server_values, whole_state, zeros

from dbgraph.errors import CheckpointError, RunError
from dbgraph.ir.region import Region
from dbgraph.ir.types import TensorType
from dbgraph.optim.lbfgs import LBFGS
from dbgraph.optim.minimise import minimise
from dbgraph.optim.rules import RULES, Rule
from dbgraph.optim.space import LocalSpace, execute, run
from dbgraph.optim.sparse import Rows
from dbgraph.optim.update import initial_slots, update
from dbgraph.optim.vectors import (
    PARAMETERS,
    Add,
    Axpy,
    Batch,
    Copy,
    Dot,
    Evaluate,
    MaxAbs,
    Multiply,
    Norm,
    Report,
    Scale,
    Zero,
    combine,
)
from dbgraph.plan.plan import Leaf
from dbgraph.ps import messages
from dbgraph.ps.blocks import Blocks
from dbgraph.ps.layout import Owned, lay_out
from dbgraph.ps.messages import (
    READER,
    Admit,
    Admitted,
    Applied,
    Close,
    Closed,
    Commit,
    Cut,
    Discard,
    Execute,
    Executed,
    Fetch,
    Fetched,
    Mark,
    Part,
    Push,
    Pushed,
    Reason,
    Refused,
    Stage,
    Staged,
    Update,
)
from dbgraph.ps.options import Downpour
from dbgraph.ps.packing import part_of
from dbgraph.ps.shard import Shard
from dbgraph.state import State

TYPES = {"w": TensorType((4, 3), "float64")}
W = Part("w", ((0, 4), (0, 3)))
ONE = Rule.of("sgd", learning_rate=1.0)


def shard_of(
    rule: Rule | None = ONE, types: dict[str, TensorType] = TYPES, **options: Any
) -> Shard:
    layout = lay_out(types, leaves(types, 1), 1)
    (made,) = make_shards(layout, rule, zeros(types), Downpour(**options))
    return made


def push(sequence: int, replica: int = 0, epoch: int = 1, **more: Any) -> Push:
    fields = {"version": 0, "contains": 0, "batches": (), "parts": (W,), **more}
    return Push(replica, 0, epoch, sequence, **fields)


def gradient(value: float = 1.0) -> tuple[np.ndarray]:
    return (np.full((4, 3), value),)


def fetch(number: int, replica: int = 0, after: int = 0, **more: Any) -> Fetch:
    return Fetch(replica, 0, 1, number, after, (W,), **more)


def ask(shard: Shard, message: Any, arrays: tuple[np.ndarray, ...] = ()) -> Any:
    """The one answer."""
    (reply,) = shard.receive("me", message, arrays)
    return reply.message


def values(shard: Shard) -> np.ndarray:
    (reply,) = shard.receive("reader", fetch(1, READER))
    return reply.arrays[0]


# Exactly once


def test_a_push_that_comes_again_is_acknowledged_and_not_applied() -> None:
    shard = shard_of()
    assert ask(shard, Admit(0, 1, (0,))) == Admitted(0, 1)
    assert ask(shard, push(1), gradient()) == Pushed(0, 0, 1, 1, 1, 0)
    assert ask(shard, push(2), gradient()) == Pushed(0, 0, 1, 2, 2, 0)
    for again in (1, 2, 1):
        assert ask(shard, push(again), gradient()) == Pushed(0, 0, 1, 2, 2, 0)
    np.testing.assert_array_equal(values(shard), np.full((4, 3), -2.0))
    assert (shard.counters.pushes, shard.counters.duplicates) == (2, 3)


def test_a_gap_is_refused_and_says_what_is_missing() -> None:
    shard = shard_of()
    ask(shard, Admit(0, 1, (0,)))
    answer = ask(shard, push(3), gradient())
    assert answer == Refused("Push", 0, 0, 1, 3, Reason.GAP, "(1 is next)")
    assert not values(shard).any()


def test_epochs() -> None:
    shard = shard_of()
    assert ask(shard, push(1), gradient()).reason is Reason.UNKNOWN
    ask(shard, Admit(0, 2, (0,)))
    assert ask(shard, push(1, epoch=1), gradient()).reason is Reason.CLOSED
    assert ask(shard, push(1, epoch=3), gradient()).reason is Reason.UNKNOWN
    assert isinstance(ask(shard, push(1, epoch=2, batches=((4, 6),)), gradient()), Pushed)
    assert ask(shard, Admit(0, 2, (0,))) == Admitted(0, 2), "sent again: nothing new"
    assert isinstance(ask(shard, push(2, epoch=2, batches=((6, 7),)), gradient()), Pushed)
    # A new one takes the number; the older one's late push, and its admission, are refused.
    ask(shard, Admit(0, 3, (0,)))
    assert ask(shard, push(3, epoch=2), gradient()).reason is Reason.CLOSED
    assert ask(shard, Admit(0, 2, (0,))).reason is Reason.CLOSED
    assert isinstance(ask(shard, push(1, epoch=3), gradient()), Pushed)
    closed = Closed(0, 2, (Applied(0, 0, 2, 2, ((4, 7),)),))
    assert ask(shard, Close(0, 2)) == closed, "the last word on an epoch stays"
    assert isinstance(ask(shard, push(2, epoch=3), gradient()), Pushed)
    assert ask(shard, Close(0, 3)).applied == (Applied(0, 0, 3, 2),)
    assert ask(shard, Close(7, 1)) == Closed(7, 1, ())
    assert ask(shard, Admit(7, 1, (0,))).reason is Reason.CLOSED
    np.testing.assert_array_equal(values(shard), np.full((4, 3), -4.0))


def test_partitions_of_a_replica_are_streams_of_their_own() -> None:
    shard = shard_of()
    ask(shard, Admit(0, 1, (0, 1)))
    left, right = Part("w", ((0, 4), (0, 1))), Part("w", ((0, 4), (1, 3)))
    for sequence in (1, 2):
        for partition, part in ((0, left), (1, right)):
            one = msgspec.structs.replace(push(sequence), partition=partition, parts=(part,))
            shape = tuple(b - a for a, b in part.bounds)
            answer = ask(shard, one, (np.ones(shape),))
            assert answer == Pushed(0, partition, 1, sequence, sequence, 0)
    stranger = msgspec.structs.replace(push(1), partition=2)
    assert ask(shard, stranger, gradient()).reason is Reason.UNKNOWN
    np.testing.assert_array_equal(values(shard), np.full((4, 3), -2.0))


@pytest.mark.parametrize(
    ("parts", "arrays", "message"),
    [
        ((Part("v", ((0, 4),)),), (np.ones(4),), "no parameter 'v'"),
        ((Part("w", ((0, 5), (0, 3))),), (np.ones((5, 3)),), "does not own"),
        ((Part("w", ((0, 4),)),), (np.ones(4),), "does not own"),
        ((W,), (np.ones((4, 3), np.float32),), "float32"),
        ((W,), (np.ones((4, 3)), np.ones(1)), "2 arrays"),
        ((W, Part("w", ((3, 4), (0, 3)))), (np.ones((4, 3)), np.ones((1, 3))), "overlap"),
        ((Part("w", W.bounds, True),), (np.array([4]), np.ones((1, 3))), "lie outside"),
        ((Part("w", W.bounds, True),), (np.array([1.0]), np.ones((1, 3))), "whole numbers"),
        ((Part("w", W.bounds, True),), (np.array([1]), np.ones((1, 2))), r"float64\[1, 2\]"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    parts: tuple[Part, ...], arrays: tuple[np.ndarray, ...], message: str
) -> None:
    shard = shard_of()
    ask(shard, Admit(0, 1, (0,)))
    answer = ask(shard, push(1, parts=parts), arrays)
    assert answer.reason is Reason.MALFORMED
    assert any(word in answer.detail for word in [message, message.replace("\\", "")])
    assert isinstance(ask(shard, push(1), gradient()), Pushed), "the number is not used up"
    np.testing.assert_array_equal(values(shard), np.full((4, 3), -1.0))


def test_what_is_not_trained_is_not_pushed() -> None:
    blocks = Blocks(TYPES, [Owned("w", Region.whole((4, 3)))], [], ONE)
    shard = Shard(blocks)
    shard.load(zeros(TYPES))
    ask(shard, Admit(0, 1, (0,)))
    assert "not trained" in ask(shard, push(1), gradient()).detail
    assert not values(shard).any()
    with pytest.raises(RunError, match="takes no Pushed"):
        shard.receive("me", Pushed(0, 0, 1, 1, 1, 0))
    with pytest.raises(CheckpointError, match="holds no 'w'"):
        shard.load(State())


# Fetches and staleness


def test_a_fetch_waits_for_the_pushes_before_it() -> None:
    shard = shard_of()
    ask(shard, Admit(0, 1, (0,)))
    assert shard.receive("me", fetch(1, after=2)) == []
    assert ask(shard, push(1), gradient()) == Pushed(0, 0, 1, 1, 1, 0)
    assert shard.receive("me", fetch(1, after=2)) == [], "sent again: still one"
    pushed, fetched = shard.receive("me", push(2), gradient())
    assert fetched.message == Fetched(0, 0, 1, 1, 2, 2)
    np.testing.assert_array_equal(fetched.arrays[0], np.full((4, 3), -2.0))
    assert isinstance(pushed.message, Pushed)


def test_a_reader_needs_no_admission_and_its_values_stay() -> None:
    shard = shard_of()
    before = values(shard)
    ask(shard, Admit(0, 1, (0,)))
    ask(shard, push(1), gradient())
    assert not before.any()
    part = Part("w", ((1, 3), (1, 3)))
    reply = ask(shard, msgspec.structs.replace(fetch(1, READER), parts=(part,)))
    assert reply.version == 1
    assert ask(shard, fetch(1, READER, vector="gradient")).detail == "there is no vector 'gradient'"
    far = Part("w", ((1, 5), (1, 3)))
    answer = ask(shard, msgspec.structs.replace(fetch(1, READER), parts=(far,)))
    assert "does not own" in answer.detail
    assert ask(shard, fetch(1, 3)).reason is Reason.UNKNOWN


def test_staleness_is_what_others_did_since_the_fetch() -> None:
    shard = shard_of()
    for replica in (0, 1):
        ask(shard, Admit(replica, 1, (0,)))
    first = ask(shard, fetch(1))
    for sequence in (1, 2, 3):
        ask(shard, push(sequence, replica=1), gradient())
    base = {"version": first.version, "contains": first.sequence}
    assert ask(shard, push(1, **base), gradient()).staleness == 3
    assert ask(shard, push(2, **base), gradient()).staleness == 3, "its own do not count"
    again = ask(shard, fetch(2))
    assert (again.version, again.sequence) == (5, 2)
    ask(shard, push(4, replica=1, version=3, contains=3), gradient())
    base = {"version": again.version, "contains": again.sequence}
    assert ask(shard, push(3, **base), gradient()).staleness == 1
    assert shard.counters.staleness == {0: 3, 3: 2, 2: 1, 1: 1}


def test_other_partitions_of_the_shard_do_not_make_a_push_stale() -> None:
    shard = shard_of()
    ask(shard, Admit(0, 1, (0, 1)))
    left, right = Part("w", ((0, 4), (0, 1))), Part("w", ((0, 4), (1, 3)))
    for sequence in (1, 2):
        base = {"version": sequence - 1, "contains": sequence - 1}
        one = push(sequence, parts=(left,), **base)
        assert ask(shard, one, (np.ones((4, 1)),)).staleness == 0
        other = msgspec.structs.replace(one, partition=1, parts=(right,))
        assert ask(shard, other, (np.ones((4, 2)),)).staleness == 0


def test_a_stale_push_may_move_less() -> None:
    shard = shard_of(scale_by_staleness=True)
    for replica in (0, 1):
        ask(shard, Admit(replica, 1, (0,)))
    for sequence in range(1, 5):
        ask(
            shard,
            push(sequence, replica=1, version=sequence - 1, contains=sequence - 1),
            gradient(),
        )
    np.testing.assert_array_equal(values(shard), np.full((4, 3), -4.0))
    assert ask(shard, push(1), gradient()).staleness == 4
    np.testing.assert_array_equal(values(shard), np.full((4, 3), -4.25))


def test_bounded_staleness_holds_who_is_ahead() -> None:
    shard = shard_of(max_staleness=1)
    for replica in (0, 1):
        ask(shard, Admit(replica, 1, (0,)))
    ask(shard, push(1), gradient())
    assert isinstance(ask(shard, fetch(1, after=1)), Fetched), "one ahead"
    ask(shard, push(2), gradient())
    assert shard.receive("zero", fetch(2, after=2)) == [], "two ahead"
    assert isinstance(ask(shard, fetch(1, replica=1)), Fetched), "the slowest never waits"
    pushed, held = shard.receive("one", push(1, replica=1), gradient())
    assert (pushed.to, held.to) == ("one", "zero")
    assert held.message.number == 2


def test_a_dead_replica_holds_nobody_once_it_is_closed() -> None:
    shard = shard_of(max_staleness=0)
    for replica in (0, 1):
        ask(shard, Admit(replica, 1, (0,)))
    ask(shard, push(1), gradient())
    assert shard.receive("zero", fetch(2, after=1)) == []
    assert shard.receive("one", fetch(2, replica=1, after=1)) == []
    closed, refused, freed = shard.receive("coordinator", Close(1, 1))
    assert isinstance(closed.message, Closed)
    assert (refused.to, refused.message.reason) == ("one", Reason.CLOSED)
    assert (freed.to, type(freed.message)) == ("zero", Fetched)


def test_a_late_comer_is_no_straggler() -> None:
    shard = shard_of(max_staleness=1)
    ask(shard, Admit(0, 1, (0,)))
    for sequence in range(1, 6):
        ask(shard, push(sequence), gradient())
    ask(shard, Admit(1, 1, (0,), clock=5))
    assert isinstance(ask(shard, fetch(1, after=5)), Fetched)
    for sequence in (1, 2):
        ask(shard, push(sequence, replica=1), gradient())
    assert shard.receive("one", fetch(1, replica=1, after=2)) == []


# Rules, blocks, rows


@pytest.mark.parametrize("rule", RULES)
def test_updating_regions_apart_is_updating_the_whole(rule: str) -> None:
    """All rules are elementwise; one that is not has no name, so it is refused."""
    types = {"w": TensorType((4, 3))}
    start = np.linspace(-1, 1, 12).reshape(4, 3).astype(np.float32)
    whole = make_shards(
        lay_out(types, leaves(types, 1), 1), Rule.of(rule), whole_state({"w": start})
    )
    parts = make_shards(
        lay_out(types, leaves(types, 1), 3), Rule.of(rule), whole_state({"w": start})
    )
    layouts = [lay_out(types, leaves(types, 1), n) for n in (1, 3)]
    for shard in (*whole, *parts):
        ask(shard, Admit(0, 1, (0,)))
    for sequence in range(1, 5):
        g = np.sin(np.arange(12.0) * sequence).reshape(4, 3).astype(np.float32)
        for layout, shards in zip(layouts, (whole, parts), strict=True):
            for shard, owned in zip(shards, layout.shards, strict=True):
                arrays = tuple(g[one.region.slices()] for one in owned)
                ask(shard, push(sequence, parts=tuple(map(part_of, owned))), arrays)
    got = [server_values(layout, s) for layout, s in zip(layouts, (whole, parts), strict=True)]
    np.testing.assert_allclose(got[0]["w"], got[1]["w"], rtol=1e-6)
    assert not np.array_equal(got[0]["w"], start)


@settings(deadline=None, max_examples=6)
@given(st.data())
def test_blocks_fall_into_pieces_and_count_right(data: st.DataObject) -> None:
    """Replicas with other partitions: any tiling of the parameter, each push of all of it."""
    rule = Rule.of("adagrad", learning_rate=0.5)
    shard = shard_of(rule)
    plain = {"w": jnp.zeros((4, 3), jnp.float32)}
    state = initial_slots(rule, plain)
    for replica in range(3):
        axis = data.draw(st.integers(0, 1))
        length = (4, 3)[axis]
        at = data.draw(st.integers(0, length - 1))
        whole = Region.whole((4, 3))
        tiles = [whole.replace(axis, (0, at)), whole.replace(axis, (at, length))]
        tiles = [tile for tile in tiles if not tile.empty]
        ask(shard, Admit(replica, 1, tuple(range(len(tiles)))))
        g = np.sin(np.arange(12.0) + replica).reshape(4, 3)
        for partition, tile in enumerate(tiles):
            one = push(1, replica, version=replica, parts=(part_of(Owned("w", tile)),))
            one = msgspec.structs.replace(one, partition=partition)
            answer = ask(shard, one, (g[tile.slices()],))
            assert answer.version == replica + 1
            assert answer.staleness == 0
        plain, state = update(rule)(plain, {}, state, {"w": g.astype(np.float32)})
    np.testing.assert_allclose(values(shard), np.asarray(plain["w"]), rtol=1e-5)


@pytest.mark.parametrize("rule", ["momentum", "adagrad", "adamw"])
def test_rows_touch_only_their_rows(rule: str) -> None:
    types = {"w": TensorType((6, 2))}
    start = np.arange(12, dtype=np.float32).reshape(6, 2) / 10
    layout = lay_out(types, leaves(types, 1), 1)
    (shard,) = make_shards(layout, Rule.of(rule), whole_state({"w": start}))
    ask(shard, Admit(0, 1, (0,)))
    alone = {"w": jnp.array(start[[1, 4]])}
    state = initial_slots(Rule.of(rule), alone)
    table = Part("w", ((0, 6), (0, 2)), True)
    rng = np.random.default_rng(0)
    for sequence in (1, 2, 3):
        g = rng.normal(size=(3, 2)).astype(np.float32)
        rows = Rows(np.array([4, 1, 4]), g)  # row 4 stands there twice
        ask(shard, push(sequence, parts=(table,)), (rows.indices, rows.values))
        summed = np.stack((g[1], g[0] + g[2]))
        alone, state = update(Rule.of(rule))(alone, {}, state, {"w": summed})
    got = server_values(layout, [shard])["w"]
    np.testing.assert_allclose(got[[1, 4]], np.asarray(alone["w"]), rtol=1e-5)
    np.testing.assert_array_equal(got[[0, 2, 3, 5]], start[[0, 2, 3, 5]])
    copied = shard._blocks.copy(()).collect()
    for slot, name in copied.tensors:
        if slot:
            assert not copied.whole(name, slot)[[0, 2, 3, 5]].any()
    nothing = (np.zeros(0, np.int64), np.zeros((0, 2), np.float32))
    assert ask(shard, push(4, parts=(table,)), nothing).version == 4
    np.testing.assert_array_equal(server_values(layout, [shard])["w"], got)


def test_a_single_number_is_a_parameter_too() -> None:
    types = {"s": TensorType(())}
    (shard,) = make_shards(
        lay_out(types, [[Leaf("s@0", "s", Region(()), 0)]], 1),
        Rule.of("momentum", learning_rate=1.0, momentum=0.5),
        whole_state({"s": np.array(2.0, np.float32)}),
    )
    ask(shard, Admit(0, 1, (0,)))
    for sequence in (1, 2):
        one = push(sequence, parts=(Part("s", ()),))
        assert ask(shard, one, (np.ones((), np.float32),)).version == sequence
    state = shard._blocks.copy(()).collect()
    np.testing.assert_array_equal(state.whole("s"), 2.0 - 1.0 - 1.5)
    np.testing.assert_array_equal(state.whole("s", "0.trace"), 1.5)


# Orders

NAMES = ["parameters", "a", "b"]
SOME = st.sampled_from(NAMES)
COMMANDS = st.one_of(
    st.builds(Copy, SOME, SOME),
    st.builds(Scale, st.floats(-2, 2), SOME),
    st.builds(Axpy, st.floats(-2, 2), SOME, SOME),
    st.builds(Add, SOME, SOME, SOME),
    st.builds(Multiply, SOME, SOME, SOME),
    st.builds(Dot, SOME, SOME),
    st.builds(Norm, SOME),
    st.builds(MaxAbs, SOME),
)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.lists(st.lists(COMMANDS, max_size=6), max_size=4))
def test_commands_over_shards_are_commands_on_the_whole(
    shards: int, batches: list[list[Any]]
) -> None:
    types = {"w": TensorType((4, 3), "float64"), "v": TensorType((7,), "float64")}
    start = {n: np.linspace(-1, 2, t.size).reshape(t.shape) for n, t in types.items()}
    layout = lay_out(types, leaves(types, 2), shards)
    made = make_shards(layout, None, whole_state(start))
    vectors = {PARAMETERS: np.concatenate([start[name].reshape(-1) for name in types])}
    for number, commands in enumerate([[Copy(PARAMETERS, "a"), Zero("b")], *batches], 1):
        batch: Batch = tuple(commands)
        partial = [ask(shard, Execute(number, batch)).scalars for shard in made]
        np.testing.assert_allclose(
            combine(batch, partial), execute(batch, vectors), rtol=1e-9, atol=1e-12
        )
    got = server_values(layout, made)
    whole = np.concatenate([got[name].reshape(-1) for name in types])
    np.testing.assert_allclose(whole, vectors[PARAMETERS], rtol=1e-12)


def test_lbfgs_runs_over_shards_as_in_one_process() -> None:
    """The same text; the vectors stay on three shards, only scalars come back."""
    types = {"x": TensorType((6,), "float64"), "y": TensorType((5,), "float64")}
    layout = lay_out(types, leaves(types, 1), 3)
    start = np.full(11, -1.2)
    shards = make_shards(layout, None, whole_state({"x": start[:6], "y": start[6:]}))
    for shard in shards:
        ask(shard, Admit(0, 1, (0,)))

    def rosenbrock(x: np.ndarray) -> tuple[float, np.ndarray]:
        d, e = x[1:] - x[:-1] ** 2, 1 - x[:-1]
        g = np.zeros_like(x)
        g[1:] += 200 * d
        g[:-1] += -400 * x[:-1] * d - 2 * e
        return float(np.sum(100 * d**2 + e**2)), g

    iterates: list[np.ndarray] = []
    known: list[np.ndarray] = []
    space = LocalSpace(start, rosenbrock)
    local = run(minimise(LBFGS()), space, lambda _: known.append(space.parameters.copy()))
    steps = minimise(LBFGS())
    request, number = next(steps), 0
    try:
        while True:
            match request:
                case Evaluate(out):
                    number += 1
                    held = server_values(layout, shards)
                    loss, g = rosenbrock(np.concatenate((held["x"], held["y"])))
                    whole = {"x": g[:6], "y": g[6:]}
                    for shard, owned in zip(shards, layout.shards, strict=True):
                        arrays = tuple(whole[o.parameter][o.region.slices()] for o in owned)
                        ask(shard, Stage(0, 0, 1, number, tuple(map(part_of, owned))), arrays)
                    answer: tuple[float, ...] = (loss,)
                    key = ((0, 1, number),)
                    orders = (Zero(out), Commit(key, out))
                case Report():
                    orders, answer = (), ()
                    held = server_values(layout, shards)
                    iterates.append(np.concatenate((held["x"], held["y"])))
                case _:
                    orders, answer = request, ()
            executed = [ask(s, Execute(s._executed.number + 1, orders)).scalars for s in shards]
            request = steps.send(answer or combine(request if orders else (), executed))
    except StopIteration as end:
        result = end.value
    assert result.success
    assert local.nit > 30
    for got, expected in zip(iterates[:31], known, strict=False):
        np.testing.assert_allclose(got, expected, rtol=1e-8)
    np.testing.assert_allclose(iterates[-1], np.ones(11), atol=1e-4)


def test_orders_are_executed_once_and_all_or_none() -> None:
    shard = shard_of()
    assert ask(shard, Execute(1, (Copy(PARAMETERS, "a"), Norm("a")))) == Executed(1, (0.0,))
    more = Execute(2, (Update("a"), Add("a", "a", "a")))
    assert ask(shard, more) == Executed(2, ())
    assert ask(shard, more) == Executed(2, ()), "asked again"
    assert shard._blocks.updates == 1
    assert shard.receive("me", Execute(1, ())) == [], "its answer has arrived"
    gap = Refused("Execute", READER, 0, 0, 4, Reason.GAP, "(3 is next)")
    assert ask(shard, Execute(4, ())) == gap
    bad = ask(shard, Execute(3, (Zero("b"), Scale(2.0, "c"))))
    assert (bad.reason, bad.detail) == (Reason.MALFORMED, "Scale: there is no vector 'c'")
    assert ask(shard, Execute(3, (Norm("b"),))).detail == "Norm: there is no vector 'b'"
    assert "nothing is staged" in ask(shard, Execute(3, (Commit(((0, 1, 1),), "a"),))).detail
    assert "no vector 'b'" in ask(shard, Execute(3, (Commit((), "b"),))).detail
    no_rule = shard_of(None)
    ask(no_rule, Admit(0, 1, (0,)))
    assert ask(no_rule, push(1), gradient()).detail == "this shard has no rule to update by"
    answer = ask(no_rule, Execute(1, (Zero("a"), Update("a"))))
    assert answer.detail == "this shard has no rule to update by"


def test_staged_gradients_count_when_they_are_committed_and_once() -> None:
    shard = shard_of()
    for replica in (0, 1):
        ask(shard, Admit(replica, 1, (0,)))
    for replica, sequence, value in ((0, 1, 1.0), (0, 2, 2.0), (1, 1, 4.0), (1, 2, 8.0)):
        stage = Stage(replica, 0, 1, sequence, (W,))
        for _ in range(2):
            assert ask(shard, stage, gradient(value)) == Staged(replica, 0, 1, sequence)
    assert not values(shard).any()
    ask(shard, Execute(1, (Zero("g"), Commit(((0, 1, 1), (1, 1, 2)), "g"))))
    ask(shard, Execute(2, (Commit(((0, 1, 1),), "g"), Discard(((1, 1, 1), (0, 1, 3))))))
    # Late ones: committed, discarded, and one that was discarded before it came.
    for replica, sequence in ((0, 1), (1, 1), (0, 3)):
        ask(shard, Stage(replica, 0, 1, sequence, (W,)), gradient(100.0))
    ask(shard, Execute(3, (Commit(((0, 1, 1), (1, 1, 1), (0, 1, 3)), "g"), Dot("g", "g"))))
    (reply,) = shard.receive("me", fetch(1, READER, vector="g"))
    np.testing.assert_array_equal(reply.arrays[0], np.full((4, 3), 9.0))
    assert len(shard._staging) == 1
    ask(shard, Close(0, 1))
    assert ask(shard, Stage(0, 0, 1, 4, (W,)), gradient()).reason is Reason.CLOSED
    # What a replica staged before it died may still count; or it is dropped.
    ask(shard, Execute(4, (Commit(((0, 1, 2),), "g"),)))
    ask(shard, Stage(1, 0, 1, 9, (W,)), gradient())
    ask(shard, Execute(5, (Discard(epochs=((1, 1),)), Update("g", 0.5))))
    assert len(shard._staging) == 0
    np.testing.assert_array_equal(values(shard), np.full((4, 3), -5.5))


def test_a_commit_needs_the_parts_of_all_partitions() -> None:
    shard = shard_of()
    ask(shard, Admit(0, 1, (0, 1)))
    left, right = Part("w", ((0, 2), (0, 3))), Part("w", ((2, 4), (0, 3)), True)
    ask(shard, Stage(0, 0, 1, 1, (left,)), (np.ones((2, 3)),))
    order = Execute(1, (Zero("g"), Commit(((0, 1, 1),), "g")))
    assert "nothing is staged" in ask(shard, order).detail
    ask(shard, Stage(0, 1, 1, 1, (right,)), (np.array([3]), np.ones((1, 3))))
    ask(shard, order)
    ask(shard, Execute(2, (Update("g"),)))
    np.testing.assert_array_equal(values(shard)[:, 0], [-1, -1, 0, -1])
    ask(shard, Close(0, 1))
    late = Execute(3, (Commit(((0, 1, 2),), "g"),))
    assert "nothing is staged" in ask(shard, late).detail


def test_messages_travel() -> None:
    """As the wire has them: one union, told apart by the names of the kinds."""
    part = Part("w", ((0, 4), (0, 3)), True)
    orders = (Axpy(0.5, "a", "b"), Commit(((0, 1, 2),), "g"), Update("g", 0.5), Discard())
    some = (
        fetch(1, codec="int8"),
        push(3, batches=((4, 6),), parts=(part,)),
        Stage(0, 1, 2, 3, (part,)),
        Execute(1, orders),
        Mark(3, ("s0",)),
        Cut(3, ((0, 1, 7),)),
        Closed(0, 1, (Applied(0, 0, 1, 7, ((0, 7),)),)),
        Refused("Push", 0, 0, 1, 3, Reason.GAP, "detail"),
        messages.Progress(0, 1, 4, float("inf"), 3, ((1, 4),), True),
    )
    for message in some:
        text = msgspec.msgpack.encode(message)
        assert msgspec.msgpack.decode(text, type=messages.Any) == message
    kinds = [kind.__struct_config__.tag for kind in messages.Any.__args__]
    assert len(set(kinds)) == len(kinds)
