"""One run with replicas and a parameter server, from the setup's begin to its end."""

from __future__ import annotations

import sys
import time
from dataclasses import replace

from dbgraph.actors.audience import Company
from dbgraph.actors.director import Director
from dbgraph.actors.downpour import DownpourDirector
from dbgraph.actors.ledgers import make_ledger
from dbgraph.actors.sandblaster import SandblasterDirector, progress_of
from dbgraph.actors.sync import SyncDirector
from dbgraph.backends.theatre import Theatre, make_theatre
from dbgraph.coordinate.options import Sandblaster, Sync
from dbgraph.errors import RunError
from dbgraph.ps.layout import Layout
from dbgraph.ps.ledger import share
from dbgraph.ps.options import Downpour
from dbgraph.ps.routes import pushing
from dbgraph.state import State
from dbgraph.trace.recording import Recording
from dbgraph.train.algorithm import Many, stop_of
from dbgraph.train.cast import make_cast
from dbgraph.train.control import control, machine_answers, replica_answers
from dbgraph.train.history import Result
from dbgraph.train.interrupt import Interrupted
from dbgraph.train.journal import Journal, Wishes
from dbgraph.train.log import RunLog
from dbgraph.train.progress import Progress
from dbgraph.train.saving import Saver, kept
from dbgraph.train.setup import Setup

ENDLESS = 2**62
"""Batches that synchronous SGD may ask for: backups take some that do not count."""


class ReplicaRun:
    """Checks at once what can be checked.

    Raises UsageError for more shards than can be fed, DataError for data too short for the
    replicas, CheckpointError where the run can't go on from its checkpoint.
    """

    def __init__(
        self,
        setup: Setup,
        progress: Progress,
        saver: Saver,
        log: RunLog,
        wishes: Wishes,
        recording: Recording | None = None,
    ) -> None:
        assert setup.many is not None
        self._setup, self._progress, self._saver = setup, progress, saver
        self._many: Many = setup.many
        self._layout = Layout.of(setup.plan, setup.many.shards)
        self._log, self._wishes, self._recording = log, wishes, recording
        self._journal = Journal(setup, progress, saver, log, wishes)
        self._director = self._make_director()

    def run(self) -> Result:
        """Raises RunError where a loss or a parameter is not finite any more, ClusterLostError
        where nothing is left to go on with, KeyboardInterrupt after Ctrl-C."""
        options, journal = self._setup.options, self._journal
        theatre = make_theatre(options.backend, **options.backend_options)
        answers = {
            **replica_answers(self._wishes, journal.standing),
            **machine_answers(self._setup, self._log, lambda: theatre),
        }
        controlled = control(options.checkpoint, answers)
        with journal.interruptible, controlled:
            self._play_or_say(theatre)
            journal.log_standing(time.monotonic())
            if journal.interrupted:
                self._progress.note(self._interruption())
                raise Interrupted
            reason = self._reason()
            self._log.write("end", journal.step, reason=reason)
        return self._result(reason)

    def _play_or_say(self, theatre: Theatre) -> None:
        """What an actor raises says nothing of checkpoints."""
        try:
            self._play(theatre)
        except RunError as error:
            left = kept(self._saver)
            if left in error.hint:
                raise
            hint = f"{error.hint}\n  {left}".strip()
            raise RunError(error.rule, at=error.at, hint=hint) from error

    def _play(self, theatre: Theatre) -> None:
        cast, recording = make_cast(self._setup, self._layout), self._recording
        if recording is None:
            theatre.run(cast, self._director)
            return
        try:
            theatre.run(replace(cast, collector=recording.collector), self._director)
        finally:
            recording.finish(sys.exception())

    def _make_director(self) -> Director:
        setup, algorithm = self._setup, self._many.algorithm
        begin, batches = setup.begin.state, setup.batches
        company = self._company(begin)
        match algorithm:
            case Downpour():
                ledger = make_ledger(batches, setup.steps, begin)
                portion = share(batches, self._many.replicas, algorithm.share)
                return DownpourDirector(company, self._journal, algorithm, ledger, portion)
            case Sync():
                share(batches, self._many.replicas, 1)
                ledger = make_ledger(batches, ENDLESS, begin)
                counted = self._many.counted
                return SyncDirector(company, self._journal, counted, setup.steps, ledger)
            case Sandblaster():
                return self._make_sandblaster(company, algorithm)

    def _make_sandblaster(self, company: Company, options: Sandblaster) -> Director:
        setup = self._setup
        before = progress_of(company.begin)
        iterations = setup.steps - company.begun + (before.report.iteration if before else 0)
        stop = stop_of(options, setup.plan, max(iterations, 0))
        examples, portion = setup.batches.length, options.portion or setup.batches.batch
        return SandblasterDirector(company, self._journal, options, examples, portion, stop)

    def _company(self, begin: State | None) -> Company:
        setup, plan = self._setup, self._setup.plan
        return Company(
            fingerprint=plan.fingerprint,
            layout=self._layout,
            pushing=pushing(self._layout, plan),
            replicas=tuple(range(self._many.replicas)),
            begin=begin,
            begun=setup.begin.step,
            evaluates=setup.evaluates,
        )

    def _interruption(self) -> str:
        written = self._saver.written
        at = f"interrupted after step {self._journal.step}"
        return at if written is None else f"{at}; checkpoint: {written}"

    def _reason(self) -> str:
        if isinstance(self._director, SandblasterDirector) and self._director.result is not None:
            return self._director.result.message
        return "early stop" if self._journal.enough else "steps"

    def _result(self, reason: str) -> Result:
        journal, now_s = self._journal, time.monotonic()
        assert journal.final is not None
        return Result(
            step=journal.final.step,
            reason=reason,
            losses=tuple(journal.losses),
            evaluations=tuple(journal.evaluations),
            best=journal.best,
            seconds=now_s - journal.began_s,
            examples_per_s=journal.examples / max(now_s - journal.second_s, 1e-9),
            checkpoint=self._saver.written,
            final=journal.final,
            moved_bytes=journal.standing.moved_bytes,
            saved_bytes=journal.standing.saved_bytes,
        )
