"""The log of a run: JSON lines, see `dbgraph.metrics.RECORDS`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import nullcontext

from dbgraph.metrics import LogWriter
from dbgraph.train.history import Evaluation
from dbgraph.train.setup import Setup


class RunLog:
    """The log of JSON lines, if there is to be one."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        path = setup.options.log
        resume = setup.begin.step > 0
        self._writer = LogWriter(os.fspath(path), resume=resume) if path is not None else None
        self._began_s = self._told_s = time.monotonic()
        self._told = setup.begin.step

    def __enter__(self) -> None:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise

    def _start(self) -> None:
        setup, plan = self._setup, self._setup.plan
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
            algorithm=str(setup.many) if setup.many else None,
            seed=setup.batches.seed,
            examples=setup.batches.length,
            batch=plan.batch,
            steps=setup.steps,
        )

    def __exit__(self, *error: object) -> None:
        with self._writer or nullcontext():
            pass

    def write(self, kind: str, step: int, **values: object) -> None:
        if self._writer is not None:
            elapsed_s = round(time.monotonic() - self._began_s, 3)
            self._writer.write(kind, step=step, elapsed_s=elapsed_s, **values)

    def trained(self, step: int, losses: Mapping[str, float], accuracy: float | None) -> None:
        now_s = time.monotonic()
        rate = (step - self._told) * self._setup.examples_per_step / max(now_s - self._told_s, 1e-9)
        self._told, self._told_s = step, now_s
        more = {} if accuracy is None else {"accuracy": accuracy}
        self.write(
            "train",
            step,
            epoch=self._setup.batches.epoch(step - 1),
            **_flat(losses),
            **more,
            examples_per_s=round(rate, 1),
        )

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        more = {} if evaluation.accuracy is None else {"accuracy": evaluation.accuracy}
        losses = {**evaluation.terms, "loss": evaluation.loss}
        self.write("eval", evaluation.step, **_flat(losses), **more, best=best)


def _flat(losses: Mapping[str, float]) -> dict[str, object]:
    """The total, and the terms beside it."""
    terms = {name: value for name, value in losses.items() if name != "loss"}
    return {"loss": losses["loss"], **({"terms": terms} if terms else {})}
