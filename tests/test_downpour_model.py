"""Downpour equals a sequential model of the paper's box, in any order of arrival."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ps_tools import leaves, make_shards, routes_of, scripted, server_values, whole_state

from dbgraph.ir.types import TensorType
from dbgraph.optim.rules import Rule
from dbgraph.ps.client import Begin, Client, Ended, Send
from dbgraph.ps.layout import lay_out
from dbgraph.ps.messages import Admit, Fetch, Fetched, Push
from dbgraph.ps.options import Downpour

TYPES = {"w": TensorType((5, 3), "float64"), "b": TensorType((4,), "float64")}
RATE, MOMENTUM = 0.1, 0.5

Rules: dict[str, Callable[[Any, Any], tuple[Any, Any]]] = {
    "sgd": lambda slot, g: (slot, RATE * g),
    "momentum": lambda slot, g: (MOMENTUM * slot + g, RATE * (MOMENTUM * slot + g)),
    "adagrad": lambda slot, g: (slot + g**2, RATE * g / np.sqrt(np.where(g, slot + g**2, 1))),
}


class Paper:
    """Dean et al. 2012, Algorithm 7.1, told event by event; every client has all elements.

    Args:
        owner: of each element the shard.
    """

    def __init__(
        self, x: np.ndarray, owner: np.ndarray, rule: str, rate: float, n_push: int
    ) -> None:
        self.x, self.owner, self.rule = x.copy(), owner, Rules[rule]
        self.slot = np.zeros_like(x)
        self.rate, self.n_push = rate, n_push
        self.parameters: dict[int, np.ndarray] = {}
        self.accrued: dict[int, np.ndarray] = {}
        self.pushes: dict[int, list[np.ndarray]] = {}
        self.fetched: dict[int, np.ndarray] = {}
        self.has: dict[int, np.ndarray] = {}  # of each element the last own push on the server
        self.knows: dict[int, np.ndarray] = {}  # the same, when it was fetched

    def join(self, c: int) -> None:
        self.accrued[c], self.pushes[c], self.fetched[c] = self.x * 0, [], self.x * 0
        self.has[c], self.knows[c] = np.zeros(len(self.x)), np.zeros(len(self.x))

    def fetch_at(self, c: int, shard: int) -> None:
        here = self.owner == shard
        self.fetched[c][here], self.knows[c][here] = self.x[here], self.has[c][here]

    def push_at(self, c: int, shard: int, sequence: int) -> None:
        here = self.owner == shard
        gradient = self.pushes[c][sequence - 1][here]
        self.slot[here], step = self.rule(self.slot[here], gradient)
        self.x[here] -= step
        self.has[c][here] = sequence

    def land(self, c: int) -> None:
        self.parameters[c] = self.fetched[c].copy()
        for sequence, push in enumerate(self.pushes[c], 1):
            self.parameters[c] -= self.rate * push * (self.knows[c] < sequence)
        self.parameters[c] -= self.rate * self.accrued[c]

    def step(self, c: int, number: int, gradient: np.ndarray) -> None:
        self.accrued[c] = self.accrued[c] + gradient
        self.parameters[c] = self.parameters[c] - self.rate * gradient
        if number % self.n_push == 0:
            self.pushes[c].append(self.accrued[c])
            self.accrued[c] = self.x * 0


class Script:
    """Replicas of one partition and shards, with lines that keep their order; the order in which
    things happen is a list of numbers. What happens is told to the paper's box."""

    def __init__(
        self, replicas: int, shards: int, rule: str, options: Downpour, steps: int, order: list[int]
    ) -> None:
        start = {n: np.linspace(-1.0, 1.0, t.size).reshape(t.shape) for n, t in TYPES.items()}
        held = leaves(TYPES, 1)
        self.layout = lay_out(TYPES, held, shards)
        more = {"momentum": MOMENTUM} if rule == "momentum" else {}
        made = Rule.of(rule, learning_rate=RATE, **more)
        self.shards = make_shards(self.layout, made, whole_state(start), options)
        self.rate = options.rate(made)
        self.paper = Paper(flat(start), self.owners(), rule, self.rate, options.n_push)
        self.options, self.steps = options, steps
        self.choose = scripted(iter(order))
        self.clients: dict[int, Client] = {}
        self.lines: dict[tuple[str, int, int], deque[Any]] = {}
        self.begun: dict[int, Begin] = {}
        self.fetched_at: dict[int, int] = {}
        self.landed: dict[int, int] = {}
        self.overlaps = 0
        for c in range(replicas):
            self.paper.join(c)
            for shard in self.shards:
                shard.receive(None, Admit(c, 1, (0,)))
            (routes,) = routes_of(self.layout, held)
            self.clients[c] = Client(c, 0, 1, routes, options, self.rate)
            self.follow(c, self.clients[c].start())

    def owners(self) -> np.ndarray:
        marks = {n: np.zeros(t.shape, int) for n, t in TYPES.items()}
        for shard, owned in enumerate(self.layout.shards):
            for one in owned:
                marks[one.parameter][one.region.slices()] = shard
        return flat(marks)

    def run(self) -> None:
        while moves := self.moves():
            kind, c, shard = moves[self.choose(len(moves))]
            if kind == "compute":
                self.compute(c)
            elif kind == "up":
                self.at_shard(c, shard, *self.lines["up", c, shard].popleft())
            else:
                message, arrays = self.lines["down", c, shard].popleft()
                client = self.clients[c]
                arrived = isinstance(message, Fetched)
                self.overlaps += arrived and c in self.begun
                self.follow(
                    c,
                    client.fetched(shard, message, arrays)
                    if arrived
                    else client.pushed(shard, message),
                )

    def moves(self) -> list[tuple[str, int, int]]:
        return [
            *(key for key, line in self.lines.items() if line),
            *(("compute", c, 0) for c in self.begun),
        ]

    def at_shard(self, c: int, shard: int, message: Any, arrays: Any) -> None:
        if isinstance(message, Push):
            self.paper.push_at(c, shard, message.sequence)
        for reply in self.shards[shard].receive(c, message, arrays):
            if isinstance(reply.message, Fetched):
                self.paper.fetch_at(reply.to, shard)  # type: ignore[arg-type]
            self.line("down", reply.to, shard).append((reply.message, reply.arrays))  # type: ignore[arg-type]

    def line(self, way: str, c: int, shard: int) -> deque[Any]:
        return self.lines.setdefault((way, c, shard), deque())

    def compute(self, c: int) -> None:
        begun = self.begun.pop(c)
        parameters = {leaf.split("@")[0]: v for leaf, v in begun.parameters.items()}
        np.testing.assert_allclose(
            flat(parameters), self.paper.parameters[c], rtol=1e-12, atol=1e-13
        )
        gradients = {
            f"{name}@0": np.sin(3 * value + c + 0.1 * begun.step)
            for name, value in parameters.items()
        }
        by_name = {name: gradients[f"{name}@0"] for name in TYPES}
        self.paper.step(c, begun.step, flat(by_name))
        self.follow(c, self.clients[c].finished(gradients, ((begun.step, begun.step + 1),)))

    def follow(self, c: int, instructions: list[Any]) -> None:
        for one in instructions:
            match one:
                case Send(shard, message, arrays):
                    self.line("up", c, shard).append((message, arrays))
                    if isinstance(message, Fetch):
                        step = self.begun[c].step + 1 if c in self.begun else self.done(c)
                        self.fetched_at[c] = step
                case Begin(step, _, is_fetched):
                    self.begin(c, one, step, is_fetched)
                case Ended():
                    pass

    def done(self, c: int) -> int:
        return self.clients[c]._step

    def begin(self, c: int, begun: Begin, step: int, is_fetched: bool) -> None:
        n = self.options.n_fetch
        if is_fetched:
            self.paper.land(c)
            self.landed[c] = self.fetched_at[c]
        assert step - self.landed[c] <= 2 * n - 2, "parameters are older than n_fetch allows"
        if step < self.steps:
            self.begun[c] = begun

    def check(self) -> None:
        x = flat(server_values(self.layout, self.shards))
        np.testing.assert_allclose(x, self.paper.x, rtol=1e-12, atol=1e-13)
        assert all(client._step == self.steps for client in self.clients.values())


def flat(values: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([values[name].reshape(-1) for name in TYPES])


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(
    replicas=st.integers(1, 3),
    shards=st.integers(1, 3),
    rule=st.sampled_from(["sgd", "momentum", "adagrad"]),
    n_fetch=st.integers(1, 4),
    n_push=st.integers(1, 3),
    rate=st.sampled_from([None, 0.0, 0.3]),
    order=st.lists(st.integers(0, 1 << 16), max_size=400),
)
def test_any_schedule_equals_the_papers_box(
    replicas: int,
    shards: int,
    rule: str,
    n_fetch: int,
    n_push: int,
    rate: float | None,
    order: list[int],
) -> None:
    options = Downpour(n_fetch=n_fetch, n_push=n_push, local_rate=rate)
    script = Script(replicas, shards, rule, options, 9, order)
    script.run()
    script.check()


@pytest.mark.parametrize("seed", range(4))
def test_fetches_and_computing_overlap(seed: int) -> None:
    order = np.random.default_rng(seed).integers(0, 1 << 16, 3000).tolist()
    script = Script(3, 2, "adagrad", Downpour(n_fetch=3, n_push=2), 60, order)
    script.run()
    script.check()
    assert script.overlaps >= 20
    staleness = script.shards[0].counters.staleness
    assert max(staleness) > 1
    assert sum(staleness.values()) == 3 * 30
