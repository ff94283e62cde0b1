"""The machines and links that a plan is made for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import inf

from dbgraph.errors import UsageError


@dataclass(frozen=True, slots=True)
class Rates:
    """What one kind of work runs at: a roofline, and what starting one op costs.

    Attributes:
        flop_s: floating point operations per second, when arithmetic is the limit.
        memory_bytes_s: bytes per second read and written, when memory is the limit.
        start_s: seconds before the first element.
    """

    flop_s: float
    memory_bytes_s: float
    start_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One machine: what a partition runs on. The default is an ordinary core of an office
    computer.

    Attributes:
        flop_s: floating point operations per second, in float32.
        memory_bytes_s: bytes per second to and from memory.
        memory_bytes: what fits. A plan whose peak is above it is refused.
        dispatch_s: what starting one segment costs.
        cores: how many cores of its host a running segment keeps busy.
        dtype_flop_s: (dtype, FLOP/s) for other dtypes; those not named run at flop_s.
        kinds: (kind of work, dtype or "", its rates) as measured; a kind is that of an op
            (`OpDef.kind`). What is not named here runs at flop_s and memory_bytes_s.
        name: of its group in the cluster file.
    """

    flop_s: float = 50e9
    memory_bytes_s: float = 10e9
    memory_bytes: float = 8 * 2**30
    dispatch_s: float = 60e-6
    cores: int = 1
    dtype_flop_s: tuple[tuple[str, float], ...] = ()
    kinds: tuple[tuple[str, str, Rates], ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """What lies between two machines: gigabit-class by default, 1 GB/s and 100 µs.

    Attributes:
        bytes_s: of each machine's (or host's) own line, in each direction at once.
        latency_s: from the first byte sent to the first byte received.
        message_s: seconds that one message occupies its sender, and its receiver.
        byte_s: further seconds of both for each of its bytes: copies, checksums, encryption.
    """

    bytes_s: float = 1e9
    latency_s: float = 100e-6
    message_s: float = 20e-6
    byte_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Racks:
    """Hosts in racks whose common uplink is narrower than their lines together.

    Attributes:
        hosts: how many a rack holds, in the order of the hosts.
        bytes_s: of one rack's uplink, in each direction.
    """

    hosts: int
    bytes_s: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """Machines, one per partition, and what lies between them.

    Attributes:
        machines: in the order of the partitions.
        link: between hosts.
        hosts: the host of each machine; empty: each has its own.
        host_cores: the cores of each host; empty: as many as its machines keep busy.
        pinned: whether each machine of a host runs on one core alone, in turn; else they share
            all its cores.
        crowding: what each machine of a host that runs adds to the time of all others there, since
            they share memory and caches; 0.1: a tenth. No more run at once than there are cores.
        local: between machines of one host.
        racks: None: a flat network.
        driver_s: what a step takes beside its machines' programs, however many there are.
        control_s: what each machine adds to that: the driver's order to it, and its answer.
    """

    machines: tuple[MachineSpec, ...]
    link: Link = Link()
    hosts: tuple[int, ...] = ()
    host_cores: tuple[int, ...] = ()
    pinned: bool = False
    crowding: float = 0.0
    local: Link = field(default_factory=lambda: Link(bytes_s=4e9, latency_s=60e-6))
    racks: Racks | None = None
    driver_s: float = 0.0
    control_s: float = 0.0

    @staticmethod
    def equal(count: int) -> Cluster:
        """What `--partitions N` alone means: N equal machines of the default."""
        return Cluster((MachineSpec(),) * count)

    def host(self, machine: int) -> int:
        return self.hosts[machine] if self.hosts else machine

    def rack(self, machine: int) -> int:
        return self.host(machine) // self.racks.hosts if self.racks else 0

    def between(self, a: int, b: int) -> Link:
        """The link from one machine to another."""
        return self.local if self.hosts and self.hosts[a] == self.hosts[b] else self.link

    def first(self, count: int) -> Cluster:
        """The first machines alone, in the order of the file. Raises UsageError where there are
        not so many."""
        machines = len(self.machines)
        if count > machines:
            raise UsageError(
                f"the cluster has {machines} machine{'s' * (machines != 1)}, not {count}",
                hint="each partition needs one: raise `count` of a group in the cluster file",
            )
        hosts = 1 + max((self.host(p) for p in range(count)), default=-1)
        return replace(
            self,
            machines=self.machines[:count],
            hosts=self.hosts[:count],
            host_cores=self.host_cores[:hosts],
        )

    @property
    def is_equal(self) -> bool:
        """Whether all machines are alike."""
        return len(set(self.machines)) <= 1


def memory_bytes(machines: Iterable[MachineSpec]) -> float:
    """The smallest memory of some machines; inf of none."""
    return min((m.memory_bytes for m in machines), default=inf)
