"""What each machine of a run is doing, as far as its driver knows: for `dbgraph doctor`."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable

import msgspec

from dbgraph.actor import Awaited
from dbgraph.backends.progress import Progress
from dbgraph.wire.messages import Heartbeat, Place

DRIVER = "driver"


class MachineState(msgspec.Struct, frozen=True):
    """One machine: a partition, a replica's partition, a shard, the driver.

    Attributes:
        name: "partition 2", "replica 1, partition 0", "shard 0", "driver".
        doing: "RUN s3.0 (hidden3)", "idle".
        waiting: what it waits for; "" while it waits for nothing.
        awaits: the names of the machines that it waits for, where they are known.
        since_s: for how long it has done or waited for that.
        heard_s: how long ago it was last heard of; 0 for what lives in the driver's process.
        process: "pid 4711 on this host: stopped"; "" where it has no process of its own.
        alive: whether that process can run: it is not stopped, and not dead.
        place: where it is in its program, where that is known.
    """

    name: str
    doing: str = ""
    waiting: str = ""
    awaits: tuple[str, ...] = ()
    since_s: float = 0.0
    heard_s: float = 0.0
    process: str = ""
    alive: bool = True
    place: Place = Place()


@runtime_checkable
class Telling(Protocol):
    """A backend, or a theatre, that can say what its machines do.

    Attributes:
        sign_s: each machine gives a sign of life this often; 0 where they live in one process.
    """

    @property
    def sign_s(self) -> float: ...

    def machines(self) -> list[MachineState]:
        """All of them, at any time. Called from another thread than the run's."""


def of_beat(
    name: str, beat: Heartbeat, age_s: float, heard_s: float, process: str = "", alive: bool = True
) -> MachineState:
    """The state that a heartbeat tells, `age_s` after it came."""
    return MachineState(
        name=name,
        doing=beat.doing,
        waiting=beat.waiting,
        awaits=beat.awaits,
        since_s=beat.since_s + age_s,
        heard_s=heard_s,
        process=process,
        alive=alive,
        place=beat.place,
    )


def of_progress(name: str, progress: Progress) -> MachineState:
    """Of a thread of this process; what it waits for is Awaited."""
    return of_beat(name, beat_of(progress, {}), 0.0, 0.0)


def beat_of(progress: Progress, counters: dict[str, int]) -> Heartbeat:
    """A heartbeat of a thread that waits for Awaited, or for nothing."""
    waiting: Awaited | None = progress.waiting
    if waiting is None:
        return Heartbeat(progress.count, progress.doing, "", progress.since_s, counters)
    return Heartbeat(
        progress.count,
        progress.doing,
        waiting.what,
        progress.since_s if waiting.since is None else time.monotonic() - waiting.since,
        counters,
        tuple(map(str, waiting.of)),
        Place(transfer=waiting.transfer, microbatch=waiting.microbatch),
    )
