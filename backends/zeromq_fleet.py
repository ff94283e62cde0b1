"""The workers' processes, as the driver sees them: started here, or listening on other hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from dbgraph.backends.processes import look_at
from dbgraph.backends.zeromq_worker import (
    Settings,
    end_process,
    read_report,
    start_process,
)

ENDED = "its process ended"


@dataclass(slots=True)
class Member:
    """One worker.

    Attributes:
        number: on the wire; of a plan's worker: its partition.
        name: for people; "" for "partition 3".
        process: of a worker on this host; None where a user has started it.
        answered: what it said of itself: "pid 4711 on host".
        began: when it was enlisted, on the clock of `time.monotonic`.
    """

    number: int
    endpoint: str = ""
    name: str = ""
    process: subprocess.Popen[bytes] | None = None
    answered: str = ""
    began: float = field(default_factory=time.monotonic)

    @property
    def title(self) -> str:
        return self.name or f"partition {self.number}"

    def __str__(self) -> str:
        if self.process is not None:
            return f"{self.title} (pid {self.process.pid} on this host)"
        at = f"{self.answered}, {self.endpoint}" if self.answered else self.endpoint
        return f"{self.title} ({at})"

    def condition(self) -> tuple[str, bool]:
        """("pid 4711 on this host: stopped", False): its process, and whether it can run, as far
        as that can be seen from here."""
        if self.process is None:
            return self.answered or self.endpoint, True
        word, alive = look_at(self.process.pid)
        return f"pid {self.process.pid} on this host{word and ': '}{word}", alive

    def let_go(self) -> None:
        """A process on this host ends when its stdin closes; at the latest when it wakes up."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()

    def ending(self) -> str:
        """How a local process ended: "" where it is not known."""
        if self.process is None:
            return ""
        try:
            code = self.process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            return ""
        return _ending(code)


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else "unknown"
    out_of_memory = "; the system does that when memory runs out" if name == "SIGKILL" else ""
    return f"killed by signal {-code} ({name}{out_of_memory})"


def core_of(number: int, pin: bool) -> int:
    """The core that a worker is to run on alone; -1 for all."""
    cores = sorted(os.sched_getaffinity(0)) if pin else [-1]
    return cores[number % len(cores)]


def start_all(members: Sequence[Member], settings: Callable[[Member], Settings]) -> None:
    """Starts processes on this host, all at once, and waits until they listen.

    Raises what `read_report` does; ends the others then.
    """
    try:
        for member in members:
            member.process = start_process(
                settings(member), str(member.number), stdin=subprocess.PIPE
            )
        for member in members:
            assert member.process is not None
            member.endpoint = read_report(member.process)
    except BaseException:
        end_all(members, grace_s=0)
        raise


def end_all(members: Sequence[Member], grace_s: float) -> None:
    """Ends and reaps the local processes, all at once."""
    for member in members:
        member.let_go()
    for member in members:
        if member.process is not None:
            end_process(member.process, grace_s)


def when_ended(
    member: Member, call: Callable[[int, str], None]
) -> tuple[int, Callable[[], bool]] | None:
    """(file, what to do when it can be read): the pipe from a local worker closes with it."""
    process = member.process
    if process is None or process.stdout is None:
        return None
    descriptor = process.stdout.fileno()

    def readable() -> bool:
        if os.read(descriptor, 4096):
            return True
        call(member.number, ENDED)
        return False

    return descriptor, readable
