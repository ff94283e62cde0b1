"""The replica's side: bit for bit the plain rule, whatever is doubled or late on the way."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ps_tools import Arrays, leaves, make_shards, routes_of, server_values, whole_state, zeros

from dbgraph.errors import RunError, UsageError
from dbgraph.ir.types import TensorType
from dbgraph.optim.rules import Rule
from dbgraph.optim.sparse import Rows
from dbgraph.optim.update import initial_slots, update
from dbgraph.ps.client import Begin, Client, Dismissed, Ended, Send
from dbgraph.ps.compress import Compression
from dbgraph.ps.layout import Layout, lay_out
from dbgraph.ps.messages import Admit, Close, Fetched, Pushed, Reason, Refused
from dbgraph.ps.options import Downpour
from dbgraph.ps.shard import Shard

TYPES = {"w": TensorType((7, 5)), "b": TensorType((9,))}
WIDE = {name: TensorType(kind.shape, "float64") for name, kind in TYPES.items()}
ONE = Rule.of("sgd", learning_rate=1.0)


class Lines:
    """One replica of one partition, and its shards; the test says what happens on the way."""

    def __init__(
        self,
        types: dict[str, TensorType],
        shards: int,
        rule: Rule,
        options: Downpour,
        start: dict[str, np.ndarray] | None = None,
    ) -> None:
        held = leaves(types, 1)
        self.layout: Layout = lay_out(types, held, shards)
        state = zeros(types) if start is None else whole_state(start)
        self.shards: list[Shard] = make_shards(self.layout, rule, state, options)
        for shard in self.shards:
            shard.receive(None, Admit(0, 1, (0,)))
        (routes,) = routes_of(self.layout, held)
        self.client = Client(0, 0, 1, routes, options, options.rate(rule))
        self.up: list[Send] = []
        self.down: list[tuple[int, Any, Arrays]] = []
        self.begun: Begin | None = None
        self.has_ended = False

    def follow(self, instructions: Sequence[Any]) -> None:
        for one in instructions:
            match one:
                case Send():
                    self.up.append(one)
                case Begin():
                    self.begun = one
                case Ended():
                    assert not self.has_ended
                    self.has_ended = True
                case Dismissed(why):
                    raise AssertionError(why)

    def at_shard(self, send: Send) -> None:
        for reply in self.shards[send.shard].receive("me", send.message, send.arrays):
            self.down.append((send.shard, reply.message, reply.arrays))

    def at_client(self, shard: int, message: Any, arrays: Arrays) -> None:
        match message:
            case Fetched():
                self.follow(self.client.fetched(shard, message, arrays))
            case Pushed():
                self.follow(self.client.pushed(shard, message))
            case Refused():
                self.follow(self.client.refused(shard, message))

    def settle(self) -> None:
        """All arrives, in order."""
        while self.up or self.down:
            if self.up:
                self.at_shard(self.up.pop(0))
            else:
                self.at_client(*self.down.pop(0))

    def step(self, gradients: dict[str, Any]) -> None:
        assert self.begun is not None
        step, self.begun = self.begun.step, None
        named = {f"{name}@0": gradient for name, gradient in gradients.items()}
        self.follow(self.client.finished(named, ((step, step + 1),)))

    def values(self) -> dict[str, np.ndarray]:
        return server_values(self.layout, self.shards)


def gradients_at(step: int, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: np.sin(5 * value + step + np.arange(value.size).reshape(value.shape)).astype(
            value.dtype
        )
        for name, value in values.items()
    }


def start_values(types: dict[str, TensorType]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {n: rng.normal(size=t.shape).astype(t.dtype) for n, t in types.items()}


# Equal to the rule alone


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize(
    "rule",
    [
        "sgd:learning_rate=0.3",
        "momentum:learning_rate=0.1,momentum=0.9@cosine:steps=15",
        "adagrad:learning_rate=0.1",
        "adagrad_optax:learning_rate=0.1",
    ],
)
def test_one_replica_is_the_plain_rule_bit_for_bit(rule: str, shards: int) -> None:
    lines = Lines(TYPES, shards, Rule.parse(rule), Downpour(), start_values(TYPES))
    plain = {name: jnp.array(value) for name, value in start_values(TYPES).items()}
    state = initial_slots(Rule.parse(rule), plain)
    lines.follow(lines.client.start())
    for step in range(20):
        lines.settle()
        assert lines.begun is not None
        for name, value in plain.items():
            np.testing.assert_array_equal(lines.begun.parameters[f"{name}@0"], np.asarray(value))
        gradients = gradients_at(step, {name: np.array(v) for name, v in plain.items()})
        lines.step(gradients)
        plain, state = update(Rule.parse(rule))(plain, {}, state, gradients)
    lines.settle()
    for name, value in lines.values().items():
        np.testing.assert_array_equal(value, np.asarray(plain[name]))


@pytest.mark.parametrize("rule", ["adam:learning_rate=0.1@linear:steps=12", "rmsprop"])
def test_one_replica_is_the_plain_rule(rule: str) -> None:
    """Up to rounding: XLA computes Adam's powers in the loop or before it, as it likes."""
    lines = Lines(TYPES, 2, Rule.parse(rule), Downpour(), start_values(TYPES))
    plain = {name: jnp.array(value) for name, value in start_values(TYPES).items()}
    state = initial_slots(Rule.parse(rule), plain)
    lines.follow(lines.client.start())
    for step in range(10):
        lines.settle()
        gradients = gradients_at(step, start_values(TYPES))
        lines.step(gradients)
        plain, state = update(Rule.parse(rule))(plain, {}, state, gradients)
    lines.settle()
    for name, value in lines.values().items():
        np.testing.assert_allclose(value, np.asarray(plain[name]), rtol=1e-5, atol=1e-6)


# Exactly once, whatever happens on the way


def next_of(
    shard: int, line: list[Any], before: dict[int, list[Any]], chance: random.Random, of: Any
) -> list[Any]:
    """What comes next on a shard's line, and perhaps something again that came before."""
    place = next(i for i, one in enumerate(line) if of(one) == shard)
    came = before.setdefault(shard, [])
    came.append(line.pop(place))
    return [came[-1], *chance.sample(came, chance.choice([0, 0, 1]))]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1 << 30),
    shards=st.integers(1, 3),
    n_fetch=st.integers(1, 3),
    n_push=st.integers(1, 3),
    compression=st.sampled_from(["none", "int8", "topk:0.2"]),
)
def test_each_push_counts_once_though_messages_are_doubled_and_late(
    seed: int, shards: int, n_fetch: int, n_push: int, compression: str
) -> None:
    options = Downpour(n_fetch=n_fetch, n_push=n_push, local_rate=1.0, push_compression=compression)
    lines = Lines(WIDE, shards, ONE, options)
    chance = random.Random(seed)
    rng = np.random.default_rng(seed)
    total = {name: np.zeros(kind.shape) for name, kind in WIDE.items()}
    lines.follow(lines.client.start())
    steps = 0
    sent: dict[int, list[Send]] = {}
    told: dict[int, list[Any]] = {}
    for turn in itertools.count():
        assert turn < 3_000, "it does not come to an end"
        if lines.has_ended:
            break
        if lines.begun is not None and chance.random() < 0.3:
            given_ = {n: rng.integers(-9, 9, k.shape).astype(float) for n, k in WIDE.items()}
            total = {name: total[name] + given_[name] for name in total}
            lines.step(given_)
            steps += 1
            if steps == 12:
                lines.follow(lines.client.stop())
                lines.begun = None
        elif lines.up and chance.random() < 0.5:
            shard = chance.choice(lines.up).shard
            for send in next_of(shard, lines.up, sent, chance, lambda one: one.shard):
                lines.at_shard(send)
        elif lines.down:
            shard = chance.choice(lines.down)[0]
            for arrived in next_of(shard, lines.down, told, chance, lambda one: one[0]):
                lines.at_client(*arrived)
    for name, value in lines.values().items():
        np.testing.assert_allclose(value, -total[name], atol=1e-9)
        if compression == "none":
            np.testing.assert_array_equal(value, -total[name])
    pushes = {shard.counters.pushes for shard in lines.shards}
    assert len(pushes) == 1
    assert lines.client.applied.pairs == ((0, 12),)


def test_a_message_that_was_left_out_ends_the_run() -> None:
    """A transport that keeps no order is none."""
    lines = Lines(TYPES, 1, ONE, Downpour(n_fetch=3))
    lines.follow(lines.client.start())
    lines.settle()
    for step in range(2):
        lines.step(gradients_at(step, start_values(TYPES)))
    lines.up.pop(0)
    lines.at_shard(lines.up.pop(0))
    said = r"^shard 0: Push: a number was left out \(1 is next\)$"
    with pytest.raises(RunError, match=said):
        lines.at_client(*lines.down.pop(0))


def test_a_late_answer_to_an_older_epoch_is_not_taken() -> None:
    lines = Lines(TYPES, 1, ONE, Downpour())
    lines.follow(lines.client.start())
    lines.settle()
    lines.step(gradients_at(0, start_values(TYPES)))
    assert lines.client.pushed(0, Pushed(0, 0, 7, 1, 1, 0)) == []
    assert lines.client.fetched(0, Fetched(0, 0, 7, 2, 1, 1), ()) == []
    assert lines.client.refused(0, Refused("Push", 0, 0, 7, 1, Reason.CLOSED)) == []
    assert lines.client.acknowledged == 0


def test_a_replica_that_was_given_up_is_dismissed() -> None:
    lines = Lines(TYPES, 2, ONE, Downpour())
    lines.follow(lines.client.start())
    lines.settle()
    for shard in lines.shards:
        shard.receive(None, Close(0, 1))
    lines.step(gradients_at(0, start_values(TYPES)))
    for send in lines.up:
        lines.at_shard(send)
    (first, *_) = [lines.client.refused(s, m) for s, m, _ in lines.down]
    assert isinstance(first[0], Dismissed)
    assert "the epoch is closed" in first[0].why
    for name, value in lines.values().items():
        np.testing.assert_array_equal(value, np.zeros(TYPES[name].shape))


# The rule for a fetch between two pushes


def test_a_fetch_between_two_pushes_loses_no_local_gradient() -> None:
    """The fetch is answered before the pushes of steps 1 and 2; step 3 is accrued."""
    options = Downpour(n_fetch=4, n_push=2, local_rate=0.5)
    lines = Lines(WIDE, 1, ONE, options)
    gradient = {name: np.full(kind.shape, 1.0) for name, kind in WIDE.items()}
    lines.follow(lines.client.start())
    lines.settle()
    for _ in range(4):  # pushes after steps 0 and 2, fetches before step 4
        lines.step(gradient)
    fetch = lines.up[-1]
    pushes = lines.up[:-1]
    for push in pushes:
        lines.at_shard(push)
    lines.at_shard(fetch)
    lines.up.clear()
    lines.step(gradient)  # step 4 did not wait: pushed, not in what was fetched
    lines.step(gradient)  # step 5: accrued
    answers, lines.down = lines.down, []
    for answer in answers:
        lines.at_client(*answer)
    lines.step(gradient)  # step 6: pushed with step 5; now the fetch is used
    assert lines.begun is not None
    assert lines.begun.is_fetched
    for value in lines.begun.parameters.values():
        # On the server: steps 0, and 1 + 2, at rate 1. Not there: 3 + 4, and 5 + 6, at 0.5.
        np.testing.assert_array_equal(value, np.full(value.shape, -3.0 - 0.5 * 4))


def test_a_push_that_the_fetched_values_contain_is_not_taken_off_again() -> None:
    """Though its acknowledgement comes later than they do."""
    lines = Lines(WIDE, 2, ONE, Downpour(local_rate=0.5))
    lines.follow(lines.client.start())
    lines.settle()
    lines.step({name: np.ones(kind.shape) for name, kind in WIDE.items()})
    for send in lines.up:
        lines.at_shard(send)
    lines.up.clear()
    late = [answer for answer in lines.down if isinstance(answer[1], Pushed)]
    for answer in lines.down:
        if answer not in late:
            lines.at_client(*answer)
    assert lines.begun is not None
    assert lines.client.acknowledged == 0
    for value in lines.begun.parameters.values():
        np.testing.assert_array_equal(value, np.full(value.shape, -1.0))
    for answer in late:
        lines.at_client(*answer)
    assert lines.client.acknowledged == 1


def test_what_a_step_computes_with_never_changes() -> None:
    lines = Lines(TYPES, 2, ONE, Downpour(n_fetch=3, n_push=2), start_values(TYPES))
    lines.follow(lines.client.start())
    lines.settle()
    seen: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]] = []
    for step in range(9):
        assert lines.begun is not None
        given_ = gradients_at(step, {n: lines.begun.parameters[f"{n}@0"] for n in TYPES})
        for arrays in (lines.begun.parameters, given_):
            seen.append((arrays, {name: value.copy() for name, value in arrays.items()}))
        lines.step(given_)
        lines.settle()
    for arrays, copies in seen:
        for name, value in arrays.items():
            np.testing.assert_array_equal(value, copies[name])


# Compression, rows, stopping


@pytest.mark.parametrize("compression", ["bfloat16", "float16", "int8", "topk:0.1"])
def test_what_compression_loses_comes_with_a_later_push(compression: str) -> None:
    lines = Lines(WIDE, 2, ONE, Downpour(push_compression=compression))
    rng = np.random.default_rng(1)
    total = {name: np.zeros(kind.shape) for name, kind in WIDE.items()}
    lines.follow(lines.client.start())
    for _ in range(10):
        lines.settle()
        given_ = {name: rng.normal(size=kind.shape) for name, kind in WIDE.items()}
        total = {name: total[name] + given_[name] for name in total}
        lines.step(given_)
    lines.settle()
    before = lines.values()
    assert any(np.abs(before[n] + total[n]).max() > 1e-9 for n in WIDE), "nothing was lost"
    lines.follow(lines.client.stop())
    lines.settle()
    assert lines.has_ended
    for name, value in lines.values().items():
        np.testing.assert_allclose(value, -total[name], atol=1e-12)
    plain = 11 * sum(kind.size_bytes for kind in WIDE.values())
    counted = [shard.counters for shard in lines.shards]
    pushed_bytes, saved_bytes, fetched_bytes = (
        sum(getattr(one, name) for one in counted)
        for name in ("pushed_bytes", "saved_bytes", "fetched_bytes")
    )
    assert pushed_bytes + saved_bytes == fetched_bytes == plain
    assert saved_bytes > plain / 3


def test_fetches_are_compressed_too() -> None:
    start = start_values(TYPES)
    lines = Lines(TYPES, 2, ONE, Downpour(fetch_compression="bfloat16"), start)
    lines.follow(lines.client.start())
    lines.settle()
    assert lines.begun is not None
    for name, value in start.items():
        got = lines.begun.parameters[f"{name}@0"]
        np.testing.assert_allclose(got, value, rtol=2**-8)
        assert got.dtype == np.float32
        assert not np.array_equal(got, value)
    size = sum(kind.size_bytes for kind in TYPES.values())
    assert sum(shard.counters.saved_bytes for shard in lines.shards) == size // 2


@pytest.mark.parametrize("shards", [1, 3])
def test_rows_of_an_embedding_go_to_their_shards(shards: int) -> None:
    options = Downpour(n_fetch=2, n_push=3, local_rate=1.0, push_compression="int8")
    lines = Lines(WIDE, shards, ONE, options)
    rng = np.random.default_rng(2)
    total = np.zeros((7, 5))
    lines.follow(lines.client.start())
    for _ in range(8):
        lines.settle()
        assert lines.begun is not None
        np.testing.assert_allclose(lines.begun.parameters["w@0"], -total, atol=1e-12)
        indices = rng.integers(0, 7, 4)
        values = rng.normal(size=(4, 5))
        np.add.at(total, indices, values)
        lines.step({"w": Rows(indices, values), "b": np.zeros(9)})
    lines.follow(lines.client.stop())
    lines.settle()
    np.testing.assert_allclose(lines.values()["w"], -total, atol=1e-12)


def test_the_last_gradients_are_pushed_before_the_end() -> None:
    lines = Lines(WIDE, 2, ONE, Downpour(n_push=10, n_fetch=3))
    lines.follow(lines.client.start())
    for _ in range(5):
        lines.settle()
        lines.step({name: np.ones(kind.shape) for name, kind in WIDE.items()})
    lines.settle()
    lines.follow(lines.client.stop())
    assert not lines.has_ended, "nothing is acknowledged yet"
    lines.settle()
    assert lines.has_ended
    late = Refused("Fetch", 0, 0, 1, 2, Reason.CLOSED)
    assert lines.client.refused(0, late) == [], "of a fetch that was held until it had left"
    for value in lines.values().values():
        np.testing.assert_array_equal(value, np.full(value.shape, -5.0))
    assert lines.client.applied.pairs == ((0, 5),)


# Bad input


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"n_push": 0}, "n_push is 0: must be at least 1"),
        ({"n_fetch": 0}, "n_fetch is 0: must be at least 1"),
        ({"share": 0}, "share is 0"),
        ({"warm_start": -1}, "warm_start is -1: must be at least 0"),
        ({"local_rate": -0.1}, "local_rate is -0.1"),
        ({"local_rate": float("nan")}, "local_rate is nan"),
        ({"max_staleness": -1}, "max_staleness is -1"),
        ({"push_compression": "int9"}, "no compression 'int9'"),
        ({"fetch_compression": "topk:0.1"}, "parameters can't be fetched by 'topk:0.1'"),
        ({"push_compression": "topk:2"}, "must be above 0, at most 1"),
        ({"push_compression": "topk:x"}, "'x' is no number"),
    ],
)
def test_options_out_of_range_are_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Downpour(**option)


def test_options_have_one_text_form() -> None:
    for text in ("none", "int8", "topk:0.25"):
        assert str(Compression.parse(text)) == text
    assert Downpour().rate(Rule.of("sgd", learning_rate=0.3)) == 0.3
    assert Downpour(local_rate=0.0).rate(ONE) == 0.0


def test_gradients_that_are_not_the_steps_are_refused() -> None:
    lines = Lines(TYPES, 1, ONE, Downpour())
    with pytest.raises(RunError, match="a step's gradients"):
        lines.client.finished({}, ())
    lines.follow(lines.client.start())
    lines.settle()
    with pytest.raises(RunError, match="a step's gradients"):
        lines.client.finished({"w@0": np.zeros((7, 5), np.float32)}, ((0, 1),))
