"""The coordinator's actor under synchronous SGD: around `coordinate.sync.SyncSgd`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dbgraph.actor import Address, Envelope
from dbgraph.actors.audience import Audience, Company
from dbgraph.actors.director import Phase
from dbgraph.actors.gradients import EPOCH
from dbgraph.actors.membership import BatchDirector
from dbgraph.actors.messages import Lesson
from dbgraph.coordinate.messages import Contribute, Contributed
from dbgraph.coordinate.sync import Instruction, Stepped, SyncSgd
from dbgraph.ps.ledger import Ledger
from dbgraph.ps.messages import Execute, Executed, Pairs
from dbgraph.ps.snapshot import Snapshot
from dbgraph.state import State


class SyncDirector(BatchDirector):
    """See above.

    Args:
        counted: gradients that a step waits for.
        steps: the number of the step at which it ends.
        ledger: of as many batches as may be asked for.
    """

    def __init__(
        self, company: Company, audience: Audience, counted: int, steps: int, ledger: Ledger
    ) -> None:
        super().__init__(company, audience)
        self._core = SyncSgd(counted, len(company.layout.shards), step=company.begun)
        self._steps, self._ledger = steps, ledger
        self._taken: dict[tuple[int, int], Pairs] = {}
        self._held: list[Instruction] = []
        self._used: Pairs = ()

    def opened(self, now: float) -> Iterable[Envelope]:
        return [] if self.step < self._steps else self.ended()

    def joined(self, replica: int, now: float) -> Iterable[Envelope]:
        return self._carried_out(self._core.joined(replica, EPOCH), now)

    def left(self, replica: int, now: float) -> Iterable[Envelope]:
        return self._carried_out(self._core.lost(replica, EPOCH), now)

    def answered(self, sender: Address, message: Any, now: float) -> Iterable[Envelope]:
        match message:
            case Contributed():
                batch = self._ledger.batches.batch
                self.audience.computed(message.replica, batch, now)
                return self._carried_out(self._core.contributed(message), now)
            case Executed(number):
                return self._carried_out(self._core.executed(sender.number, number), now)
        raise AssertionError(f"{sender} says {message}")

    def held(self, now: float) -> Iterable[Envelope]:
        held, self._held = self._held, []
        return self._carried_out(held, now)

    def snapshot_begins(self) -> None:
        self._used = self._ledger.used

    def recorded(self, snapshot: Snapshot) -> State:
        state = replace(snapshot, used=self._used).recorded(self._ledger)
        return replace(state, step=self.snapshot_step)

    # Inside

    def _carried_out(self, instructions: Iterable[Instruction], now: float) -> list[Envelope]:
        """A step's end stands before what the next one asks for; that waits while the evaluator
        fetches."""
        found: list[Envelope] = []
        for instruction in instructions:
            match instruction:
                case Stepped():
                    found += self._stepped(instruction, now)
                case Execute():
                    found += self.to_all_shards(instruction)
                case Contribute():
                    if self.is_fetching:
                        self._held.append(instruction)
                    elif self.phase is Phase.TRAINING:
                        found.append(self._lesson(instruction))
        return found

    def _stepped(self, done: Stepped, now: float) -> list[Envelope]:
        for member, batches in self._taken.items():
            if member in done.counted:
                self._ledger.applied(member, batches)
            self._ledger.close(member, ())  # what did not count is free again
        self._taken = {}
        self.stepped(1, done.loss, done.examples)
        found = self.after_steps(now)
        if self.step >= self._steps or self.is_stopping:
            found += self.ended()
        return found

    def _lesson(self, asked: Contribute) -> Envelope:
        member = asked.replica, asked.epoch
        self._taken[member] = batches = self._ledger.take(member, 1)
        ((batch, _),) = batches
        size = self._ledger.batches.batch
        lesson = Lesson(*member, asked.step, asked.sequence, batch, size)
        return Envelope(Address("replica", asked.replica), lesson)
