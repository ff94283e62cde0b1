"""How the machines of a single plan are doing, every few seconds, also while a step hangs."""

from __future__ import annotations

import time
from contextlib import suppress
from threading import Event, Thread

from dbgraph.backends.base import Backend
from dbgraph.backends.states import DRIVER, MachineState, Telling
from dbgraph.errors import RunError
from dbgraph.train.log import RunLog
from dbgraph.train.standing import Rate

LOG_S = 2.0
"""How often standings are logged."""


class Heard:
    """While open, a thread logs the standing of each machine; and once at the end.

    Args:
        examples: of one step.
    """

    def __init__(self, backend: Backend, log: RunLog, partitions: int, examples: int) -> None:
        self._backend, self._log = backend, log
        self._partitions, self._examples = partitions, examples
        self._rate = Rate()
        self._ending = Event()
        self._thread = Thread(target=self._watch, name="dbgraph-heard", daemon=True)

    def __enter__(self) -> Heard:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.set()
        self._thread.join()
        self._tell()

    def _watch(self) -> None:
        while not self._ending.wait(LOG_S):
            self._tell()

    def _tell(self) -> None:
        log, now_s = self._log, time.monotonic()
        self._rate.at(now_s, log.step * self._examples)
        per_s = round(self._rate.per_s, 1)
        machines = [{**machine, "examples_per_s": per_s} for machine in self._machines(now_s)]
        if machines:  # else the backend has ended
            with suppress(RunError):  # the run meets it at its own next record
                log.write("standing", log.step, replicas=[], shards=[], machines=machines)

    def _machines(self, now_s: float) -> list[dict[str, object]]:
        """A backend that does not tell has heard of all machines when the last step was done."""
        if isinstance(self._backend, Telling):
            return [_row(machine) for machine in self._backend.machines() if machine.name != DRIVER]
        heard_s = round(now_s - self._log.stepped_s, 3)
        return [{"name": f"partition {p}", "heard_s": heard_s} for p in range(self._partitions)]


def _row(machine: MachineState) -> dict[str, object]:
    return {
        "name": machine.name,
        "doing": machine.doing,
        "waiting": machine.waiting,
        "alive": machine.alive,
        "heard_s": round(machine.heard_s, 3),
    }
