"""When a machine comes to each instruction of its program, and when that is done.

JAX returns before it has computed, so that a RUN ends later than its call. To wait for it at once
would take from a machine what it does meanwhile. So it is looked at where the program pauses
anyway: at a SEND, before a value that is not there, at the end of a step. A RUN lasts from the end
of what was before it until it is first seen that nothing computes any more; one whose value is sent
at once, until that value is there. A RECV lasts from when the program comes to it until it passes
it; a SEND until what it sends was handed over. What stands on one program's lane does not overlap:
an instruction begins when the one before it has ended.

While a program runs, the time is noted wherever it pauses, and nothing else: the processes share
their machine's cores, and a line that is run once a step finds nothing in the caches. Times become
rows when those are taken.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Protocol

import numpy as np

from dbgraph.plan.program import Instruction, Program, Recv, Run, Send, Transfer
from dbgraph.trace.events import MOST_ROWS, RECEIVE, RUN, SEND, UPDATE, WIDTH, Recorder

_CAME, _STOP, _ARRIVED = range(3)
_TIMES = 3  # of each instruction, as in `Row`
_RUN, _PASSED = -2, -1  # behind the times of all instructions and those of the end
_ABOUT = 2
_ARRIVAL = 4  # numbers: of a value its run, its transfer, its microbatch, when it was there


class Playing(Protocol):
    """Who interprets a program.

    Attributes:
        position: of the instruction that it has come to.
    """

    @property
    def program(self) -> Program: ...

    @property
    def position(self) -> int: ...


class _Nobody:
    """Has no program, and is at its end."""

    program = Program(0, (), ())
    position = 0


class _Score:
    """A program's instructions: what their rows have alike in all runs.

    Attributes:
        plan: its name.
        about: an array (instructions, 3) of kind, number and microbatch.
        receives: an array (transfers, microbatches) of the places of the RECVs; -1: no such.
        sends: the places of the SENDs.
        blank: the times of a run of which all was passed, see `_Played`.
    """

    def __init__(self, instructions: Sequence[Instruction], plan: str) -> None:
        self.instructions, self.plan = instructions, plan
        self.about = np.array([_about(i) for i in instructions], np.int64).reshape(-1, 3)
        received = np.flatnonzero(self.about[:, 0] == RECEIVE)
        which = self.about[received, 1:]
        self.receives = np.full(which.max(axis=0, initial=0) + 1, -1)
        self.receives[tuple(which.T)] = received
        self.sends = frozenset(np.flatnonzero(self.about[:, 0] == SEND).tolist())
        self.blank = array("q", [0]) * (_TIMES * (len(instructions) + 1) + _ABOUT)
        self.blank[_PASSED] = len(instructions)


def _about(instruction: Instruction) -> tuple[int, int, int]:
    match instruction:
        case Run(segment, microbatch):
            return RUN, segment, microbatch
        case Send(transfer, microbatch):
            return SEND, transfer, microbatch
        case Recv(transfer, microbatch):
            return RECEIVE, transfer, microbatch
    return UPDATE, 0, 0


_Played = tuple[_Score, "array[int]"]
"""One run: `_TIMES` for each instruction and for the program's end; then the run's number, and
how many instructions were passed."""


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
        arrivals: `_ARRIVAL` numbers for each value that came, perhaps of a run that has not begun
            here.
        waits: whether the program paused for a value.
        open: what computes: its run's times, its place, what it makes.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        recorder.program = self
        self.held = 0
        self.arrivals = array("q")
        self.waits = False
        self.open: list[tuple[array[int], int, Any]] = []
        self._clock = recorder.clock
        self._scores: dict[int, _Score] = {}
        self._played: list[_Played] = []
        self._playing: Playing = _Nobody()
        self._score = _Score((), "")
        self._times = self._score.blank
        self._ended = 0

    def begin(self, playing: Playing) -> None:
        """A run is about to begin; `Recorder.begin` has said which."""
        recorder, instructions = self.recorder, playing.program.instructions
        if self._goes_on:
            self._times[_PASSED] = self._passed
        if self.held >= MOST_ROWS:
            recorder.drop_older_half()
        score = self._scores.get(id(instructions))
        if score is None:
            score = self._scores[id(instructions)] = _Score(instructions, recorder.plan)
        self._playing, self._score, self.waits = playing, score, False
        self._times = times = score.blank[:]
        times[_RUN] = recorder.run
        self._played.append((score, times))
        self.held += len(instructions)

    @property
    def began_ns(self) -> int:
        """When the present run began."""
        return self._times[_CAME]

    def arrived(self, run: int, transfer: int, microbatch: int, at: int = 0) -> None:
        """When the last byte of a value was there, perhaps of a run that has not begun here;
        0: just now."""
        self.arrivals.extend((run, transfer, microbatch, at or self._clock()))

    def resumes(self, position: int) -> None:
        """The program is taken up again: it begins what it has come to, or what it waited for
        has come. What it sent is handed over."""
        self._times[_TIMES * position + self.waits] = self._clock()

    def launched(self, place: int, made: Any) -> None:
        """What stands there was begun: a RUN, an UPDATE, or both as one.

        Args:
            made: a JAX array that is there when it has ended; None where it has, and for what
                is `sent_at_once`.
        """
        self.open.append((self._times, place, made))

    def sent(self, now: int) -> None:
        """Something was handed over, and it may be long until the program is taken up again."""
        place = self._playing.position - 1
        if place in self._score.sends and not self._times[_TIMES * place + _STOP]:
            self._times[_TIMES * place + _STOP] = now

    def settle(self) -> None:
        """Waits for all that was begun."""
        while self.open:
            made = self.open[0][2]
            if made is not None and not made.is_deleted():
                made.block_until_ready()
            self.look()

    def look(self) -> None:
        """What of it has ended; waits for nothing. Computations end in the order in which they
        were begun."""
        open_ = self.open
        while open_ and _is_there(open_[0][2]):
            times, place, _ = open_.pop(0)
            times[_TIMES * place + _STOP] = self._clock()

    # For the recorder

    def drop_older_half(self) -> int:
        """For lack of room. Returns how many rows that were."""
        gone = self._keep(len(self._played) // 2)
        self._forget_arrivals(gone)
        return sum(times[_PASSED] for _, times in gone)

    def take(self, *, last: bool) -> array[int]:
        """Of runs that are over and were not taken yet, or of all that began; see `Noted.rows`."""
        if last:
            self._break_off()
        taken = self._keep(len(self._played) if last else self._over)
        found: array[int] = array("q")
        for score, group in groupby(taken, key=itemgetter(0)):
            found.frombytes(self._rows(score, [times for _, times in group]).tobytes())
        self._forget_arrivals(taken)
        return found

    def _break_off(self) -> None:
        """Nothing more will be known."""
        if self._goes_on:
            self._times[_PASSED] = self._passed
        for times, place, _ in self.open:
            times[_PASSED] = min(times[_PASSED], place)

    def _keep(self, first: int) -> list[_Played]:
        """All from there on. Returns those before."""
        gone, self._played = self._played[:first], self._played[first:]
        self.held = sum(len(score.about) for score, _ in self._played)
        return gone

    @property
    def _over(self) -> int:
        """How many runs have ended, or were called off, before one of which something computes."""
        going_on = {id(times) for times, *_ in self.open}
        if self._goes_on:
            going_on.add(id(self._times))
        at = (i for i, (_, times) in enumerate(self._played) if id(times) in going_on)
        return next(at, len(self._played))

    @property
    def _goes_on(self) -> bool:
        return self._playing.position < len(self._score.instructions)

    @property
    def _passed(self) -> int:
        """How many instructions the present run has passed: without a SEND of which nobody knows
        yet whether it was handed over."""
        place, times = self._playing.position - 1, self._times
        said, resumed = _TIMES * place + _STOP, _TIMES * (place + 1) + _CAME
        waits = place in self._score.sends and not times[said] and not times[resumed]
        return place if waits else place + 1

    def _place_arrivals(self, score: _Score, each: np.ndarray) -> None:
        """Into runs of one program, an array (runs, numbers)."""
        arrivals, numbers = self._all_arrivals(), each[:, _RUN]
        inside = (arrivals[:, 1:3] < score.receives.shape).all(axis=1)
        arrivals = arrivals[inside & np.isin(arrivals[:, 0], numbers)]
        place = score.receives[arrivals[:, 1], arrivals[:, 2]]
        run, at = np.searchsorted(numbers, arrivals[:, 0]), arrivals[:, 3]
        here = place >= 0
        each[run[here], _TIMES * place[here] + _ARRIVED] = at[here]

    def _forget_arrivals(self, gone: Sequence[_Played]) -> None:
        """Those of runs up to the last of these."""
        if gone:
            arrivals, last = self._all_arrivals(), gone[-1][1][_RUN]
            self.arrivals = array("q", arrivals[arrivals[:, 0] > last].tobytes())

    def _all_arrivals(self) -> np.ndarray:
        return np.array(self.arrivals, np.int64).reshape(-1, _ARRIVAL)

    def _rows(self, score: _Score, runs: Sequence[array[int]]) -> np.ndarray:
        """The rows, an array (rows, WIDTH), of runs of one program, of each up to where it
        came."""
        about = score.about
        each = np.array(runs, np.int64)
        self._place_arrivals(score, each)
        times = each[:, :_RUN].reshape(len(runs), -1, _TIMES)
        came, stop = times[:, :, _CAME], times[:, :-1, _STOP]
        stop = np.where((about[:, 0] == SEND) & (stop == 0), came[:, 1:], stop)
        passed = np.arange(len(about)) < each[:, _PASSED, None]
        came, stop = came[:, :-1][passed], stop[passed]
        stop = np.maximum.accumulate(np.maximum(np.maximum(came, stop), self._ended))
        run, place = passed.nonzero()
        rows = np.zeros((len(stop), WIDTH), np.int64)
        rows[:, 0], rows[:, 6], rows[:, 7] = about[place].T
        rows[:, 1], rows[:, 5] = self.recorder.name(score.plan), each[run, _RUN]
        rows[:, 2] = np.maximum(came, np.concatenate(([self._ended], stop))[:-1])
        rows[:, 3], rows[:, 4] = stop, times[:, :-1, _ARRIVED][passed]
        self._ended = int(stop[-1]) if len(stop) else self._ended
        return rows
