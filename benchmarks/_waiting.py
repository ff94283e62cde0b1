"""Replicas that wait instead of computing, as if they computed on other machines: for benchmarks of
what stands between them. Coordinator, shards, clients and messages are dbgraph's own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

import dbgraph as dbg
from dbgraph.actor import Actor, Address, Envelope
from dbgraph.actors.audience import Wish
from dbgraph.actors.gradients import BatchReplica
from dbgraph.actors.messages import Appraised, Cargo, Ordinal, ShardStatus
from dbgraph.actors.partition import Partition
from dbgraph.actors.replica import DownpourReplica
from dbgraph.actors.shard import ShardActor
from dbgraph.coordinate.options import Sandblaster
from dbgraph.errors import RunError
from dbgraph.job import Step
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan
from dbgraph.ps.blocks import Blocks
from dbgraph.ps.client import Client
from dbgraph.ps.initial import initial_state
from dbgraph.ps.layout import Layout
from dbgraph.ps.options import Downpour
from dbgraph.ps.routes import Routes
from dbgraph.ps.shard import Shard
from dbgraph.sampler import Batches
from dbgraph.state import State

WEIGHTS = "dense/weights"
RATE = 1e-4


def network(numbers: int) -> dbg.Network:
    """Of one parameter; what it computes is never asked for."""
    from dbgraph import layers as L

    with dbg.Network("waiting", batch=1) as net:
        x = dbg.input("x", (numbers,))
        dbg.loss(L.Dense(1, use_bias=False, name="dense")(x).mean())
    return net


class Waiter(Partition):
    """A partition whose gradient takes a fixed time: that of Rosenbrock's function, whose
    minimum takes L-BFGS many evaluations."""

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._weights = np.zeros(0)
        self.is_running = False

    awaits = None

    def set(self, parameters: Mapping[str, np.ndarray]) -> None:
        self._weights = parameters[WEIGHTS]

    def begin(self, ordinal: Ordinal, number: int, examples: np.ndarray) -> None:
        self.is_running = True

    def expect(self, examples: np.ndarray) -> None:
        pass

    def deliver(self, cargo: Cargo, arrays: tuple[np.ndarray, ...]) -> None:
        raise AssertionError("it has no siblings")

    def advance(self) -> list[Envelope] | None:
        if not self.is_running:
            return None
        time.sleep(self._wait_s)
        self.is_running = False
        return []

    def gradients(self) -> dict[str, np.ndarray]:
        x = self._weights[:, 0].astype(np.float64)
        bend = x[1:] - x[:-1] ** 2
        found = np.zeros_like(x)
        found[:-1] = -400 * x[:-1] * bend - 2 * (1 - x[:-1])
        found[1:] += 200 * bend
        return {WEIGHTS: found[:, None].astype(np.float32)}

    def loss(self) -> float:
        x = self._weights[:, 0].astype(np.float64)
        return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def unexpected(parameters: Mapping[str, np.ndarray], step: Step, rule: str) -> RunError:
    return RunError(rule)


@dataclass(frozen=True)
class Casting:
    """Makes the actors.

    Attributes:
        waits_s: of each replica's gradient.
    """

    plan: Plan
    layout: Layout
    algorithm: Downpour | Sandblaster
    batches: Batches
    waits_s: tuple[float, ...]

    def __call__(self, address: Address) -> Actor:
        if address.kind == "shard":
            return self._shard(address.number)
        partition = Waiter(self.waits_s[address.number])
        routes = Routes.of(self.layout, self.plan, 0)
        member = address, 1, self.plan.fingerprint, partition, self.batches, unexpected
        options = self.algorithm
        if isinstance(options, Sandblaster):
            return BatchReplica(*member, routes)

        def make_client(replica: int, number: int, epoch: int) -> Client:
            return Client(replica, number, epoch, routes, options, RATE)

        return DownpourReplica(*member, make_client)

    def _shard(self, number: int) -> Actor:
        owned = self.layout.shards[number]
        rule = Rule.of("sgd", learning_rate=RATE) if isinstance(self.algorithm, Downpour) else None
        blocks = Blocks(dict(self.layout.types), owned, set(self.layout.types), rule)
        return ShardActor(Shard(blocks), initial_state(self.plan, owned))


class Listener:
    """An audience that notes when steps were done, and with how many examples."""

    enough = interrupted = False

    def __init__(self) -> None:
        self.steps: list[tuple[float, int]] = []

    def stepped(self, step: int, loss: float, examples: int) -> None:
        self.steps.append((time.perf_counter(), examples))

    def rate(self) -> float:
        """Examples per second, but for the first and the last quarter of the steps."""
        quarter = len(self.steps) // 4
        middle = self.steps[quarter : -quarter or None]
        (began_s, _), (ended_s, _) = middle[0], middle[-1]
        return sum(examples for _, examples in middle[1:]) / (ended_s - began_s)

    def replica(self, number: int, doing: str, staleness: int | None, now: float) -> None:
        pass

    def computed(self, number: int, examples: int, now: float) -> None:
        pass

    def shard(self, number: int, status: ShardStatus, now: float) -> None:
        pass

    def note(self, text: str) -> None:
        raise RuntimeError(text)

    def alarm(self, rule: str, replica: int | None, step: int, loss: float) -> None:
        pass

    def appraising(self, step: int) -> None:
        pass

    def unevaluated(self) -> None:
        pass

    def evaluated(self, said: Appraised) -> None:
        pass

    def taken(self, state: State, step: int, last: bool) -> None:
        pass

    def evaluation_due(self, before: int, step: int) -> bool:
        return False

    def snapshot_due(self, before: int, step: int) -> bool:
        return False

    def wishes(self) -> Iterable[Wish]:
        return ()
