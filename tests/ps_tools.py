"""Shards, clients and replicas of the parameter server in one process, without a clock: what
arrives next is chosen by the test."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dbgraph.ir.region import Region, even_splits
from dbgraph.ir.types import TensorType
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Leaf
from dbgraph.ps import client as clients
from dbgraph.ps import downpour, replica
from dbgraph.ps.alarm import Alarm
from dbgraph.ps.blocks import Blocks
from dbgraph.ps.client import Client
from dbgraph.ps.downpour import Coordinator, Finished, Gone, ToReplica
from dbgraph.ps.layout import Layout, lay_out
from dbgraph.ps.ledger import Ledger
from dbgraph.ps.messages import (
    Admitted,
    Closed,
    End,
    Fetched,
    Join,
    Leave,
    Marked,
    Progress,
    Pushed,
    Refused,
    Rest,
    Snapped,
    Train,
    Work,
)
from dbgraph.ps.options import Downpour
from dbgraph.ps.replica import ReplicaDriver
from dbgraph.ps.routes import Routes
from dbgraph.ps.shard import Shard
from dbgraph.ps.snapshot import Snapshot, Snapshotting, ToShard
from dbgraph.state import State

Arrays = tuple[np.ndarray, ...]
Choose = Callable[[int], int]
"""A number below the given one."""


def leaves(types: Mapping[str, TensorType], partitions: int) -> list[list[Leaf]]:
    """Each parameter cut along its first axis, as evenly as its rows allow."""
    found: list[list[Leaf]] = [[] for _ in range(partitions)]
    for name, kind in types.items():
        splits = even_splits(kind.shape[0], partitions)
        for p in range(partitions):
            region = Region.whole(kind.shape).replace(0, (splits[p], splits[p + 1]))
            if not region.empty:
                found[p].append(Leaf(f"{name}@{p}", name, region, p))
    return found


def whole_state(values: Mapping[str, np.ndarray], step: int = 0) -> State:
    pieces = {("", n): ((Region.whole(v.shape), v),) for n, v in values.items()}
    return State(step, pieces)


def zeros(types: Mapping[str, TensorType]) -> State:
    return whole_state({n: np.zeros(t.shape, t.dtype) for n, t in types.items()})


def make_shards(
    layout: Layout, rule: Rule | None, state: State, options: Downpour | None = None
) -> list[Shard]:
    options = options or Downpour()
    made = []
    for owned in layout.shards:
        blocks = Blocks(layout.types, owned, list(layout.types), rule)
        bound, scale = options.max_staleness, options.scale_by_staleness
        made.append(Shard(blocks, bound, scale))
        made[-1].load(state)
    return made


def routes_of(layout: Layout, held: Sequence[Sequence[Leaf]]) -> list[Routes]:
    return [Routes(layout, of_one, {leaf.node for leaf in of_one}) for of_one in held]


def pushing(layout: Layout, held: Sequence[Sequence[Leaf]]) -> dict[int, tuple[int, ...]]:
    routes = routes_of(layout, held)
    return {
        s: tuple(p for p, route in enumerate(routes) if s in route.pushed)
        for s in range(len(layout.shards))
    }


def server_values(layout: Layout, shards: Sequence[Shard]) -> dict[str, np.ndarray]:
    """The parameters on the shards, whole."""
    state = State.merge(shard._blocks.copy(()).collect() for shard in shards)
    return {name: state.whole(name) for name in layout.types}


Compute = Callable[[int, dict[str, np.ndarray]], dict[str, Any]]
"""(batch, parameters of a partition) → its gradients."""


@dataclass
class Process:
    """A replica's process: its driver, and a client per partition."""

    driver: ReplicaDriver
    replica: int = -1
    clients: dict[int, Client] = field(default_factory=dict)
    begun: dict[int, clients.Begin] = field(default_factory=dict)
    computing: dict[int, int] = field(default_factory=dict)
    is_over: bool = False


class World:
    """A job: a coordinator, shards and replica processes, joined by lines that keep their order.

    `turn` lets one thing happen: a message arrives, or a replica has computed a step.
    """

    def __init__(
        self,
        types: Mapping[str, TensorType],
        shards: int,
        partitions: int,
        rule: Rule,
        options: Downpour,
        ledger: Ledger,
        compute: Compute,
        choose: Choose,
        state: State | None = None,
    ) -> None:
        self.types = types
        self.held = leaves(types, partitions)
        self.layout = lay_out(types, self.held, shards)
        self.shards = make_shards(self.layout, rule, state or zeros(types), options)
        self.options, self.rate = options, options.rate(rule)
        where = pushing(self.layout, self.held)
        self.coordinator = Coordinator("net", where, options, ledger, options.share)
        self.processes: dict[int, Process] = {}
        self.lines: dict[tuple[Any, Any], deque[tuple[Any, Arrays]]] = {}
        self.alarms: list[Alarm] = []
        self.snapshots: list[Snapshot] = []
        self.snapshotting: Snapshotting | None = None
        self.gone: list[Gone] = []
        self.is_finished = False
        self._compute, self._choose = compute, choose
        self._partitions = partitions

    # What the test does

    def join(self) -> int:
        pid = len(self.processes)
        self.processes[pid] = Process(ReplicaDriver(self._partitions))
        number, instructions = self.coordinator.join(Join("net"))
        self.processes[pid].replica = number
        self._coordinate(instructions)
        return pid

    def kill(self, pid: int, choose: Choose) -> None:
        """At any moment: of what it had sent last, some lines lose some."""
        process = self.processes[pid]
        process.is_over = True
        for (source, to), line in self.lines.items():
            if isinstance(source, tuple) and source[0] == pid:
                for _ in range(choose(len(line) + 1)):
                    line.pop()
            if isinstance(to, tuple) and to[0] == pid:
                line.clear()
        self._coordinate(self.coordinator.lost(process.replica))

    def snapshot(self) -> None:
        """Begins one, as `actors.director` does; nothing where one is under way."""
        if self.snapshotting is None:
            self.snapshotting = Snapshotting(len(self.snapshots), len(self.shards))
            self._coordinate(self.snapshotting.begin())

    def turn(self) -> bool:
        """One thing happens; False: nothing can."""
        moves = [line for line, queue in self.lines.items() if queue]
        steps = [
            (pid, partition)
            for pid, process in self.processes.items()
            for partition in process.computing
            if not process.is_over
        ]
        if not moves and not steps:
            return False
        place = self._choose(len(moves) + len(steps))
        if place < len(moves):
            self._arrive(*moves[place])
        else:
            self._computed(*steps[place - len(moves)])
        return True

    def run(self, limit: int = 100_000) -> None:
        for _ in range(limit):
            if not self.turn():
                return
        raise AssertionError("it does not come to an end")

    def values(self) -> dict[str, np.ndarray]:
        return server_values(self.layout, self.shards)

    # What happens

    def _send(self, source: Any, to: Any, message: Any, arrays: Arrays = ()) -> None:
        self.lines.setdefault((source, to), deque()).append((message, arrays))

    def _arrive(self, source: Any, to: Any) -> None:
        message, arrays = self.lines[source, to].popleft()
        if to == "coordinator":
            self._to_coordinator(source, message, arrays)
        elif isinstance(to, int):
            for reply in self.shards[to].receive(source, message, arrays):
                self._send(to, reply.to, reply.message, reply.arrays)
        elif to[1] is None:
            self._to_driver(to[0], message)
        else:
            self._to_client(*to, source, message, arrays)

    def _to_coordinator(self, source: Any, message: Any, arrays: Arrays) -> None:
        handlers: dict[type, Callable[[], list[downpour.Instruction]]] = {
            Admitted: lambda: self.coordinator.admitted(source, message),
            Closed: lambda: self.coordinator.closed(source, message),
            Marked: lambda: [*self.snapshotting.marked(source, message)],  # type: ignore[union-attr]
            Snapped: lambda: self._snapped(source, message, arrays),
            Progress: lambda: self.coordinator.progress(message),
            Leave: lambda: self.coordinator.leave(message),
        }
        self._coordinate(handlers[type(message)]())

    def _snapped(self, shard: int, message: Snapped, arrays: Arrays) -> list[downpour.Instruction]:
        assert self.snapshotting is not None
        snapshot = self.snapshotting.snapped(shard, message, arrays)
        if snapshot is not None:
            self.snapshots.append(snapshot)
            self.snapshotting = None
        return []

    def _coordinate(self, instructions: Sequence[downpour.Instruction]) -> None:
        for one in instructions:
            match one:
                case ToShard(shard, message):
                    self._send("coordinator", shard, message)
                case ToReplica(number, message):
                    for pid, process in self.processes.items():
                        if process.replica == number and not process.is_over:
                            self._send("coordinator", (pid, None), message)
                case Alarm():
                    self.alarms.append(one)
                case Gone():
                    self.gone.append(one)
                case Finished():
                    self.is_finished = True

    def _to_driver(self, pid: int, message: Any) -> None:
        process = self.processes[pid]
        if process.is_over:
            return
        driver = process.driver
        handlers: dict[type, Callable[[Any], list[replica.Instruction]]] = {
            Train: driver.train, Work: driver.work, Rest: driver.rest, End: driver.end,
        }  # fmt: skip
        self._drive(pid, handlers[type(message)](message))

    def _drive(self, pid: int, instructions: Sequence[replica.Instruction]) -> None:
        process = self.processes[pid]
        for one in instructions:
            match one:
                case replica.Start(number, epoch):
                    process.begun, process.computing = {}, {}
                    process.clients = {
                        p: Client(number, p, epoch, route, self.options, self.rate)
                        for p, route in enumerate(routes_of(self.layout, self.held))
                    }
                    for p, made in process.clients.items():
                        self._serve(pid, p, made.start())
                case replica.Compute(partition, step, batch):
                    assert process.begun[partition].step == step
                    process.computing[partition] = batch
                case replica.Stop(partition):
                    self._serve(pid, partition, process.clients[partition].stop())
                case replica.Tell(message):
                    self._send((pid, None), "coordinator", message)
                case replica.Over():
                    process.is_over = True

    def _to_client(
        self, pid: int, partition: int, shard: int, message: Any, arrays: Arrays
    ) -> None:
        process = self.processes[pid]
        if process.is_over:
            return
        client = process.clients[partition]
        match message:
            case Fetched():
                self._serve(pid, partition, client.fetched(shard, message, arrays))
            case Pushed():
                found = client.pushed(shard, message)
                applied = client.applied.pairs
                process.driver.acknowledged(partition, client.acknowledged, applied)
                self._serve(pid, partition, found)
            case Refused():
                self._serve(pid, partition, client.refused(shard, message))

    def _serve(self, pid: int, partition: int, instructions: Sequence[Any]) -> None:
        process = self.processes[pid]
        for one in instructions:
            match one:
                case clients.Send(shard, message, arrays):
                    self._send((pid, partition), shard, message, arrays)
                case clients.Begin(step):
                    process.begun[partition] = one
                    self._drive(pid, process.driver.ready(partition, step))
                case clients.Ended():
                    self._drive(pid, process.driver.ended(partition))
                case clients.Dismissed(why):
                    self._drive(pid, process.driver.dismissed(why))

    def _computed(self, pid: int, partition: int) -> None:
        process = self.processes[pid]
        batch = process.computing.pop(partition)
        gradients = self._compute(batch, process.begun[partition].parameters)
        found = process.clients[partition].finished(gradients, ((batch, batch + 1),))
        self._drive(pid, process.driver.computed(partition, {"loss": 1.0 / (1 + batch)}))
        self._serve(pid, partition, found)


def chooser(seed: int) -> Choose:
    random = np.random.default_rng(seed)
    return lambda n: int(random.integers(n))


def scripted(numbers: Iterator[int]) -> Choose:
    """Chooses by a list; the first thing once that is used up."""
    return lambda n: next(numbers, 0) % n
