"""The coordinator's actor under Downpour SGD: around `ps.downpour.Coordinator`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dbgraph.actor import Address, Arrays, Envelope
from dbgraph.actors.audience import Audience, Company
from dbgraph.actors.director import Director
from dbgraph.ps.alarm import Alarm
from dbgraph.ps.downpour import Coordinator, Finished, Gone, Instruction, ToReplica
from dbgraph.ps.ledger import Ledger
from dbgraph.ps.messages import Admitted, Closed, End, Join, Leave, Progress, Refused
from dbgraph.ps.options import Downpour
from dbgraph.ps.snapshot import Snapshot, ToShard
from dbgraph.state import State


class DownpourDirector(Director):
    """See above.

    Args:
        share: batches to hand out at a time, at most (`ledger.share`).
    """

    def __init__(
        self, company: Company, audience: Audience, options: Downpour, ledger: Ledger, share: int
    ) -> None:
        super().__init__(company, audience)
        self._core = Coordinator(company.fingerprint, company.pushing, options, ledger, share)
        self._batch = ledger.batches.batch
        self._steps: dict[tuple[int, int], int] = {}

    def join(self, replica: int, message: Join, now: float) -> Iterable[Envelope]:
        if self.is_stopping or replica not in self.present:
            return []
        _, instructions = self._core.join(message, replica)
        if replica not in self._core.replicas:
            self.audience.note(f"replica {replica} was sent away: {message.fingerprint}")
            self.leave(replica, "sent away", now)
        else:
            self.audience.replica(replica, "waiting", None, now)
        return self._carried_out(instructions, now)

    def gone(self, replica: int, now: float) -> Iterable[Envelope]:
        return [*self._carried_out(self._core.lost(replica), now), *self._rested()]

    def dismiss(self, replica: int, now: float) -> Iterable[Envelope]:
        if replica in self._core.replicas:
            return self._carried_out(self._core.remove(replica), now)
        self.leave(replica, "gone", now)
        return [Envelope(Address("replica", replica), End("it was removed"))]

    def take(self, sender: Address, message: Any, arrays: Arrays, now: float) -> Iterable[Envelope]:
        match message:
            case Admitted():
                return self._carried_out(self._core.admitted(sender.number, message), now)
            case Closed():
                found = self._carried_out(self._core.closed(sender.number, message), now)
                return [*found, *self._rested()]
            case Progress():
                return self._progress(message, now)
            case Leave():
                return self._carried_out(self._core.leave(message), now)
            case Refused():
                return []  # of a replica's epoch that was closed meanwhile
        raise AssertionError(f"{sender} says {message}")

    def rest(self, now: float) -> Iterable[Envelope]:
        found = [one for n in list(self._core.replicas) for one in self.dismiss(n, now)]
        return [*found, *self._rested()]

    def recorded(self, snapshot: Snapshot) -> State:
        ledger = self._core.ledger
        used = ledger.state(snapshot.used).used
        return replace(snapshot.recorded(ledger), step=sum(b - a for a, b in used))

    # Inside

    def _progress(self, message: Progress, now: float) -> list[Envelope]:
        who = message.replica, message.epoch
        steps = message.step - self._steps.get(who, 0)
        found = self._carried_out(self._core.progress(message), now)
        if who[0] in self.present:
            self.audience.replica(who[0], "training", message.staleness, now)
        if steps > 0:
            self._steps[who] = message.step
            self.audience.computed(who[0], steps * self._batch, now)
            self.stepped(steps, message.loss, steps * self._batch)
            found += self.after_steps(now)
        return found

    def _rested(self) -> list[Envelope]:
        """The end, once nobody is at work after `rest`."""
        return self.ended() if self.is_stopping and not self._core.replicas else []

    def _carried_out(self, instructions: Iterable[Instruction], now: float) -> list[Envelope]:
        found: list[Envelope] = []
        for instruction in instructions:
            match instruction:
                case ToShard(shard, message):
                    found.append(Envelope(Address("shard", shard), message))
                case ToReplica(number, message):
                    found.append(Envelope(Address("replica", number), message))
                case Alarm(rule, replica, step, loss):
                    self.audience.alarm(rule, replica, step, loss)
                case Gone(number, _, halved):
                    self.leave(number, "gone", now)
                    if halved:
                        self.audience.note(
                            f"replica {number} died while it pushed: {halved} of its batches count "
                            "on some shards only"
                        )
                case Finished():
                    found += self.ended()
        return found
