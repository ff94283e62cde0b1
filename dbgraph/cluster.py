"""The machines and links that a plan is made for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """One machine. The default is an ordinary core of an office computer.

    Attributes:
        flop_s: floating point operations per second.
        memory_bytes_s: bytes per second to and from memory.
        memory_bytes: what fits.
        dispatch_s: what starting one segment costs.
    """

    flop_s: float = 50e9
    memory_bytes_s: float = 10e9
    memory_bytes: float = 8 * 2**30
    dispatch_s: float = 60e-6


@dataclass(frozen=True, slots=True)
class Link:
    """What lies between any two machines: gigabit-class by default, 1 GB/s and 100 µs."""

    bytes_s: float = 1e9
    latency_s: float = 100e-6


@dataclass(frozen=True, slots=True)
class Cluster:
    """Machines, one per partition, on a flat network."""

    machines: tuple[MachineSpec, ...]
    link: Link = Link()

    @staticmethod
    def equal(count: int) -> Cluster:
        """What `--partitions N` alone means: N equal machines of the default."""
        return Cluster((MachineSpec(),) * count)
