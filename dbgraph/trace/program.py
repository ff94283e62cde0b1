"""When a machine comes to each instruction of its program, and when that is done.

JAX returns before it has computed, so that a RUN ends later than its call. To wait for it at once
would take from a machine what it does meanwhile. So it is looked at where the program waits
anyway: before a SEND, before a value that is not there, at the end of a step. A RUN lasts from its
call, or the end of the RUN before it, until it is first seen that nothing computes any more. A
RECV lasts from when the program comes to it until it passes it; a SEND until what it sends was
handed over. What stands on one program's lane does not overlap: an instruction begins when the one
before it has ended.

While a program runs, times are noted and nothing else: they become rows when those are taken.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from dbgraph.plan.program import Instruction, Recv, Run, Send
from dbgraph.trace.events import RECEIVE, RUN, SEND, UPDATE, WIDTH, Recorder

_CAME, _STOP, _ARRIVED = range(3)
_TIMES = 3  # of each instruction, as in `Row`


class _Score:
    """A program's instructions: what their rows have alike in all runs.

    Attributes:
        about: an array (instructions, 3) of kind, number and microbatch.
        receives: the place of each RECV by (transfer, microbatch).
    """

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self.instructions = instructions
        self.about = np.array([_about(i) for i in instructions], np.int64).reshape(-1, 3)
        found = ((i, one) for i, one in enumerate(instructions) if isinstance(one, Recv))
        self.receives = {(one.transfer, one.microbatch): i for i, one in found}


def _about(instruction: Instruction) -> tuple[int, int, int]:
    match instruction:
        case Run(segment, microbatch):
            return RUN, segment, microbatch
        case Send(transfer, microbatch):
            return SEND, transfer, microbatch
        case Recv(transfer, microbatch):
            return RECEIVE, transfer, microbatch
    return UPDATE, 0, 0


@dataclass(slots=True)
class _Played:
    """One run of a program.

    Attributes:
        times: `_TIMES` for each instruction.
        told, known: which instructions are rows already, and which were passed: up to there.
    """

    score: _Score
    plan: int
    run: int
    times: list[int]
    told: int = 0
    known: int = 0


def _is_there(made: Any) -> bool:
    return made is None or made.is_deleted() or bool(made.is_ready())


class ProgramLog:
    """Notes one event for each instruction of each run.

    Attributes:
        held: how many rows there are to take, at most.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        recorder.program = self
        self.held = 0
        self._scores: dict[int, _Score] = {}
        self._played: list[_Played] = []
        self._now = _Played(_Score(()), 0, 0, [])
        self._times: list[int] = []
        self._passed = self._came = self._ended = 0
        self._open: list[tuple[_Played, int, Any]] = []  # what computes, and what it makes
        self._sending = -1
        self._early: dict[tuple[int, int, int], int] = {}

    def begin(self, instructions: Sequence[Instruction]) -> None:
        """A run begins; `Recorder.begin` has said which."""
        self.settle()
        self._now.known = self._known
        recorder, score = self.recorder, self._scores.get(id(instructions))
        if score is None:
            score = self._scores[id(instructions)] = _Score(instructions)
        self._times = [0] * (_TIMES * len(instructions))
        self._now = _Played(score, recorder.plan, recorder.run, self._times)
        self._played.append(self._now)
        self.held += len(instructions)
        self._passed = self._came = 0
        self._sending = -1
        if self._early:
            early, self._early = self._early, {}
            for (run, transfer, microbatch), at in early.items():
                if run >= recorder.run:  # others were called off
                    self.arrived(run, transfer, microbatch, at)

    def arrived(self, run: int, transfer: int, microbatch: int, at: int = 0) -> None:
        """When the last byte of a value was there, perhaps of a run that has not begun here;
        0: just now."""
        now = self._now
        place = now.score.receives.get((transfer, microbatch)) if run == now.run else None
        if place is not None:
            self._times[_TIMES * place + _ARRIVED] = at or self.recorder.clock()
        else:
            self._early[run, transfer, microbatch] = at or self.recorder.clock()

    def resumed(self) -> None:
        """The machine goes on: at the beginning, after a SEND, or since a value has come."""
        if self._sending >= 0:
            self._came = now = self.recorder.clock()
            self._times[_TIMES * self._sending + _STOP] = min(now, self.recorder.sent_at or now)
            self._sending = -1
        elif not self._came:
            self._came = self.recorder.clock()

    def sends(self, position: int, value: Any) -> None:
        """It has come past a SEND, of a value that has to be there for it."""
        place = position - 1
        if self._passed < place:
            self._receives(place, self.recorder.clock())
        if self._open and hasattr(value, "block_until_ready"):
            value.block_until_ready()
            self.look()
        self._times[_TIMES * place] = self.recorder.clock()
        self._sending, self._passed = place, position

    def waits(self, position: int) -> None:
        """It waits for the value of the RECV there."""
        if self._passed < position:
            self._receives(position, self.recorder.clock())
        if self._open:
            self.settle()

    def ends(self, position: int) -> None:
        """It has come to the program's end; what it has begun may go on."""
        if self._passed < position:
            self._receives(position, self.recorder.clock())

    def begins(self) -> int:
        """It is about to begin a RUN or an UPDATE. Returns the time."""
        if self._open:
            self.look()
        return self.recorder.clock()

    def launched(self, came: int, first: int, position: int, made: Any) -> None:
        """All from `first`, to which it came then, to `position` was begun: a RUN, an UPDATE, or
        both as one.

        Args:
            made: a JAX array that is there when it has ended; None where it has.
        """
        if self._passed < first:
            self._receives(first, came)
        for place in range(first, position):
            self._times[_TIMES * place] = came
            self._open.append((self._now, place, made))
        self._passed, self._came = position, self.recorder.clock()

    def settle(self) -> None:
        """Waits for all that was begun."""
        while self._open:
            made = self._open[0][2]
            if made is not None and not made.is_deleted():
                made.block_until_ready()
            self.look()

    def look(self) -> None:
        """What of it has ended; waits for nothing."""
        open_ = self._open
        if open_ and _is_there(open_[-1][2]):
            ended = len(open_)  # computations end in the order in which they were begun
        else:
            ended = next((i for i, (*_, made) in enumerate(open_) if not _is_there(made)), 0)
        for played, place, _ in open_[:ended]:
            played.times[_TIMES * place + _STOP] = self.recorder.clock()
        del open_[:ended]

    def _receives(self, position: int, now: int) -> None:
        """The RECVs up to there were passed; the first took all the time."""
        times = self._times
        for place in range(self._passed, position):
            times[_TIMES * place], times[_TIMES * place + _STOP] = self._came, now
            self._came = now
        self._passed = position

    # For the recorder

    def drop_older_half(self) -> int:
        """For lack of room. Returns how many rows that were."""
        gone = self._played[: len(self._played) // 2]
        del self._played[: len(gone)]
        self.held -= sum(len(played.score.about) for played in gone)
        return sum(played.known - played.told for played in gone)

    def take(self) -> array[int]:
        """What is known and was not taken yet; see `Noted.rows`."""
        self._now.known = self._known
        open_played, place = self._open[0][:2] if self._open else (None, 0)
        whole, limits = [], []
        for played in self._played:  # up to the first instruction that computes
            whole.append(played)
            limits.append(place if played is open_played else played.known)
            if played is open_played:
                break
        found: array[int] = array("q")
        for _, group in groupby(
            zip(whole, limits, strict=True), key=lambda one: (id(one[0].score), one[0].plan)
        ):
            found.frombytes(self._rows(list(group)).tobytes())
        for played, limit in zip(whole, limits, strict=True):
            played.told = limit
        del self._played[: max(len(whole) - 1, 0)]
        self.held = sum(len(played.score.about) - played.told for played in self._played)
        return found

    @property
    def _known(self) -> int:
        """How many instructions were passed, of the run that goes on."""
        return self._passed if self._sending < 0 else self._sending

    def _rows(self, group: Sequence[tuple[_Played, int]]) -> np.ndarray:
        """The rows, an array (rows, WIDTH), of runs of one program, of each up to an
        instruction."""
        about, plan = group[0][0].score.about, group[0][0].plan
        each = np.array([(played.told, limit, played.run) for played, limit in group], np.int64)
        told, known, run = each.repeat(len(about), axis=0).T
        place = np.tile(np.arange(len(about)), len(group))
        new = (place >= told) & (place < known)
        times = np.array([played.times for played, _ in group], np.int64).reshape(-1, _TIMES)[new]
        stop = np.maximum.accumulate(times[:, :_ARRIVED].max(axis=1, initial=self._ended))
        rows = np.zeros((len(stop), WIDTH), np.int64)
        rows[:, 0], rows[:, 6], rows[:, 7] = about[place[new]].T
        rows[:, 1], rows[:, 5] = plan, run[new]
        rows[:, 2] = np.maximum(times[:, _CAME], np.concatenate(([self._ended], stop))[: len(stop)])
        rows[:, 3], rows[:, 4] = stop, times[:, _ARRIVED]
        self._ended = int(stop[-1]) if len(stop) else self._ended
        return rows
