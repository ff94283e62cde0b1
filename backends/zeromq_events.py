"""What a link tells its owner, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.wire import Parcel


@dataclass(frozen=True, slots=True)
class Arrived:
    """A parcel came."""

    peer: int
    parcel: Parcel


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
