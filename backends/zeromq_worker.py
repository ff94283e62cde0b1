"""The worker's process: one partition of one job.

    python -m dbgraph.backends.zeromq_worker NUMBER     started by a driver on this host, which
                                                        writes one line of settings to its stdin
    dbgraph worker --listen tcp://ADDR:PORT --key FILE  started by a user, calls `serve`

It ends when the driver says so, and by itself when the driver is gone: its stdin closes (on the
driver's host), or the driver is silent.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from dbgraph.backends.hosts import split_endpoint
from dbgraph.backends.keys import KeyPair, read_key_file
from dbgraph.backends.zeromq_folder import remove_if_left
from dbgraph.backends.zeromq_heap import keep_memory
from dbgraph.backends.zeromq_link import Link
from dbgraph.backends.zeromq_player import Player
from dbgraph.backends.zeromq_service import Service
from dbgraph.errors import ClusterLostError, DbgraphError, UsageError
from dbgraph.kernels.cache import use_compilation_cache
from dbgraph.wire.messages import DRIVER

_DRIVER_GONE = 5  # the exit code of a lost cluster


class Settings(msgspec.Struct, frozen=True):
    """What a worker's process is started with; travels by pipe, never by argv or environment.

    Attributes:
        job: in hexadecimal; "" for whichever comes first.
        machine: the module of a plan's worker's `Machine`; "" for the process of an actor.
        folder: of the sockets that are files; removed when the driver is gone.
        memory: the folder of the memory that the job's processes share; likewise.
        core: run on this one alone; -1 for all.
        path: where to look for modules, as the driver does.
    """

    public: str
    secret: str
    bind: str
    job: str = ""
    machine: str = "dbgraph.machine"
    folder: str = ""
    memory: str = ""
    core: int = -1
    path: tuple[str, ...] = ()


def serve(
    listen: str,
    key_file: str | Path,
    forever: bool = False,
    log: Callable[[str], None] | None = None,
    machine: str = "dbgraph.machine",
) -> None:
    """Waits at an address for a driver with the same key, and serves one partition of its job.

    With `forever` it then waits for the next job; each job has a process of its own.

    Raises UsageError for an address that can't be listened on or a key file that is not good.
    """
    say = log or _to_stderr
    key = read_key_file(key_file)
    _, port = split_endpoint(listen)
    if port == 0:
        raise UsageError(f"{listen} names no port", hint="drivers must know it")
    settings = Settings(key.public, key.secret, listen, machine=machine, path=own_path())
    while True:
        process = start_process(settings, "listening", stdin=subprocess.PIPE)
        try:
            endpoint = read_report(process)
            say(f"listening on {endpoint}")
            code = process.wait()
        finally:
            end_process(process)
        say("the job has ended" if code == 0 else f"the job was lost (exit code {code})")
        if not forever:
            return


def own_path() -> tuple[str, ...]:
    """Where this process looks for modules, for those that it starts."""
    return tuple(os.path.abspath(folder) for folder in sys.path)


def start_process(settings: Settings, name: str, stdin: int) -> subprocess.Popen[bytes]:
    """Starts a worker in a session of its own, so that a terminal's Ctrl-C passes it by."""
    # -P: the folder that the user stands in, a clone of dbgraph perhaps, hides no installed module.
    command = [sys.executable, "-P", "-m", "dbgraph.backends.zeromq_worker", name]
    process = subprocess.Popen(
        command, stdin=stdin, stdout=subprocess.PIPE, start_new_session=True, close_fds=True
    )
    assert process.stdin is not None
    try:
        process.stdin.write(msgspec.json.encode(settings) + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it died at once; reading its report tells
    return process


def read_report(process: subprocess.Popen[bytes], within_s: float = 60.0) -> str:
    """Where a worker listens. Waits for it.

    Raises UsageError where it can't listen, ClusterLostError where it does not start.
    """
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], within_s)[0]:
        started = f"a worker (pid {process.pid}) did not start"
        raise ClusterLostError(f"{started} within {within_s:.0f} s")
    line = process.stdout.readline()
    report = json.loads(line) if line.endswith(b"\n") else {}
    if "endpoint" in report:
        return str(report["endpoint"])
    if "error" in report:
        raise UsageError(report["error"], hint=report["hint"])
    raise ClusterLostError(
        f"a worker (pid {process.pid}) did not start: exit code {process.wait()}",
        hint="what it wrote to stderr says why",
    )


def end_process(process: subprocess.Popen[bytes], grace_s: float = 0.0) -> None:
    """Ends and reaps one process, whatever it does: a worker ends when its stdin closes, even
    while its program computes; what does not is sent SIGTERM, then SIGKILL."""
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    for sign, patience_s in ((None, grace_s), (signal.SIGTERM, 1.0), (signal.SIGKILL, None)):
        if process.poll() is not None:
            break
        if sign is not None:
            process.send_signal(sign)
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            continue
    if process.stdout is not None:
        process.stdout.close()


# --- inside the process ---


def main() -> None:
    """The process's life."""
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        sys.exit("this program is started by dbgraph; to start a worker by hand: dbgraph worker")
    settings = msgspec.json.decode(line, type=Settings)
    report = _keep_stdout_for_reports()
    _prepare(settings)
    os._exit(_live(settings, report))  # no time for the destructors of a large program


def _live(settings: Settings, report: int) -> int:
    service = Service(settings.machine) if settings.machine else Player()
    try:
        link = Link(
            KeyPair(settings.public, settings.secret),
            settings.bind,
            job=bytes.fromhex(settings.job) or None,
            memory=settings.memory,
            beat=service.beat,
            on_lost=partial(_on_lost, settings),
        )
    except DbgraphError as error:
        _tell(report, {"error": error.rule, "hint": error.hint})
        return error.exit_code
    link.watch(0, partial(_until_driver_is_gone, settings))
    link.start()
    _tell(report, {"endpoint": link.endpoint})
    try:
        service.run(link)
    except Exception:
        return 1  # the driver has the report
    finally:
        link.close(linger_ms=100)
        sys.stderr.flush()
    return 0


def _prepare(settings: Settings) -> None:
    """Before jax is imported."""
    keep_memory()
    sys.path[:] = [*sys.path, *(p for p in settings.path if p not in sys.path)]
    sys.setswitchinterval(0.0005)  # the I/O thread should not wait long for its turn
    if settings.core >= 0:
        os.sched_setaffinity(0, {settings.core})
    use_compilation_cache()


def _keep_stdout_for_reports() -> int:
    """What else is printed goes to stderr; the pipe stays open until the process ends, which is
    how the starter notices at once."""
    report = os.dup(1)
    os.dup2(2, 1)
    return report


def _tell(report: int, what: dict[str, str]) -> None:
    os.write(report, json.dumps(what).encode() + b"\n")


def _until_driver_is_gone(settings: Settings) -> bool:
    """In the I/O thread: stdin closes when the process that started this one ends."""
    if not os.read(0, 4096):
        _give_up(settings)
    return True


def _on_lost(settings: Settings, peer: int, reason: str) -> None:
    """In the I/O thread: without a driver there is nothing to live for."""
    if peer == DRIVER:
        _to_stderr(f"the driver is gone ({reason}); this worker ends")
        _give_up(settings)


def _give_up(settings: Settings) -> None:
    for folder in filter(None, (settings.folder, settings.memory)):
        remove_if_left(folder)
    os._exit(_DRIVER_GONE)


def _to_stderr(text: str) -> None:
    print(f"dbgraph worker: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
