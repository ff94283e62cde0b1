"""Synchronous SGD over one plan: step, evaluate, save, until it is enough."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from dbgraph.backends.base import Backend
from dbgraph.errors import RunError
from dbgraph.job import Step, StepResult
from dbgraph.ps.alarm import LossWatch
from dbgraph.state import State
from dbgraph.train.blame import blame_evaluation, blame_training
from dbgraph.train.evaluate import batch_accuracy, evaluate
from dbgraph.train.heard import Heard
from dbgraph.train.history import Evaluation, Result
from dbgraph.train.interrupt import Interrupted, Interruptible
from dbgraph.train.judge import Judge, run_metrics
from dbgraph.train.log import RunLog
from dbgraph.train.progress import Progress
from dbgraph.train.saving import Saver, broken, kept
from dbgraph.train.setup import TRAIN, Setup


class Loop:
    """One run, from the setup's begin to its end. The backend is started and loaded already."""

    def __init__(
        self, backend: Backend, setup: Setup, progress: Progress, saver: Saver, log: RunLog
    ) -> None:
        self._backend, self._setup, self._progress = backend, setup, progress
        self._saver, self._log = saver, log
        self._judge = Judge(setup.options.patience, setup.begin.meta.metrics)
        self._watch = LossWatch()
        self._interruptible = Interruptible(progress.ending)
        self._done = setup.begin.step
        self._losses: list[float] = []
        self._evaluations: list[Evaluation] = []
        self._accuracy: float | None = None
        self._began_s = self._second_s = time.monotonic()

    def run(self) -> Result:
        """Raises RunError where a loss or a parameter is not finite any more, CheckpointError
        where a checkpoint can't be written, KeyboardInterrupt after Ctrl-C."""
        with self._interruptible:
            return self._run()

    def _run(self) -> Result:
        setup = self._setup
        heard = Heard(self._backend, self._log, setup.plan.partitions, setup.examples_per_step)
        try:
            with heard:
                reason = self._train()
        except Interrupted:
            self._save_interrupted()
            raise
        state = self._good_state()
        if self._saver.enabled and not self._saver.has(self._done):
            self._save(state, best=False)
        self._log.write("end", self._done, reason=reason)
        return self._result(reason, state)

    # Steps

    def _train(self) -> str:
        setup = self._setup
        while self._done < setup.steps and not self._judge.is_enough:
            self._step()
            self._interruptible.check()
            last = self._done == setup.steps
            best = False
            if setup.evaluates and (last or _due(self._done, setup.evaluate_every)):
                best = self._evaluate()
            enough = self._judge.is_enough
            if self._saver.enabled and (
                best or last or enough or _due(self._done, setup.checkpoint_every)
            ):
                self._save(self._good_state(), best=best)
        if setup.evaluates and not self._evaluations:
            self._evaluate()  # there was nothing left to train
        return "early stop" if self._judge.is_enough else "steps"

    def _step(self) -> None:
        setup, number = self._setup, self._done
        scored = setup.pair is not None and _due(number + 1, setup.options.log_every)
        examples = setup.batches.examples(number)
        want = frozenset({"loss", "output"} if scored else {"loss"})
        result = self._backend.step(Step(TRAIN, number, examples=examples, want=want))
        self._done += 1
        loss = result.losses["loss"]
        self._losses.append(loss)
        if not _finite(result):
            raise self._blame(failed=number, result=result)
        if len(self._losses) == 1:
            self._second_s = time.monotonic()
        if scored and setup.pair:
            self._accuracy = batch_accuracy(setup.pair, setup.data.train, examples, result)
        self._progress.step(self._done, loss, self._accuracy)
        self._log.stepped(number, self._done, result.losses, self._accuracy)
        alarm = self._watch.told(None, self._done, loss)
        if alarm is not None:
            self._progress.note(f"alarm: {alarm.rule}")
            self._log.alarmed(alarm)

    def _evaluate(self) -> bool:
        """Whether it is the best so far."""
        setup = self._setup
        assert setup.data.test is not None

        def check(result: StepResult, examples: np.ndarray) -> None:
            if not _finite(result):
                state = self._good_state()
                last_good = kept(self._saver)
                raise blame_evaluation(setup, state, examples, self._done, result, last_good)
            self._interruptible.check()

        found = evaluate(self._backend, setup, setup.data.test, self._done, check=check)
        best = self._judge.is_best(found)
        self._evaluations.append(found)
        self._progress.evaluated(found, best)
        self._log.evaluated(found, best)
        return best

    # Saving

    def _good_state(self) -> State:
        """The state. Raises RunError that says where it broke, if it is not finite."""
        state = self._backend.collect()
        if broken(state):
            raise self._blame(state=state)
        return state

    def _blame(self, **failure: Any) -> RunError:
        return blame_training(
            self._backend,
            self._setup,
            self._saver,
            self._progress,
            self._interruptible.check,
            **failure,
        )

    def _save(self, state: State, *, best: bool) -> None:
        metrics = run_metrics(self._judge, self._losses, self._evaluations)
        path = self._saver.save(state, metrics, best=best)
        self._log.write("checkpoint", self._done, path=path, best=best)

    def _save_interrupted(self) -> None:
        at = f"interrupted after step {self._done}"
        if not self._saver.enabled:
            self._progress.note(at)
            return
        if not self._saver.has(self._done):
            state = self._backend.collect()
            if broken(state):
                self._progress.note(f"{at}: parameters are not finite, no checkpoint is written")
                return
            self._save(state, best=False)
        self._progress.note(f"{at}; checkpoint: {self._saver.written}")

    # Ending

    def _result(self, reason: str, state: State) -> Result:
        now_s = time.monotonic()
        measured = max(len(self._losses) - 1, 0) * self._setup.plan.batch
        return Result(
            step=self._done,
            reason=reason,
            losses=tuple(self._losses),
            evaluations=tuple(self._evaluations),
            best=self._judge.best,
            seconds=now_s - self._began_s,
            examples_per_s=measured / max(now_s - self._second_s, 1e-9),
            checkpoint=self._saver.written,
            final=state,
        )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _finite(result: StepResult) -> bool:
    return all(math.isfinite(value) for value in result.losses.values())
