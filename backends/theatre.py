"""What runs the actors of a run with replicas: one in a thread each (`theatre_local`), or in a
process each. Their rules are in `dbgraph.actor`.

| what happens                  | what a theatre does                                           |
|-------------------------------|---------------------------------------------------------------|
| run                           | makes and starts shards, evaluators and the first replicas    |
| Hire comes for THEATRE        | makes and starts all partitions of one more replica           |
| an actor is over              | ends its thread or process; tells nobody                      |
| an actor raises               | ends the run: RunError that names it                          |
| a process is gone, or silent  | tells everybody left, by `lost`; drops what it sends later    |
| the coordinator is over       | ends all the others, and returns                              |
| the coordinator raises        | ends all the others, and lets it through                      |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from dbgraph.actor import Actor, Address
from dbgraph.errors import UsageError
from dbgraph.trace.collect import Collector

Make = Callable[[Address], Actor]


@dataclass(frozen=True)
class Cast:
    """Who plays, beside the coordinator.

    Attributes:
        shards: addresses ("shard", 0 …).
        replicas: the numbers of those that play from the start. No number is ever used twice.
        partitions: of each replica: addresses ("replica", number, 0 …).
        evaluators: addresses ("evaluator", 0 …).
        make: called in the thread or process where the actor will live, so that no heavy state
            travels; cloudpickle can carry it.
        collector: of what all of them do, and when; None: nobody notes it.
    """

    shards: int
    replicas: tuple[int, ...]
    partitions: int
    evaluators: int
    make: Make
    collector: Collector | None = None

    def partitions_of(self, replica: int) -> list[Address]:
        return [Address("replica", replica, p) for p in range(self.partitions)]

    @property
    def first(self) -> list[Address]:
        """Those that play from the start."""
        shards = [Address("shard", n) for n in range(self.shards)]
        evaluators = [Address("evaluator", n) for n in range(self.evaluators)]
        return [*shards, *evaluators, *(a for r in self.replicas for a in self.partitions_of(r))]


class Theatre(Protocol):
    """Runs a cast."""

    def run(self, cast: Cast, coordinator: Actor) -> None:
        """Runs until the coordinator is over; it plays in the caller's own thread. Leaves no
        thread, process or port, however it ends.

        Raises RunError where an actor raised, ClusterLostError where none can be started, and
        whatever the coordinator raises, KeyboardInterrupt too.
        """


_MAKERS = {
    "local": ("dbgraph.backends.theatre_local", "LocalTheatre"),
    "zmq": ("dbgraph.backends.theatre_zmq", "ZmqTheatre"),
}


def make_theatre(backend: str, **options: object) -> Theatre:
    """A theatre by its backend's name. Raises UsageError where that has none."""
    if backend not in _MAKERS:
        known = ", ".join(_MAKERS)
        raise UsageError(f"backend {backend!r} has no replicas", hint=f"these do: {known}")
    module, name = _MAKERS[backend]
    try:
        maker = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UsageError(f"backend {backend!r} has no replicas yet", hint="use local") from error
    return maker(**options)  # type: ignore[no-any-return]  # a Theatre
