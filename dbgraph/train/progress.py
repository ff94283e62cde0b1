"""The story of a run, for people: a screen on a terminal, lines elsewhere. It goes to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO

from msgspec.structs import replace

from dbgraph import units
from dbgraph.errors import UsageError
from dbgraph.metrics import Record, make_record
from dbgraph.train.history import Evaluation
from dbgraph.train.interrupt import ENDING, say_ending
from dbgraph.watch.fold import RunView, fold

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from dbgraph.train.standing import Standing

_DRAWN_HZ = 2.0
"""How often a screen is drawn: a run has better things to do."""


class Progress(Protocol):
    """Is told what happens in a run."""

    def start(self, title: str, done: int, total: int, batch: int) -> None:
        """A run begins, or goes on: so many of all steps are done."""

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        """A step is done. The accuracy is the one last known of training batches."""

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """The model was evaluated on held-out data."""

    def standing(self, standing: Standing, now: float) -> None:
        """How replicas and shards are doing, where there are any."""

    def record(self, record: Record) -> None:
        """What the log is told. Other threads call this too, one at a time."""

    def note(self, text: str) -> None:
        """Something that people should know."""

    def ending(self) -> None:
        """Ctrl-C was pressed, and the run ends after this step. Called in a signal's handler."""

    def stop(self) -> None:
        """The run has ended, well or not."""


class Pace:
    """Examples per second and time left, from the second step on: the first one compiles."""

    def __init__(self, done: int, total: int, batch: int, clock: Callable[[], float]) -> None:
        self._total, self._batch, self._clock = total, batch, clock
        self._first = done + 1
        self._began_s = 0.0
        self.examples_per_s = 0.0
        self.left_s: float | None = None

    def step(self, done: int) -> None:
        if done <= self._first:
            self._began_s = self._clock()
            return
        elapsed_s = self._clock() - self._began_s
        if elapsed_s > 0:
            per_s = (done - self._first) / elapsed_s
            self.examples_per_s = per_s * self._batch
            self.left_s = (self._total - done) / per_s


class Silent:
    """Tells nothing."""

    def start(self, title: str, done: int, total: int, batch: int) -> None:
        pass

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        pass

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        pass

    def standing(self, standing: Standing, now: float) -> None:
        pass

    def record(self, record: Record) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def ending(self) -> None:
        pass

    def stop(self) -> None:
        pass


class Lines:
    """Plain lines: each evaluation, and between them one every few seconds."""

    def __init__(
        self,
        file: TextIO | None = None,
        *,
        every_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._every_s, self._clock = file, every_s, clock
        self._pace = Pace(0, 0, 0, clock)
        self._total = 0
        self._told_s = self._stood_s = 0.0
        self._loss = float("nan")

    def start(self, title: str, done: int, total: int, batch: int) -> None:
        self._pace, self._total = Pace(done, total, batch, self._clock), total
        self._told_s = self._stood_s = self._clock()
        self.note(title)

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        self._pace.step(done)
        self._loss = loss
        if self._clock() - self._told_s >= self._every_s:
            self._tell(done, [_training(loss, accuracy)])

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        self._tell(evaluation.step, [_training(self._loss, None), _held_out(evaluation, best)])

    def standing(self, standing: Standing, now: float) -> None:
        if self._clock() - self._stood_s >= 2 * self._every_s:
            self._stood_s = self._clock()
            self.note("\n".join(standing.lines(now)))

    def record(self, record: Record) -> None:
        pass

    def note(self, text: str) -> None:
        print(text, file=self._file or sys.stderr, flush=True)

    def ending(self) -> None:
        say_ending()

    def stop(self) -> None:
        pass

    def _tell(self, done: int, parts: list[str]) -> None:
        self._told_s = self._clock()
        self.note(f"step {done}/{self._total}  " + "  ".join([*parts, *_speed(self._pace)]))


class Bar:
    """The screen of `watch.screen`, drawn anew all the time: also while a step hangs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._live: Live | None = None
        self._pace = Pace(0, 0, 0, clock)
        self._view = RunView()
        self._done = 0
        self._latest: dict[str, float] = {}
        self._ends = False

    def start(self, title: str, done: int, total: int, batch: int) -> None:
        from rich.console import Console
        from rich.live import Live

        self._pace = Pace(done, total, batch, self._clock)
        self._done, self._latest = done, {}
        self._view = RunView(state="running", step=done, steps=total, examples_per_step=batch)
        self._live = Live(
            console=Console(stderr=True), get_renderable=self._screen, refresh_per_second=_DRAWN_HZ
        )
        self._live.console.print(title, highlight=False, markup=False)
        self._live.start()

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        self._pace.step(done)
        self._done = done
        self._latest |= {"loss": loss, "examples_per_s": self._pace.examples_per_s}
        if accuracy is not None:
            self._latest["accuracy"] = accuracy

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        pass  # a record

    def standing(self, standing: Standing, now: float) -> None:
        """Oftener than the log is told."""
        told = make_record("standing", step=self._done, machines=[], **standing.records(now))
        self.record(told)

    def record(self, record: Record) -> None:
        self._view = fold([record], self._view)

    def note(self, text: str) -> None:
        if self._live is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._live.console.print(text, highlight=False, markup=False)

    def ending(self) -> None:
        self._ends = True  # what is written beside the screen would break it

    def stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _screen(self) -> RenderableType:
        """The records, and what each step tells between them."""
        from rich.console import Group

        from dbgraph.watch.screen import screen

        if self._live is None:  # it is just being made
            return ""
        view, console = self._view, self._live.console
        latest = {**view.latest, **self._latest}
        view = replace(view, step=max(self._done, view.step), latest=latest)
        ending = [ENDING] if self._ends and view.state == "running" else []
        height = console.height - len(ending)
        return Group(screen(view, time.time(), console.width, height), *ending)


def _training(loss: float, accuracy: float | None) -> str:
    return f"loss {loss:.4g}" + (f"  accuracy {accuracy:.1%}" if accuracy is not None else "")


def _held_out(evaluation: Evaluation, best: bool) -> str:
    text = f"held out: loss {evaluation.loss:.4g}"
    if evaluation.accuracy is not None:
        text += f", accuracy {evaluation.accuracy:.2%}"
    return text + (" (best)" if best else "")


def _speed(pace: Pace) -> list[str]:
    if pace.left_s is None:
        return []
    return [f"{pace.examples_per_s:,.0f} examples/s", f"{_left(pace.left_s)} left"]


def _left(seconds: float) -> str:
    return units.seconds(seconds) if seconds >= 120 else f"{seconds:.0f} s"


def make_progress(kind: str | Progress) -> Progress:
    """A story by name: "bar", a screen; "lines"; "none"; or "auto", a screen on a terminal.

    Raises UsageError for another name.
    """
    if not isinstance(kind, str):
        return kind
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "lines"
    makers: dict[str, Callable[[], Progress]] = {"bar": Bar, "lines": Lines, "none": Silent}
    if kind not in makers:
        raise UsageError(f"no progress {kind!r}", hint=f"there are: auto, {', '.join(makers)}")
    return makers[kind]()
