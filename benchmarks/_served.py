"""Actors for the benchmark of the parameter server: its own shards and clients, and replicas that
compute nothing. What a replica fetches it answers with the same gradients as before."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dbgraph.actor import COORDINATOR, Actor, Address, Arrays, Envelope
from dbgraph.actors.messages import Exit, Restore, Restored, ShardStatus
from dbgraph.actors.shard import ShardActor
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan
from dbgraph.ps.blocks import Blocks
from dbgraph.ps.client import Begin, Client, Instruction
from dbgraph.ps.initial import initial_state
from dbgraph.ps.layout import Layout
from dbgraph.ps.messages import Admit, Admitted, Fetched, Pushed
from dbgraph.ps.options import Downpour
from dbgraph.ps.routes import Leaves, Routes
from dbgraph.ps.shard import Shard
from dbgraph.ps.underway import Send
from dbgraph.wire.messages import Message
from dbgraph.wire.parcel import DTYPES, empty_aligned

EPOCH = 1
WARM_STEPS, FEWEST_STEPS = 10, 9
"""Not counted, because memory is new in them; and counted."""


class Go(Message, frozen=True):
    """To a replica: so many more steps."""

    steps: int


class Rests(Message, frozen=True):
    """From a replica: it has the parameters that its next step would begin with."""


@dataclass(frozen=True)
class Casting:
    """Makes the actors, in their processes."""

    plan: Plan
    layout: Layout
    options: Downpour
    rule: Rule

    def __call__(self, address: Address) -> Actor:
        if address.kind == "replica":
            routes = Routes.of(self.layout, self.plan, 0)
            return Idler(Client(address.number, 0, EPOCH, routes, self.options, 0.0), routes)
        owned = self.layout.shards[address.number]
        blocks = Blocks(dict(self.layout.types), owned, set(self.layout.types), self.rule)
        return ShardActor(Shard(blocks), initial_state(self.plan, owned))


class Still:
    """What no actor here has any use for."""

    is_over = False
    deadline: float | None = None

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        raise RuntimeError(f"{peer} is gone")

    def work(self) -> Iterable[Envelope] | None:
        return None

    def tick(self, now: float) -> Iterable[Envelope]:
        return []


class Idler(Still):
    """A replica of one partition that has its gradients already."""

    def __init__(self, client: Client, routes: Routes) -> None:
        self._client = client
        self._gradients = _ones(routes)
        self._left = self._step = 0
        self._is_resting = False

    def start(self, now: float) -> Iterable[Envelope]:
        return []

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        match message:
            case Go(steps):
                self._left = steps
                return self._go_on() if self._is_resting else self._sent(self._client.start())
            case Fetched():
                return self._sent(self._client.fetched(sender.number, message, arrays))
            case Pushed():
                return self._sent(self._client.pushed(sender.number, message))
            case Exit():
                self.is_over = True
                return []
        raise RuntimeError(f"{sender}: {message}")

    def _sent(self, instructions: Iterable[Instruction]) -> Iterable[Envelope]:
        for instruction in instructions:
            match instruction:
                case Send(shard, message, arrays):
                    yield Envelope(Address("shard", shard), message, arrays)
                case Begin():
                    self._is_resting = True
                    yield from self._go_on()

    def _go_on(self) -> Iterable[Envelope]:
        if not self._left:
            return [Envelope(COORDINATOR, Rests())]
        self._left -= 1
        self._step += 1
        self._is_resting = False
        batches = ((self._step, self._step + 1),)
        return self._sent(self._client.finished({**self._gradients}, batches))


def _ones(routes: Routes) -> Leaves:
    found: Leaves = {}
    for leaf in routes.leaves.values():
        dtype = DTYPES[routes.types[leaf.of].dtype]
        found[leaf.node] = empty_aligned(leaf.region.shape, dtype)
        found[leaf.node].fill(1e-3)
    return found


class Timekeeper(Still):
    """The coordinator: has all replicas make some steps, again and again, and takes the time.

    Args:
        warm_s: steps in the first so many seconds are not counted either.

    Attributes:
        seconds: of each step that all replicas have made.
    """

    def __init__(self, shards: int, replicas: int, warm_s: float, budget_s: float) -> None:
        self._shards = [Address("shard", n) for n in range(shards)]
        self._replicas = [Address("replica", n, 0) for n in range(replicas)]
        self._warm_s, self._budget_s = warm_s, budget_s
        self._awaited = self._steps = 0
        self._first_s = self._began_s = 0.0
        self.seconds: list[float] = []

    def start(self, now: float) -> Iterable[Envelope]:
        self._awaited = len(self._shards)
        return [Envelope(shard, Restore(False)) for shard in self._shards]

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        if isinstance(message, ShardStatus):
            return []
        self._awaited -= 1
        if self._awaited:
            return []
        match message:
            case Restored():
                return self._admit()
            case Admitted():
                self._first_s = time.perf_counter()
                return self._go()
            case Rests():
                return self._rested(time.perf_counter())
        raise RuntimeError(f"{sender}: {message}")

    def _admit(self) -> list[Envelope]:
        admits = [Admit(replica.number, EPOCH, (0,)) for replica in self._replicas]
        self._awaited = len(admits) * len(self._shards)
        return [Envelope(shard, admit) for shard in self._shards for admit in admits]

    def _go(self) -> list[Envelope]:
        self._awaited = len(self._replicas)
        self._began_s = time.perf_counter()
        return [Envelope(replica, Go(1)) for replica in self._replicas]

    def _rested(self, now_s: float) -> list[Envelope]:
        self._steps += 1
        if self._steps > WARM_STEPS and self._began_s >= self._first_s + self._warm_s:
            self.seconds.append(now_s - self._began_s)
        enough = now_s >= self._first_s + self._warm_s + self._budget_s
        if not enough or len(self.seconds) < FEWEST_STEPS:
            return self._go()
        self.is_over = True
        return [Envelope(replica, Exit()) for replica in self._replicas]
