"""What one partition of a replica does under every algorithm: it computes, passes values on to its
siblings, and ends. Partition 0 leads: it alone talks to the coordinator.

| from        | message  | then                                                               |
|-------------|----------|--------------------------------------------------------------------|
| sibling     | Cargo    | the machine takes the value                                        |
| sibling     | Reveal   | Revealed: the parameters of that run                               |
| sibling     | Revealed | the run ends with what is to blame, when all have answered         |
| leader      | Exit     | it is over                                                         |
| anybody     | others   | are the algorithm's                                                |
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dbgraph.actor import COORDINATOR, MESSAGES, Address, Arrays, Awaited, Envelope
from dbgraph.actors.inquiry import Blame, Inquiry
from dbgraph.actors.messages import Cargo, Exit, Ordinal, Reveal, Revealed
from dbgraph.actors.partition import Partition, parameters_of
from dbgraph.actors.posting import delivered
from dbgraph.ps.messages import Join
from dbgraph.sampler import Batches
from dbgraph.trace.events import Recorder


class Member:
    """The base of both kinds of replicas; see `actor.Actor` for its calls.

    Args:
        partitions: of the replica.
        fingerprint: of the network.
        batches: which examples each number stands for.
        blame: for a loss that is not finite.
    """

    deadline: float | None = None

    def __init__(
        self,
        address: Address,
        partitions: int,
        fingerprint: str,
        partition: Partition,
        batches: Batches,
        blame: Blame,
    ) -> None:
        self.is_over = False
        self._address = address
        self._all = [address._replace(partition=p) for p in range(partitions)]
        self._fingerprint = fingerprint
        self._partition, self._batches, self._blame = partition, batches, blame
        self._inquiry: Inquiry | None = None

    # What an algorithm says

    def take(self, sender: Address, message: Any, arrays: Arrays) -> Iterable[Envelope]:
        """Any other message."""
        raise NotImplementedError

    def finished(self) -> Iterable[Envelope]:
        """A run has ended."""
        raise NotImplementedError

    def missing(self) -> Iterable[int]:
        """The shards whose parameters it waits for."""
        raise NotImplementedError

    # For the algorithms

    @property
    def leader(self) -> Address:
        return self._all[0]

    def inquire(self, rule: str) -> Iterable[Envelope]:
        """The loss of the run that has ended is not finite: nothing else comes of it.

        Args:
            rule: "the loss is nan at its step 3".
        """
        partition = self._partition
        run = partition.ordinal, partition.step
        self._inquiry = Inquiry(*run, rule, len(self._all), self._blame)
        return [Envelope(one, Reveal(partition.ordinal)) for one in self._all]

    # The backend's calls

    def record(self, recorder: Recorder) -> None:
        """See `actor.Recordable`."""
        self._partition.record(recorder)

    def start(self, now: float) -> Iterable[Envelope]:
        leads = self._address == self.leader
        return [Envelope(COORDINATOR, Join(self._fingerprint))] if leads else []

    def receive(
        self, sender: Address, message: Any, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        return self._delivered(self._take(sender, message, arrays))

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        """Without a sibling, or the coordinator, there is nothing to go on for."""
        self.is_over |= peer in self._all or peer == COORDINATOR
        return []

    def work(self) -> Iterable[Envelope] | None:
        sent = self._partition.advance()
        if sent is None or self._partition.is_running:
            return sent
        return self._delivered(self.finished())

    def tick(self, now: float) -> Iterable[Envelope]:
        return []

    @property
    def awaits(self) -> Awaited:
        """A sibling's value, shards' parameters, or what anybody says next."""
        if (value := self._partition.awaits) is not None:
            return value
        shards = tuple(self.missing())
        return parameters_of(shards) if shards else MESSAGES

    # Inside

    def _delivered(self, envelopes: Iterable[Envelope]) -> list[Envelope]:
        return delivered(self._address, envelopes, self._take)

    def _take(self, sender: Address, message: Any, arrays: Arrays) -> Iterable[Envelope]:
        match message:
            case Cargo():
                self._partition.deliver(message, arrays)
            case Exit():
                self.is_over = True
            case Reveal(ordinal):
                return [self._revealed(sender, ordinal)]
            case Revealed() if self._inquiry is not None:
                self._inquiry.told(message, arrays)
            case _:
                return self.take(sender, message, arrays)
        return []

    def _revealed(self, to: Address, ordinal: Ordinal) -> Envelope:
        held = self._partition.parameters(ordinal)
        return Envelope(to, Revealed(ordinal, tuple(held)), tuple(held.values()))
