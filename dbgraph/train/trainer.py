"""`dbg.Trainer`: training in Python."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from dbgraph.actors.audience import Wish
from dbgraph.backends.base import Backend, make_backend
from dbgraph.data import Data, Source, SourceLike, as_source, check
from dbgraph.dsl.network import Network
from dbgraph.errors import DataError, RunError, UsageError
from dbgraph.plan.plan import Plan
from dbgraph.state import State
from dbgraph.trace.recording import Recording
from dbgraph.train.control import control, machine_answers
from dbgraph.train.evaluate import evaluate
from dbgraph.train.history import Evaluation, Result
from dbgraph.train.journal import Wishes
from dbgraph.train.log import RunLog
from dbgraph.train.loop import Loop
from dbgraph.train.options import Options
from dbgraph.train.progress import Progress, make_progress
from dbgraph.train.replicas import ReplicaRun
from dbgraph.train.resume import Begin
from dbgraph.train.saving import Saver
from dbgraph.train.setup import EVALUATE, NO_EVALUATION, Setup, prepare, title
from dbgraph.train.sinks import sinks


class Trainer:
    """Trains a network: by SGD over one plan, or with many replicas of it.

    >>> result = dbg.Trainer(network(), data(), partitions=4, steps=500).train()  # doctest: +SKIP
    >>> result.accuracy, result.loss  # doctest: +SKIP
    >>> dbg.Trainer(
    ...     network(), data(), algorithm=dbg.Downpour(n_fetch=2, n_push=2), replicas=4, shards=2
    ... ).train()  # doctest: +SKIP

    The machines run while it is open as a context manager, or as long as each call takes.

    Args:
        network: what to train; it needs a loss.
        data: a `dbg.Data`, a dict of arrays by input name, a pair (train, test), …
        progress: "auto" (a screen on a terminal, lines elsewhere, on stderr), "bar", "lines",
            "none", or an object with the methods of `Progress`.
        options: see `dbgraph.train.options.Options`: partitions, backend, algorithm (`Downpour`,
            `Sandblaster` or `Sync`), replicas, shards, optimizer,
            microbatches, strategy, plan, seed, steps, epochs, evaluate_every, patience,
            checkpoint, checkpoint_every, resume, log, accuracy, …

    Raises:
        NetworkError, NoCutError, PlanError, DataError, CheckpointError, UsageError: at once, for
            everything that can be checked before the machines start.
    """

    def __init__(
        self,
        network: Network,
        data: object,
        *,
        progress: str | Progress = "auto",
        **options: Any,
    ) -> None:
        if not isinstance(network, Network):
            raise UsageError(f"Trainer takes a dbg.Network, not {type(network).__name__}")
        self.options = Options.of(options)
        self._progress = make_progress(progress)
        self._setup = prepare(network, Data.of(data), self.options)
        self._saver = Saver(self._setup)
        self._wishes: Wishes = SimpleQueue()
        self._backend: Backend | None = None
        self._recording = self._new_recording()
        self._broken = False

    @property
    def plan(self) -> Plan:
        """The training plan."""
        return self._setup.plan

    @property
    def setup(self) -> Setup:
        """All that the run is made of."""
        return self._setup

    def train(self) -> Result:
        """Trains until the steps are done, or patience ends it.

        Raises:
            RunError: a loss or a parameter is not finite: says in which step and layer.
            CheckpointError: a checkpoint can't be written; earlier ones are intact.
            ClusterLostError: a machine is gone.
            KeyboardInterrupt: Ctrl-C; the step was finished and a checkpoint written.
        """
        self._check_whole()
        self._broken = True  # unless it ends well
        began_s = time.monotonic()
        with self._told(), RunLog(self._setup, sinks(self._setup, self._progress)) as log:
            result = self._run(log)
        self._broken = False
        result = replace(result, seconds=time.monotonic() - began_s)
        begin = Begin(result.checkpoint, result.final, self._setup.begin.meta)
        self._setup = replace(self._setup, begin=begin, notes=())
        return result

    def _run(self, log: RunLog) -> Result:
        setup, progress, saver = self._setup, self._progress, self._saver
        if setup.many is not None:
            self.close()  # the machines that are running have another model
            recording = self._new_recording()
            return ReplicaRun(setup, progress, saver, log, self._wishes, recording).run()
        answers = machine_answers(setup, log, lambda: self._backend)  # also while they start
        with control(setup.options.checkpoint, answers), self._running() as backend:
            if self._recording is not None:
                self._recording.wanted = True
            return Loop(backend, setup, progress, saver, log).run()

    def add_replicas(self, count: int = 1) -> None:
        """While `train` runs with replicas, from another thread: so many more of them."""
        self._wishes.put(Wish(add=count))

    def remove_replica(self, number: int) -> None:
        """While `train` runs with replicas, from another thread: one ends after its step."""
        self._wishes.put(Wish(remove=(number,)))

    def evaluate(self, data: SourceLike | None = None) -> Evaluation:
        """How good the model is on the held-out data, or on other data.

        Raises UsageError where there is none, DataError where it does not fit.
        """
        self._check_whole()
        setup = self._setup
        if EVALUATE not in setup.plans:
            raise UsageError(NO_EVALUATION)
        source: Source | None = setup.data.test if data is None else as_source(data)
        if source is None:
            raise DataError("there is no held-out data", hint="give dbg.Data(train, test)")
        if data is not None:
            check(source, self.plan.input_types, padded=True)
        with self._running() as backend:
            return evaluate(backend, setup, source, setup.begin.step, fed=data is not None)

    def state(self) -> State:
        """Parameters and optimiser slots. Raises RunError after a run that failed."""
        self._check_whole()
        with self._running() as backend:
            return backend.collect()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The story of a run, from before the machines start."""
        setup = self._setup
        self._progress.start(title(setup), setup.begin.step, setup.steps, setup.examples_per_step)
        try:
            for note in setup.notes:
                self._progress.note(note)
            yield
        finally:
            self._progress.stop()

    def _check_whole(self) -> None:
        if self._broken:
            raise RunError(
                "the run did not end well: its state is gone",
                hint="its checkpoints are not: make a new Trainer with resume=True",
            )

    def close(self) -> None:
        """Ends the machines. May be called twice."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.stop()
            if self._recording is not None:
                self._recording.finish(sys.exception())

    def __enter__(self) -> Trainer:
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _new_recording(self) -> Recording | None:
        """What the machines note, if there is to be a trace; of a training only."""
        setup, path = self._setup, self.options.trace
        if path is None:
            return None
        return Recording(path, setup.plans, setup.options.backend, self._progress.note)

    def _open(self) -> Backend:
        if self._backend is None:
            options, job = self.options, self._setup.job()
            backend = make_backend(options.backend, **options.backend_options)
            self._recording = self._new_recording()
            if self._recording is not None:
                self._recording.wanted = False
                job = replace(job, collector=self._recording.collector)
            self._backend = backend
            try:
                backend.start(job)
                backend.load(self._setup.begin.state)
            except BaseException:
                self._backend = None
                backend.stop()
                raise
        return self._backend

    @contextmanager
    def _running(self) -> Iterator[Backend]:
        """The machines; ended afterwards if this call has started them, or if it failed."""
        was_open = self._backend is not None
        try:
            yield self._open()
        except BaseException:
            self.close()
            raise
        if not was_open:
            self.close()
