"""What a timeline shows, simulated or measured alike: tracks, blocks on them, and arrows."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("compute", "update", "send", "receive", "wait", "server", "orders")
"""What a block can be: `server` is an operation of a parameter-server shard, `orders` is what the
driver does."""


@dataclass(frozen=True, slots=True)
class Track:
    """One row: a machine, a shard, a driver.

    Attributes:
        name: what people read, such as "partition 3".
        group: of tracks that belong together, such as "replica 1"; "" for none.
        machine: the partition that it shows, by which views filter; None for others.
    """

    name: str
    group: str = ""
    machine: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Something that takes time on a track.

    Attributes:
        track: index.
        kind: one of `KINDS`.
        start_s, stop_s: from the beginning of the timeline.
        name: what people read, such as "hidden2, microbatch 0".
        about: the layer or the value that it is about; "" for none.
        bytes: of a message; 0 for others.
        critical: whether it is on the critical path, where that is known.
        instruction: which of its partition's program; None where it is not known, or is none.
    """

    track: int
    kind: str
    start_s: float
    stop_s: float
    name: str
    about: str = ""
    bytes: int = 0
    critical: bool = False
    instruction: int | None = None


@dataclass(frozen=True, slots=True)
class Arrow:
    """From a send to its receive.

    Attributes:
        source, to: indices of blocks.
        critical: whether the critical path goes along it, where that is known.
    """

    source: int
    to: int
    critical: bool = False


@dataclass(frozen=True)
class Timeline:
    """All of it.

    Attributes:
        title: what it is of.
        note: how sure its times are, such as how clocks were aligned; "" where they are exact.
    """

    title: str
    tracks: tuple[Track, ...]
    blocks: tuple[Block, ...]
    arrows: tuple[Arrow, ...] = ()
    note: str = ""
