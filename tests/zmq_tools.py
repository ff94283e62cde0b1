"""What the tests of the zmq backend share: small plans, backends that leave nothing behind."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.backends.zeromq import ZmqBackend
from dbgraph.job import Job, Step
from dbgraph.plan.plan import Plan

BATCH = 8


def network() -> dbg.Network:
    with dbg.Network("toy", batch=BATCH, seed=1) as net:
        x = dbg.input("x", (6,))
        y = dbg.input("y", (), dtype="int32")
        h = L.Dense(5, activation="sigmoid", name="hidden")(x)
        s = L.Dense(3, name="scores")(h)
        dbg.loss(L.SoftmaxCrossEntropy()(s, y))
        dbg.output("class", L.ArgMax()(s))
    return net


@cache
def toy_plan(partitions: int, microbatches: int = 1, mode: str = "training") -> Plan:
    """Both partitions of it wait for each other in every step."""
    return dbg.make_plan(
        network(), partitions=partitions, microbatches=microbatches, mode=mode, strategy="tiles"
    )


def arrays(count: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(count, 6)).astype(np.float32),
        "y": rng.integers(0, 3, count).astype(np.int32),
    }


def feeds() -> dict[str, np.ndarray]:
    return arrays(BATCH)


def fake_job(partitions: int = 2) -> Job:
    return Job({"train": toy_plan(partitions)})


def step(number: int = 0) -> Step:
    return Step("train", number, feeds=feeds())


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until a condition holds, and fails where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


def two_free_ports() -> int:
    """The first of two that follow each other."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


@contextmanager
def running(
    job: Job | None = None, machine: str = "fake_machine", **options: object
) -> Iterator[ZmqBackend]:
    """A started backend; afterwards no process, port or folder of it is left."""
    backend = ZmqBackend(
        machine=machine,
        **{"heartbeat_s": 0.1, "report_s": 0.5, "log": lambda line: None, **options},  # type: ignore[arg-type]
    )
    try:
        backend.start(job or fake_job())
        pids = backend.processes
        fed, lodging = backend._feeder.folder, backend._lodging
        folders = [fed.name] if fed is not None else []
        if lodging is not None and lodging.folder is not None:
            folders += [str(lodging.folder), lodging.memory]
        yield backend
    finally:
        backend.stop()
    assert not [pid for pid in pids if alive(pid)]
    assert not [folder for folder in folders if os.path.exists(folder)]
