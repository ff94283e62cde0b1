"""Where the actors' processes live: on this host, started here; or on listed hosts, where a user
has started `dbgraph worker` for each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Protocol

import msgspec

from dbgraph.backends.hosts import Hosts, is_loopback, own_address_towards
from dbgraph.backends.keys import KeyPair, new_key
from dbgraph.backends.zeromq_fleet import Member, core_of, start_all
from dbgraph.backends.zeromq_folder import SocketFolder
from dbgraph.backends.zeromq_worker import Settings, own_path
from dbgraph.errors import ClusterLostError, UsageError

_NEVER_S = 1e9
_SILENCE_S = 8.0


class Lodging(Protocol):
    """Attributes:
    key: the job's.
    driver: where the driver is to listen.
    driver_silence_s: a driver that is silent for so long is gone.
    folder: that all processes read; None where they are not on this host.
    """

    key: KeyPair
    driver: str
    driver_silence_s: float
    folder: Path | None

    def start(self, members: Sequence[Member]) -> None:
        """Makes their processes listen, and says where.

        Raises ClusterLostError where one can't, UsageError where there is no place for it.
        """

    def close(self) -> None:
        """Nothing is left."""


class Here:
    """This host: sockets are files, and a process ends as soon as the driver has.

    Args:
        job: in hexadecimal.
        pin: run each process on one core.
    """

    driver_silence_s = _NEVER_S  # it may be stopped, and go on; stdin tells when it has ended

    def __init__(self, job: str, pin: bool) -> None:
        self.key = new_key()
        self._pin = pin
        self._sockets = SocketFolder()
        self.folder: Path | None = Path(self._sockets.path)
        self.driver = self._sockets.endpoint("driver")
        self._settings = Settings(
            self.key.public,
            self.key.secret,
            "",
            job=job,
            machine="",
            folder=self._sockets.path,
            path=own_path(),
        )

    def start(self, members: Sequence[Member]) -> None:
        try:
            start_all(members, self._settings_of)
        except UsageError as error:
            raise ClusterLostError(error.rule, hint=error.hint) from error

    def _settings_of(self, member: Member) -> Settings:
        at = self._sockets.endpoint(str(member.number))
        core = core_of(member.number, self._pin)
        return msgspec.structs.replace(self._settings, bind=at, core=core)

    def close(self) -> None:
        self._sockets.remove()


class Listed:
    """The workers of a hosts file, in its order; each takes one actor."""

    driver_silence_s = _SILENCE_S
    folder: Path | None = None

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
                f"{members[len(found)].name}",
                hint="list one for each shard, one for the evaluation, and one for each "
                "partition of each replica; none is used twice",
            )
        for member, endpoint in zip(members, found, strict=True):
            member.endpoint = endpoint

    def close(self) -> None:
        pass
