"""When a machine comes to each instruction of its program, and when that is done.

JAX returns before it has computed, so that a RUN ends later than its call. To wait for it at once
would take from a machine what it does meanwhile. So it is looked at where the program waits
anyway: before a SEND, before a value that is not there, at the end of a step. A RUN lasts from its
call, or the end of the RUN before it, until it is first seen that nothing computes any more; one
whose value is sent at once, until that value is there. A RECV lasts from when the program comes to
it until it passes it; a SEND until what it sends was handed over. What stands on one program's lane
does not overlap: an instruction begins when the one before it has ended.

While a program runs, times are noted and nothing else: they become rows when those are taken.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from dbgraph.plan.program import Instruction, Program, Recv, Run, Send, Transfer
from dbgraph.trace.events import RECEIVE, RUN, SEND, UPDATE, WIDTH, Recorder

Arrival = tuple[int, int, int, int]
"""Of a value: its run, its transfer, its microbatch, and when its last byte was there."""

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


def sent_at_once(program: Program, transfers: Sequence[Transfer]) -> frozenset[int]:
    """The places of the RUNs of which the next instruction sends a value."""
    return frozenset(
        place
        for place, (one, after) in enumerate(pairwise(program.instructions))
        if isinstance(one, Run)
        and isinstance(after, Send)
        and one.microbatch == after.microbatch
        and transfers[after.transfer].value in program.segments[one.segment].outputs
    )


def _is_there(made: Any) -> bool:
    return made is None or made.is_deleted() or bool(made.is_ready())


class ProgramLog:
    """Notes one event for each instruction of each run.

    Attributes:
        held: how many rows there are to take, at most.
        arrivals: of values, perhaps of runs that have not begun here, since the last time.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        recorder.program = self
        self.held = 0
        self._clock = recorder.clock
        self._scores: dict[int, _Score] = {}
        self._played: list[_Played] = []
        self._now = _Played(_Score(()), 0, 0, [])
        self._times: list[int] = []
        self._passed = self._ended = 0
        self._open: list[tuple[_Played, int, Any]] = []  # what computes, and what it makes
        self._sending = -1
        self._shown = -1  # the place of a RUN that the next SEND will show to have ended
        self.arrivals: list[Arrival] = []

    def begin(self, instructions: Sequence[Instruction]) -> None:
        """A run begins; `Recorder.begin` has said which."""
        self._now.known = self._known
        recorder, score = self.recorder, self._scores.get(id(instructions))
        if score is None:
            score = self._scores[id(instructions)] = _Score(instructions)
        self._times = [0] * (_TIMES * len(instructions))
        self._now = _Played(score, recorder.plan, recorder.run, self._times)
        self._played.append(self._now)
        self.held += len(instructions)
        self._passed, self._sending, self._shown = 0, -1, -1

    def arrived(self, run: int, transfer: int, microbatch: int, at: int = 0) -> None:
        """When the last byte of a value was there, perhaps of a run that has not begun here;
        0: just now."""
        self.arrivals.append((run, transfer, microbatch, at or self._clock()))

    def sends(self, position: int, value: Any) -> None:
        """It has come past a SEND, of a value that has to be there for it."""
        if (self._open or self._shown >= 0) and hasattr(value, "block_until_ready"):
            value.block_until_ready()
        now, place = self._clock(), position - 1
        if self._shown >= 0:
            self._times[_TIMES * self._shown + _STOP] = now
            self._shown = -1
        if self._open:
            self._look(now)
        if self._passed < place:
            self._passes(place, now)
        self._times[_TIMES * place] = now
        self._sending, self._passed = place, position

    def sent(self, now: int) -> None:
        """Something was handed over: the value of the last SEND, if nothing followed it."""
        if self._sending >= 0:
            self._times[_TIMES * self._sending + _STOP] = now

    def waits(self, position: int) -> None:
        """It waits for the value of the RECV there."""
        now, self._sending = self._clock(), -1
        if self._passed < position:
            self._passes(position, now)
        self._times[_TIMES * position] = self._times[_TIMES * position] or now
        if self._open:
            self.settle()

    def ends(self, position: int) -> None:
        """It has come to the program's end; what it has begun may go on."""
        self._sending = -1
        if self._passed < position:
            self._passes(position, self._clock())

    def begins(self) -> int:
        """It is about to begin a RUN or an UPDATE. Returns the time."""
        now = self._clock()
        if self._open:
            self._look(now)
        return now

    def launched(self, came: int, first: int, position: int, made: Any) -> None:
        """All from `first`, to which it came then, to `position` was begun: a RUN, an UPDATE, or
        both as one.

        Args:
            made: a JAX array that is there when it has ended; None where it has.
        """
        if self._passed < first:
            self._passes(first, came)
        self._times[_TIMES * first] = came
        self._open.append((self._now, first, made))
        self._passed, self._sending = position, -1

    def launched_to_send(self, came: int, place: int) -> None:
        """As `launched`, a RUN whose next instruction is a SEND of what it makes (`sent_at_once`):
        that will show when it has ended."""
        if self._passed < place:
            self._passes(place, came)
        self._times[_TIMES * place] = came
        self._passed, self._sending, self._shown = place + 1, -1, place

    def settle(self) -> None:
        """Waits for all that was begun."""
        while self._open:
            made = self._open[0][2]
            if made is not None and not made.is_deleted():
                made.block_until_ready()
            self._look(self._clock())

    def look(self) -> None:
        """What of it has ended; waits for nothing."""
        if self._open:
            self._look(self._clock())

    def _look(self, now: int) -> None:
        open_ = self._open
        if _is_there(open_[-1][2]):
            ended = len(open_)  # computations end in the order in which they were begun
        else:
            ended = next((i for i, (*_, made) in enumerate(open_) if not _is_there(made)), 0)
        for played, place, _ in open_[:ended]:
            played.times[_TIMES * place + _STOP] = now
        del open_[:ended]

    def _passes(self, position: int, now: int) -> None:
        """The RECVs up to there; the first took all the time."""
        first = _TIMES * self._passed
        self._times[first] = self._times[first] or now
        self._times[first + _STOP] = now
        self._passed = position

    # For the recorder

    def drop_older_half(self) -> int:
        """For lack of room. Returns how many rows that were."""
        self._place_arrivals()
        gone = self._played[: len(self._played) // 2]
        del self._played[: len(gone)]
        self.held -= sum(len(played.score.about) for played in gone)
        return sum(played.known - played.told for played in gone)

    def take(self) -> array[int]:
        """What is known and was not taken yet; see `Noted.rows`."""
        self._place_arrivals()
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

    def _place_arrivals(self) -> None:
        """Beside their RECVs; those of runs that have not begun here wait on."""
        arrivals, self.arrivals = self.arrivals, []
        played = {one.run: one for one in self._played}
        for arrival in arrivals:
            run, transfer, microbatch, at = arrival
            if (one := played.get(run)) is not None:
                place = one.score.receives.get((transfer, microbatch))
                if place is not None:
                    one.times[_TIMES * place + _ARRIVED] = at
            elif run > self._now.run:  # others were called off
                self.arrivals.append(arrival)

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
