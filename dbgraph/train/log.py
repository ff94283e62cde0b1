"""What becomes known of a run, as records (`dbgraph.metrics.RECORDS`), told to all who listen: the
log's file, the dashboard, and others."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from threading import Lock

from dbgraph import __version__
from dbgraph.errors import DbgraphError, RunError
from dbgraph.metrics import Sink, make_record
from dbgraph.ps.alarm import Alarm
from dbgraph.train.history import Evaluation
from dbgraph.train.setup import Setup
from dbgraph.train.standing import Rate

_LEAST_S = 0.2
"""Steps are told in bursts: a rate over less says nothing."""


class RunLog:
    """The records of one run, while it is open. Threads may write at once.

    Attributes:
        step: steps done.
        stepped_s: when the last one was, by the monotonic clock.

    Args:
        sinks: who is told; they are made when the log is opened, and closed with it.
    """

    def __init__(self, setup: Setup, sinks: Iterable[Sink]) -> None:
        self._setup, self._making = setup, sinks
        self._sinks: Sequence[Sink] = ()
        self._open = ExitStack()
        self._lock = Lock()
        self._rate = Rate()
        self.step = setup.begin.step
        self.stepped_s = self._began_s = time.monotonic()

    def __enter__(self) -> RunLog:
        with ExitStack() as opening:
            for sink in self._making:
                opening.callback(sink.close)
                self._sinks = (*self._sinks, sink)
            self._start()
            self._open = opening.pop_all()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """What ends a run before its time is a record too."""
        with self._open:
            if error is not None:
                interrupted = isinstance(error, KeyboardInterrupt)
                reason = "interrupted" if interrupted else "error"
                said = error.rule if isinstance(error, DbgraphError) else type(error).__name__
                with suppress(RunError):  # a disk that is full has been reported
                    self.write("end", self.step, reason=reason, error=said)

    def _start(self) -> None:
        setup, plan = self._setup, self._setup.plan
        many, held_out = setup.many, setup.data.test
        self.write(
            "start",
            setup.begin.step,
            network=plan.name,
            fingerprint=plan.fingerprint,
            partitions=plan.partitions,
            microbatches=plan.microbatches,
            strategy=plan.strategy,
            backend=setup.options.backend,
            rule=setup.method,
            algorithm=str(many) if many else None,
            algorithm_options=asdict(many.algorithm) if many else {},
            replicas=many.replicas if many else 1,
            shards=many.shards if many else 0,
            seed=setup.batches.seed,
            examples=setup.batches.length,
            held_out=len(held_out) if held_out is not None else 0,
            batch=plan.batch,
            examples_per_step=setup.examples_per_step,
            steps=setup.steps,
            evaluate_every=setup.evaluate_every,
            resumed=setup.begin.path,
            dbgraph=__version__,
            pid=os.getpid(),
            host=socket.gethostname(),
        )

    def write(self, kind: str, step: int, **values: object) -> None:
        """One record. Raises ValueError where it breaks the schema, RunError where a sink does."""
        with self._lock:
            elapsed_s = round(time.monotonic() - self._began_s, 3)
            record = make_record(kind, step=step, elapsed_s=elapsed_s, **values)
            for sink in self._sinks:
                sink.take(record)

    def stepped(
        self, before: int, step: int, losses: Mapping[str, float], accuracy: float | None
    ) -> None:
        """Steps were done, from `before` to `step`; every so many of them are a record."""
        now_s = time.monotonic()
        if before == self._setup.begin.step:
            self._rate.at(now_s, self._examples(step))  # the first one compiles: it has no rate
        self.step, self.stepped_s = step, now_s
        if is_due(before, step, self._setup.options.log_every):
            self._trained(step, now_s, losses, accuracy)

    def _trained(
        self, step: int, now_s: float, losses: Mapping[str, float], accuracy: float | None
    ) -> None:
        more: dict[str, object] = {} if accuracy is None else {"accuracy": accuracy}
        self._rate.at(now_s, self._examples(step))
        if self._rate.seconds >= _LEAST_S:
            more["examples_per_s"] = round(self._rate.per_s, 1)
        epoch = self._setup.batches.epoch(step - 1)
        self.write("train", step, epoch=epoch, **_flat(losses), **more)

    def _examples(self, step: int) -> int:
        return step * self._setup.examples_per_step

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        more = {} if evaluation.accuracy is None else {"accuracy": evaluation.accuracy}
        losses = {**evaluation.terms, "loss": evaluation.loss}
        self.write("eval", evaluation.step, **_flat(losses), **more, best=best)

    def alarmed(self, alarm: Alarm) -> None:
        """Training goes wrong, but goes on."""
        of = {"replica": alarm.replica, "replica_step": alarm.step}
        self.write("alarm", self.step, rule=alarm.rule, **of)


def is_due(before: int, step: int, every: int) -> bool:
    """Whether a multiple of `every` was reached."""
    return every > 0 and step // every > before // every


def _flat(losses: Mapping[str, float]) -> dict[str, object]:
    """The total, and the terms beside it."""
    terms = {name: value for name, value in losses.items() if name != "loss"}
    return {"loss": losses["loss"], **({"terms": terms} if terms else {})}
