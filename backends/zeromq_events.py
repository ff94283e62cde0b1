"""What a link tells its owner, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.wire import Parcel


@dataclass(frozen=True, slots=True)
class Arrived:
    """A parcel came.

    Attributes:
        at_ns: when its last byte was there, on the monotonic clock.
    """

    peer: int
    parcel: Parcel
    at_ns: int = 0


@dataclass(frozen=True, slots=True)
class Lost:
    """A peer is silent, or its process ended."""

    peer: int
    reason: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The I/O thread itself failed."""

    error: BaseException


Happening = Arrived | Lost | Broken
