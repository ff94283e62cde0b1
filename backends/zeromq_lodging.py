"""Where the actors' processes live: on this host, started here; or on listed hosts, where a user
has started `dbgraph worker` for each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import msgspec

from dbgraph.backends.hosts import Hosts, is_loopback, own_address_towards, split_endpoint
from dbgraph.backends.keys import KeyPair, new_key
from dbgraph.backends.zeromq_fleet import Member, core_of, start_all
from dbgraph.backends.zeromq_folder import JobFolder, memory_folder
from dbgraph.backends.zeromq_worker import Settings, own_path
from dbgraph.errors import UsageError

_NEVER_S = 1e9
_SILENCE_S = 8.0
_LAST_PORT = 65535


class Lodging(Protocol):
    """Attributes:
    key: the job's.
    driver: where the driver is to listen.
    driver_silence_s: a driver that is silent for so long is gone.
    folder: that all processes read; None where they are not on this host.
    memory: the folder of the memory that all processes share; "" where they don't.
    """

    key: KeyPair
    driver: str
    driver_silence_s: float
    folder: Path | None
    memory: str

    def start(self, members: Sequence[Member]) -> None:
        """Makes their processes listen, and says where.

        Raises ClusterLostError where one can't start, UsageError where there is no place for it.
        """

    def close(self) -> None:
        """Nothing is left."""


class Here:
    """This host. Processes end as soon as the driver has. What they say to each other goes by
    files and shared memory in folders that are their owner's alone: there is no port, unless one
    is declared.

    Args:
        job: in hexadecimal.
        pin: run each process on one core.
        machine: see `Settings`.
        port: process p listens on port + p; 0: on no port.
    """

    driver_silence_s = _NEVER_S  # it may be stopped, and go on; stdin tells when it has ended

    def __init__(self, job: str, pin: bool, machine: str = "", port: int = 0) -> None:
        self.key = new_key()
        self._pin, self._port = pin, port
        self._files, self._memory = JobFolder(), memory_folder()
        self.folder: Path | None = Path(self._files.path)
        self.memory = self._memory.path if self._memory is not None else ""
        self.driver = self._files.endpoint("driver") if not port else "tcp://127.0.0.1:*"
        self._settings = Settings(
            self.key.public,
            self.key.secret,
            "",
            job=job,
            machine=machine,
            folder=self._files.path,
            memory=self.memory,
            path=own_path(),
        )

    def start(self, members: Sequence[Member]) -> None:
        if self._port and self._port + len(members) > _LAST_PORT:
            raise UsageError(f"{len(members)} ports from {self._port} on end beyond {_LAST_PORT}")
        start_all(members, self._settings_of)

    def _settings_of(self, member: Member) -> Settings:
        at = self._files.endpoint(str(member.number))
        if self._port:
            at = f"tcp://127.0.0.1:{self._port + member.number}"
        core = core_of(member.number, self._pin)
        return msgspec.structs.replace(self._settings, bind=at, core=core)

    def close(self) -> None:
        self._files.remove()
        if self._memory is not None:
            self._memory.remove()


class Listed:
    """The workers of a hosts file, in its order; each takes one process of the job."""

    driver_silence_s = _SILENCE_S
    folder: Path | None = None
    memory = ""

    def __init__(self, hosts: Hosts, key: KeyPair) -> None:
        self.key = key
        self._free = iter(hosts.workers)
        self._count = len(hosts.workers)
        outside = [worker for worker in hosts.workers if not is_loopback(worker)]
        host = own_address_towards(outside[0]) if outside else "127.0.0.1"
        self.driver = hosts.driver or f"tcp://{host}:*"

    def start(self, members: Sequence[Member]) -> None:
        found = list(islice(self._free, len(members)))
        if len(found) < len(members):
            raise UsageError(
                f"the hosts file lists {self._count} workers, and there is none left for "
                f"{members[len(found)].title}",
                hint="list one for each partition; with replicas for each partition of each "
                "replica, one for each shard and one for the evaluation; none is used twice",
            )
        for member, endpoint in zip(members, found, strict=True):
            split_endpoint(endpoint)
            member.endpoint = endpoint

    def close(self) -> None:
        pass
