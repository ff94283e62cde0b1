"""When a machine comes to each instruction of its program, and when that is done.

JAX returns before it has computed, so that a RUN ends later than its call. To wait for it at once
would take from a machine what it does meanwhile. So its values are looked at where the program
waits anyway: before a SEND of theirs, before a value that is not there, at the end of a step. A
RUN lasts from its call, or the end of the RUN before it, until its values are first seen to be
there. A RECV lasts from when the program comes to it until it passes it; a SEND until what it
sends was handed over. What stands on one program's lane does not overlap: an instruction begins
when the one before it has ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dbgraph.plan.program import Instruction, Recv, Run, Send
from dbgraph.trace.events import RECEIVE, RUN, SEND, UPDATE, Recorder


@dataclass(slots=True)
class _Step:
    """An instruction that the program has passed; times as in `Row`.

    Attributes:
        stop: 0 for a computation that may go on; it has ended when all of `made` is there.
    """

    kind: int
    came: int
    stop: int
    number: int = 0
    microbatch: int = 0
    arrived: int = 0
    made: Sequence[Any] = ()


class ProgramLog:
    """Notes one event for each instruction of each run."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._instructions: Sequence[Instruction] = ()
        self._run = self._plan = 0
        self._passed = self._came = self._ended = 0
        self._open: deque[_Step] = deque()  # from the first one on that computes
        self._sending: _Step | None = None
        self._arrived: dict[tuple[int, int, int], int] = {}

    def begin(self, instructions: Sequence[Instruction]) -> None:
        """A run begins; `Recorder.begin` has said which."""
        self.settle()
        self._run, self._plan = self.recorder.run, self.recorder.plan
        self._instructions = instructions
        self._passed = self._came = 0
        self._sending = None
        for key in [key for key in self._arrived if key[0] < self._run]:
            del self._arrived[key]  # of runs that were called off

    def arrived(self, run: int, transfer: int, microbatch: int, at: int = 0) -> None:
        """When the last byte of a value was there, perhaps of a run that has not begun here;
        0: just now."""
        self._arrived.setdefault((run, transfer, microbatch), at or self.recorder.clock())

    def resumed(self) -> None:
        """The machine goes on: at the beginning, after a SEND, or since a value has come."""
        now, sending = self.recorder.clock(), self._sending
        if sending is not None:
            sending.stop = max(sending.came, min(now, self.recorder.sent_at or now))
            self._pass(sending)
            self._sending, self._came = None, now
        elif not self._came:
            self._came = now

    def sends(self, position: int, value: Any) -> None:
        """It has come past a SEND, of a value that has to be there for it."""
        self._receives(position - 1)
        if self._open and hasattr(value, "block_until_ready"):
            value.block_until_ready()
            self.look()
        send = self._instructions[position - 1]
        assert isinstance(send, Send)
        self._sending = _Step(SEND, self.recorder.clock(), 0, send.transfer, send.microbatch)
        self._passed = position

    def waits(self, position: int) -> None:
        """It waits for the value of the RECV there."""
        self._receives(position)
        self.settle()

    def ends(self, position: int) -> None:
        """It has come to the program's end; what it has begun may go on."""
        self._receives(position)

    def begins(self, position: int) -> int:
        """It is about to execute the instruction there. Returns the time."""
        self._receives(position)
        return self.recorder.clock()

    def launched(self, came: int, position: int, made: Sequence[Any]) -> None:
        """All from where it came to `position` was begun: a RUN, an UPDATE, or both as one.

        Args:
            made: JAX arrays that are there when it has ended; they are one computation's, so that
            they are there at once.
        """
        for instruction in self._instructions[self._passed : position]:
            if isinstance(instruction, Run):
                step = _Step(RUN, came, 0, instruction.segment, instruction.microbatch, made=made)
            else:
                step = _Step(UPDATE, came, 0, made=made)
            self._open.append(step)
            made = ()  # once will do
        self._passed, self._came = position, self.recorder.clock()

    def settle(self) -> None:
        """Waits for all that was begun."""
        open_ = self._open
        while open_:
            for array in open_[0].made:
                if not array.is_deleted():
                    array.block_until_ready()
            self._note(open_.popleft())

    def look(self) -> None:
        """Which of it has ended; waits for nothing."""
        open_ = self._open
        while open_:
            for array in open_[0].made:
                if not (array.is_deleted() or array.is_ready()):
                    return
            self._note(open_.popleft())

    def _receives(self, position: int) -> None:
        """The RECVs up to there were passed; the first took all the time."""
        for instruction in self._instructions[self._passed : position]:
            came, self._came = self._came, self.recorder.clock()
            assert isinstance(instruction, Recv)
            about = instruction.transfer, instruction.microbatch
            arrived = self._arrived.pop((self._run, *about), 0)
            self._pass(_Step(RECEIVE, came, self._came, *about, arrived))
        self._passed = max(self._passed, position)

    def _pass(self, step: _Step) -> None:
        if self._open:
            self._open.append(step)
        else:
            self._note(step)

    def _note(self, step: _Step) -> None:
        recorder = self.recorder
        start = max(step.came, self._ended)
        stop = self._ended = max(start, step.stop or recorder.clock())
        about = self._run, step.number, step.microbatch, 0, 0
        recorder.rows.append((step.kind, self._plan, start, stop, step.arrived, *about))
