"""A machine that computes nothing: it starts in no time, and does on demand what a real one does
only when something is wrong. The step's number says what (`MOODS`)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping

import numpy as np

from dbgraph.errors import DataError
from dbgraph.ir.region import Region
from dbgraph.job import Job, Step
from dbgraph.plan.program import Recv, Run, Send
from dbgraph.results import PartitionResult
from dbgraph.source import Source
from dbgraph.state import State
from dbgraph.worker import Finished, Outgoing, Waiting

RAISE, RAISE_OURS, RAISE_LATER, EXIT, HANG, PRINT = range(1000, 1006)
"""What partition 1 does instead in a step of that number."""


class Machine:
    """Sends for each transfer an array filled with (partition + 1) * (step + 1)."""

    def __init__(self, job: Job, partition: int) -> None:
        self.job, self.partition = job, partition
        self.plan = next(iter(job.plans.values()))
        self.program = self.plan.programs[partition]
        self.position = len(self.program.instructions)
        self.got: dict[tuple[int, int], np.ndarray] = {}
        self.step = Step("")
        self.state = State()

    def load(self, state: State | None) -> None:
        self.state = state if state is not None else self._initial()

    def _initial(self) -> State:
        leaves = self.plan.leaves("parameter", self.partition)
        return State(
            0,
            {
                ("", f"{leaf.of}"): ((leaf.region, np.full(leaf.region.shape, 1.0, np.float32)),)
                for leaf in leaves
            },
        )

    def begin(self, step: Step, feeds: Mapping[str, np.ndarray] | None = None) -> None:
        self.step, self.feeds, self.got, self.position = step, feeds, {}, 0
        if self.partition == 1:
            self._misbehave(step.number)

    def _misbehave(self, mood: int) -> None:
        if mood == RAISE:
            raise ZeroDivisionError("one by nought")
        if mood == RAISE_OURS:
            raise DataError("bad data", at=Source("net.py", 12), hint="look")
        if mood == EXIT:
            os._exit(7)
        if mood == PRINT:
            print("printed by a user's function")
        while mood == HANG:
            time.sleep(0.05)

    def advance(self) -> Outgoing | Waiting | Finished:
        while self.position < len(self.program.instructions):
            match self.program.instructions[self.position]:
                case Send(transfer, microbatch):
                    self.position += 1
                    kind = self.plan.transfers[transfer].type
                    value = (self.partition + 1) * (self.step.number + 1)
                    return Outgoing(
                        transfer, microbatch, np.full(kind.shape, value).astype(kind.dtype)
                    )
                case Recv(transfer, microbatch) if (transfer, microbatch) not in self.got:
                    return Waiting(transfer, microbatch)
                case Run() if self.step.number == RAISE_LATER and self.partition == 1:
                    raise ValueError("shapes")
                case _:
                    self.position += 1
        return Finished()

    def deliver(self, transfer: int, microbatch: int, value: np.ndarray) -> None:
        sent = (self.plan.transfers[transfer].source + 1) * (self.step.number + 1)
        if not (value == np.array(sent).astype(value.dtype)).all():
            raise ValueError(f"expected {sent}, got {value.ravel()[:4]}")
        self.got[transfer, microbatch] = value

    def result(self) -> PartitionResult:
        outputs = []
        if self.feeds is not None and "output" in self.step.want:
            whole = Region.whole(next(iter(self.plan.outputs.values())).shape)
            name = next(iter(self.plan.outputs))
            outputs = [(name, whole, np.full(whole.shape, self.partition, np.int32))]
        losses = {"loss": float(len(self.got)), f"pid{self.partition}": float(os.getpid())}
        losses[f"jax{self.partition}"] = float("jax" in sys.modules)
        return PartitionResult(losses, outputs)

    def collect(self) -> State:
        return self.state

    def describe(self, waiting: Waiting) -> str:
        source = self.plan.transfers[waiting.transfer].source
        return f"t{waiting.transfer}, microbatch {waiting.microbatch}, from partition {source}"
