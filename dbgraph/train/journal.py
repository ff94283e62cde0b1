"""What is told, logged, judged and saved of a run with replicas: the coordinator's audience."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue

from dbgraph.actors.audience import Wish
from dbgraph.actors.messages import Appraised, ShardStatus
from dbgraph.errors import RunError
from dbgraph.ps.alarm import Alarm
from dbgraph.state import State
from dbgraph.train.heard import LOG_S
from dbgraph.train.history import Evaluation
from dbgraph.train.interrupt import Interrupted, Interruptible
from dbgraph.train.judge import Judge, run_metrics
from dbgraph.train.log import RunLog, is_due
from dbgraph.train.progress import Progress
from dbgraph.train.saving import Saver, broken, kept
from dbgraph.train.setup import Setup
from dbgraph.train.standing import Standing

TABLE_S = 1.0
"""How often the table is shown."""

Wishes = SimpleQueue[Wish]


class Journal:
    """See `actors.director.Audience`."""

    def __init__(
        self, setup: Setup, progress: Progress, saver: Saver, log: RunLog, wishes: Wishes
    ) -> None:
        self._setup, self._progress, self._saver, self._log = setup, progress, saver, log
        self._wishes = wishes
        self._judge = Judge(setup.options.patience, setup.begin.meta.metrics)
        self.interruptible = Interruptible(progress.ending)
        self.standing = Standing()
        self.losses: list[float] = []
        self.evaluations: list[Evaluation] = []
        self.final: State | None = None
        self.examples = 0
        self.step = setup.begin.step
        self.began_s = self.second_s = time.monotonic()
        self._shown_s = self._logged_s = self.began_s
        self._due: set[int] = set()
        self._appraising: set[int] = set()
        self._judged: dict[int, bool] = {}
        self._unsaved: dict[int, tuple[State, bool]] = {}

    @property
    def best(self) -> Evaluation | None:
        return self._judge.best

    # From the coordinator

    def stepped(self, step: int, loss: float, examples: int) -> None:
        now = time.monotonic()
        if self.losses:
            self.examples += examples
        else:
            self.second_s = now  # the first one compiles
        self.losses.append(loss)
        before, self.step = self.step, step
        self._progress.step(step, loss, None)
        self._log.stepped(before, step, {"loss": loss}, None)

    def replica(self, number: int, doing: str, staleness: int | None, now: float) -> None:
        self.standing.heard(number, doing, staleness, now)
        if doing == "lost":
            self._log.alarmed(Alarm(f"replica {number} is lost", number, self.step, math.nan))

    def computed(self, number: int, examples: int, now: float) -> None:
        self.standing.computed(number, examples, now)

    def shard(self, number: int, status: ShardStatus, now: float) -> None:
        self.standing.served(number, status, now)

    def note(self, text: str) -> None:
        self._progress.note(text)

    def alarm(self, rule: str, replica: int | None, step: int, loss: float) -> None:
        self._progress.note(f"alarm: {rule}")
        self._log.alarmed(Alarm(rule, replica, step, loss))

    def appraising(self, step: int) -> None:
        self._appraising.add(step)

    def evaluated(self, said: Appraised) -> None:
        found = Evaluation(said.step, said.loss, said.terms, said.accuracy, said.examples)
        best = self._judge.is_best(found)
        self.evaluations.append(found)
        self._progress.evaluated(found, best)
        self._log.evaluated(found, best)
        self._appraising.discard(said.step)
        self._judged[said.step] = best
        if said.step in self._unsaved:
            self._save(said.step, *self._unsaved.pop(said.step))

    def unevaluated(self) -> None:
        self._appraising.clear()
        for step in sorted(self._unsaved):
            self._save(step, *self._unsaved.pop(step))

    def taken(self, state: State, step: int, last: bool) -> None:
        bad = broken(state)
        if bad:
            names = ", ".join(dict.fromkeys(repr(parameter) for _, parameter in bad[:3]))
            raise RunError(f"step {step}: {names} not finite", hint=kept(self._saver))
        if last:
            self.final = state
        if step in self._appraising:
            self._unsaved[step] = state, last
        else:
            self._save(step, state, last)

    def evaluation_due(self, before: int, step: int) -> bool:
        setup = self._setup
        return step < setup.steps and is_due(before, step, setup.evaluate_every)

    def snapshot_due(self, before: int, step: int) -> bool:
        if not self._saver.enabled or step >= self._setup.steps:
            return False
        due = is_due(before, step, self._setup.checkpoint_every)
        if due:
            self._due.add(step)
        return due or self.evaluation_due(before, step)

    def wishes(self) -> Iterable[Wish]:
        self._show()
        while True:
            try:
                yield self._wishes.get_nowait()
            except Empty:
                return

    @property
    def enough(self) -> bool:
        return self._judge.is_enough

    @property
    def interrupted(self) -> bool:
        try:
            self.interruptible.check()
        except Interrupted:
            return True
        return False

    # Inside

    def _save(self, step: int, state: State, last: bool) -> None:
        best = self._judged.get(step, False)
        due = best or last or step in self._due
        if not self._saver.enabled or not due or self._saver.has(state.step):
            return
        metrics = run_metrics(self._judge, self.losses, self.evaluations)
        path = self._saver.save(state, metrics, best=best)
        self._log.write("checkpoint", step, path=path, best=best)

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown_s >= TABLE_S:
            self._shown_s = now
            self._progress.standing(self.standing, now)
        if now - self._logged_s >= LOG_S:
            self.log_standing(now)

    def log_standing(self, now: float) -> None:
        self._logged_s = now
        self._log.write("standing", self.step, machines=[], **self.standing.records(now))
