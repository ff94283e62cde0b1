"""The driver's waiting: one reply of each worker, or the error that ended one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from dbgraph.actor import Awaited
from dbgraph.backends.progress import Progress
from dbgraph.backends.zeromq_events import Arrived, Broken, Happening, Lost
from dbgraph.backends.zeromq_failure import raised
from dbgraph.backends.zeromq_fleet import ENDED, Member
from dbgraph.backends.zeromq_link import Link
from dbgraph.backends.zeromq_watch import Watch
from dbgraph.errors import ClusterLostError, RunError
from dbgraph.ir.region import Region
from dbgraph.results import Part, PartitionResult
from dbgraph.wire.messages import Box, Done, Failed, Message

Kind = TypeVar("Kind", bound=Message)
Reply = tuple[Kind, tuple[np.ndarray, ...]]

_LOOK_S = 0.25


class Waiter:
    """Waits for the members of a job, and says what they wait for.

    Attributes:
        arrived_ns: when the reply of each was there.

    Args:
        report_s, stall_s: see `Watch`.
        progress: the driver's; it is told what it waits for.
    """

    def __init__(
        self,
        link: Link,
        members: tuple[Member, ...],
        report_s: float,
        stall_s: float,
        log: Callable[[str], None],
        progress: Progress,
    ) -> None:
        self._link = link
        self._members = members
        self._report_s, self._stall_s = report_s, stall_s
        self._log, self._progress = log, progress
        self.arrived_ns: dict[int, int] = {}

    def gather(self, kind: type[Kind], within_s: float = float("inf")) -> list[Reply[Kind]]:
        """One reply of each member, by partition. Raises what the workers raised."""
        watch = Watch(self._report_s, self._stall_s)
        replies: dict[int, Reply[Kind]] = {}
        end = time.monotonic() + within_s
        self._wait_for(kind, self._members)
        while len(replies) < len(self._members):
            happening = self._link.take(_LOOK_S)
            if happening is None:
                self._look(watch, [m for m in self._members if m.number not in replies])
            else:
                peer, reply = self._reply(kind, happening)
                replies[peer] = reply
                if isinstance(happening, Arrived):
                    self.arrived_ns[peer] = happening.at_ns
                self._wait_for(kind, [m for m in self._members if m.number not in replies])
            if time.monotonic() > end:
                late = [m for m in self._members if m.number not in replies]
                raise ClusterLostError(f"{late[0]} was not ready within {within_s:.0f} s")
        return [replies[member.number] for member in self._members]

    def _wait_for(self, kind: type[Kind], pending: Sequence[Member]) -> None:
        names = tuple(f"partition {member.number}" for member in pending)
        what = f"{kind.__name__} from {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
        self._progress.moved(waiting=Awaited(what, names) if names else None)

    def _reply(self, kind: type[Kind], happening: Happening) -> tuple[int, Reply[Kind]]:
        match happening:
            case Arrived(peer, parcel) if isinstance(parcel.message, kind):
                return peer, (parcel.message, parcel.arrays)
            case Arrived(peer, parcel) if isinstance(parcel.message, Failed):
                raise raised(f"partition {peer}", parcel.message)
            case Arrived(peer, parcel):
                raise RunError(f"partition {peer} sent {type(parcel.message).__name__}")
            case Lost():
                raise self._loss(happening)
            case Broken(error):
                raise error

    def _look(self, watch: Watch, pending: list[Member]) -> None:
        for member in pending:
            beat, age_s = self._link.beat_of(member.number)
            if line := watch.line(member.number, str(member), beat, age_s):
                self._log(line)
            if reason := watch.stuck(beat, age_s):
                raise self._loss(Lost(member.number, reason))

    def _loss(self, lost: Lost) -> ClusterLostError:
        member = self._members[lost.peer]
        ending = member.ending() if lost.reason == ENDED else ""
        hint = ""
        if not member.answered and member.process is None:
            hint = (
                f"does `dbgraph worker --listen {member.endpoint} --key FILE` run there, with "
                "the same key, and no other job?"
            )
        return ClusterLostError(f"{member} is lost: {ending or lost.reason}", hint=hint)


def result_of(reply: Reply[Done]) -> PartitionResult:
    """A partition's results from its message."""
    done, arrays = reply
    count = len(done.outputs)
    return PartitionResult(
        done.losses, _parts(done.outputs, arrays[:count]), _parts(done.gradients, arrays[count:])
    )


def _parts(boxes: tuple[Box, ...], arrays: tuple[np.ndarray, ...]) -> list[Part]:
    return [(b.name, Region(b.bounds), a) for b, a in zip(boxes, arrays, strict=True)]
