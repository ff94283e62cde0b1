"""The actor around one shard of the parameter server."""

from __future__ import annotations

from collections.abc import Iterable

from dbgraph.actor import COORDINATOR, MESSAGES, Address, Arrays, Awaited, Envelope
from dbgraph.actors.messages import Restore, Restored, ShardStatus
from dbgraph.actors.states import state_of
from dbgraph.ps.fetches import Pusher
from dbgraph.ps.messages import Cut, Executed
from dbgraph.ps.shard import Shard
from dbgraph.state import State

STATUS_S = 0.5
"""How often it says what it has done; and with its part of a snapshot."""


class ShardActor:
    """Passes messages on to the state machine.

    Args:
        initial: the state before any training, of what the shard owns.
    """

    is_over = False

    def __init__(self, shard: Shard, initial: State) -> None:
        self._shard, self._initial = shard, initial
        self._orders = 0
        self._told: ShardStatus | None = None
        self._held: dict[Pusher, float] = {}  # fetches that wait, since when
        self.deadline: float | None = None

    def start(self, now: float) -> Iterable[Envelope]:
        self.deadline = now + STATUS_S
        return []

    def receive(
        self, sender: Address, message: object, arrays: Arrays, now: float
    ) -> Iterable[Envelope]:
        if isinstance(message, Restore):
            self._shard.load(state_of(message, arrays) if message.given else self._initial)
            return [Envelope(sender, Restored())]
        told = self.tick(now) if isinstance(message, Cut) else []  # a run ends with one
        replies = self._shard.receive(sender, message, arrays)
        self._held = {one: self._held.get(one, now) for one in self._shard.held}
        self._orders += sum(isinstance(reply.message, Executed) for reply in replies)
        sent = (Envelope(_address(r.to), r.message, r.arrays) for r in replies)
        return [*told, *sent]

    def lost(self, peer: Address, now: float) -> Iterable[Envelope]:
        return []  # the coordinator will say who is to be closed

    def work(self) -> Iterable[Envelope] | None:
        return None

    @property
    def awaits(self) -> Awaited:
        """What the fetch that has waited longest waits for; else what anybody says next."""
        if not self._held:
            return MESSAGES
        one, since = min(self._held.items(), key=lambda held: held[1])
        late = tuple(Address("replica", *pusher) for pusher in self._shard.held[one])
        names = " and ".join(map(str, late))
        what = f"a push of {names}, to answer the fetch of {Address('replica', *one)}"
        return Awaited(what, late, since=since)

    def tick(self, now: float) -> Iterable[Envelope]:
        self.deadline = now + STATUS_S
        counted = self._shard.counters
        status = ShardStatus(
            updates=counted.pushes + self._orders,
            fetches=counted.fetches,
            pushed_bytes=counted.pushed_bytes,
            fetched_bytes=counted.fetched_bytes,
            saved_bytes=counted.saved_bytes,
            duplicates=counted.duplicates,
            staleness=tuple(sorted(counted.staleness.items())),
        )
        if status == self._told:
            return []
        self._told = status
        return [Envelope(COORDINATOR, status)]


def _address(source: object) -> Address:
    assert isinstance(source, Address), "the shard's sources are those that it was given"
    return source
