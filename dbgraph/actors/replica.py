"""One partition of a replica under Downpour SGD; that of number 0 leads.

A `ps.client.Client` talks to the shards; the leader's `ps.replica.ReplicaDriver` to the
coordinator, and to the clients of all partitions.

| from        | message                              | goes to            |
|-------------|--------------------------------------|--------------------|
| coordinator | Train, Work, Rest, End               | the leader's driver|
| leader      | Launch, Proceed, Halt                | the partition      |
| partition   | Waits, Did, Acknowledged, Quits, Sacked | the leader's driver|
| shard       | Fetched, Pushed, Refused             | the client         |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any

import msgspec

from dbgraph.actor import COORDINATOR, Address, Arrays, Envelope
from dbgraph.actors.inquiry import Blame
from dbgraph.actors.member import Member
from dbgraph.actors.messages import (
    Acknowledged,
    Did,
    Exit,
    Halt,
    Launch,
    Proceed,
    Quits,
    Sacked,
    Waits,
)
from dbgraph.actors.partition import Partition
from dbgraph.ps import client as clients
from dbgraph.ps import replica as drivers
from dbgraph.ps.client import Client
from dbgraph.ps.messages import (
    End,
    Fetched,
    Progress,
    Pushed,
    Refused,
    Rest,
    Train,
    Work,
)
from dbgraph.ps.ranges import Ranges
from dbgraph.ps.replica import ReplicaDriver
from dbgraph.ps.underway import Send
from dbgraph.sampler import Batches

MakeClient = Callable[[int, int, int], Client]
"""(replica, partition, epoch) → the client of that partition."""


class DownpourReplica(Member):
    """See above."""

    def __init__(
        self,
        address: Address,
        partitions: int,
        fingerprint: str,
        partition: Partition,
        batches: Batches,
        blame: Blame,
        make_client: MakeClient,
    ) -> None:
        super().__init__(address, partitions, fingerprint, partition, batches, blame)
        self._make_client = make_client
        self._driver = ReplicaDriver(partitions)
        self._staleness = [0] * partitions
        self._client: Client | None = None
        self._epoch = 0
        self._begin: clients.Begin | None = None
        self._batch = 0
        self._acknowledged = 0
        self._applied = Ranges()
        self._stale: dict[int, int] = {}

    def missing(self) -> Iterable[int]:
        return self._client.awaits if self._client is not None else ()

    # Messages

    def take(self, sender: Address, message: Any, arrays: Arrays) -> Iterable[Envelope]:
        if sender.kind == "shard":
            return self._from_shard(sender.number, message, arrays)
        if sender == COORDINATOR:
            return self._drive(self._from_coordinator(message))
        match message:
            case Launch() | Proceed() | Halt():
                return self._from_leader(message)
        return self._drive(self._from_partition(sender.partition, message))

    def _from_coordinator(self, message: Train | Work | Rest | End) -> list[drivers.Instruction]:
        match message:
            case Train():
                return self._driver.train(message)
            case Work():
                return self._driver.work(message)
            case Rest():
                return self._driver.rest(message)
            case End():
                return self._driver.end(message)

    def _from_leader(self, message: Launch | Proceed | Halt) -> Iterable[Envelope]:
        match message:
            case Launch(replica, epoch):
                return self._launch(replica, epoch)
            case Proceed() if message.epoch == self._epoch:
                self._proceed(message)
            case Halt() if message.epoch == self._epoch and self._client is not None:
                return self._passed_on(self._client.stop())
        return []

    def _from_partition(
        self, partition: int, message: Waits | Did | Acknowledged | Quits | Sacked
    ) -> list[drivers.Instruction]:
        driver = self._driver
        if message.epoch != self._epoch:
            return []
        match message:
            case Waits():
                return driver.ready(partition, message.step)
            case Did():
                return driver.computed(partition, {"loss": message.loss})
            case Acknowledged():
                self._staleness[partition] = message.staleness
                driver.acknowledged(partition, message.sequence, message.applied)
                return []
            case Quits():
                return driver.ended(partition)
            case Sacked():
                return driver.dismissed(message.why)

    def _drive(self, instructions: Iterable[drivers.Instruction]) -> Iterable[Envelope]:
        """What the driver asks for."""
        for instruction in instructions:
            match instruction:
                case drivers.Start(replica, epoch):
                    self._epoch = epoch
                    yield from (Envelope(one, Launch(replica, epoch)) for one in self._all)
                case drivers.Compute(partition, step, batch):
                    yield Envelope(self._all[partition], Proceed(self._epoch, step, batch))
                case drivers.Stop(partition):
                    yield Envelope(self._all[partition], Halt(self._epoch))
                case drivers.Tell(message):
                    if isinstance(message, Progress):
                        stale = max(self._staleness)
                        message = msgspec.structs.replace(message, staleness=stale)
                    yield Envelope(COORDINATOR, message)
                case drivers.Over():
                    yield from (Envelope(one, Exit()) for one in self._all)

    # The partition

    def _launch(self, replica: int, epoch: int) -> Iterable[Envelope]:
        self._epoch, self._begin = epoch, None
        self._acknowledged, self._applied, self._stale = 0, Ranges(), {}
        self._client = self._make_client(replica, self._address.partition, epoch)
        return self._passed_on(self._client.start())

    def _proceed(self, message: Proceed) -> None:
        begin = self._begin
        assert begin is not None
        assert begin.step == message.step, "the leader proceeds with the step that is waited for"
        self._batch = message.batch
        self._partition.set(begin.parameters)
        examples = self._batches.examples(message.batch)
        self._partition.begin((self._epoch, message.step), message.batch, examples)

    def finished(self) -> Iterable[Envelope]:
        assert self._client is not None
        assert self._begin is not None
        loss = self._partition.loss()
        if not isfinite(loss):
            return self.inquire(f"the loss is {loss} at its step {self._begin.step + 1}")
        did = Envelope(self.leader, Did(self._epoch, loss))
        one = ((self._batch, self._batch + 1),)
        done = self._client.finished(self._partition.gradients(), one)
        return [did, *self._passed_on(done)]

    def _from_shard(
        self, shard: int, message: Fetched | Pushed | Refused, arrays: Arrays
    ) -> Iterable[Envelope]:
        client = self._client
        if client is None:
            return []
        match message:
            case Fetched():
                return self._passed_on(client.fetched(shard, message, arrays))
            case Pushed():
                self._stale[shard] = message.staleness
                done = client.pushed(shard, message)
                return [*self._news(client), *self._passed_on(done)]
            case Refused():
                return self._passed_on(client.refused(shard, message))

    def _news(self, client: Client) -> Iterable[Envelope]:
        """What is applied everywhere since it was told last."""
        if client.acknowledged == self._acknowledged:
            return
        self._acknowledged = client.acknowledged
        news = client.applied.subtract(self._applied.pairs).pairs
        self._applied.update(news)
        stale = max(self._stale.values())
        yield Envelope(self.leader, Acknowledged(self._epoch, client.acknowledged, news, stale))

    def _passed_on(self, instructions: Iterable[clients.Instruction]) -> Iterable[Envelope]:
        """What the client asks for."""
        for instruction in instructions:
            match instruction:
                case Send(shard, message, arrays):
                    yield Envelope(Address("shard", shard), message, arrays)
                case clients.Begin(step):
                    self._begin = instruction
                    yield Envelope(self.leader, Waits(self._epoch, step))
                case clients.Ended():
                    yield Envelope(self.leader, Quits(self._epoch))
                case clients.Dismissed(why):
                    yield Envelope(self.leader, Sacked(self._epoch, why))
