"""Records of a run as they are read: typed, and tolerant of other versions' logs.

Their kinds and fields are those of `dbgraph.metrics.RECORDS`. A field that is not known here is
skipped; one that is missing has a default, but for those that a record must have.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

Pairs = tuple[tuple[int, int], ...]


class Record(msgspec.Struct, frozen=True, tag_field="kind"):
    """What all records have.

    Attributes:
        time_s: since 1970; elapsed_s: since the run began, or was resumed.
        step: steps done.
    """

    time_s: float
    step: int
    elapsed_s: float = 0.0


class Start(Record, frozen=True, tag="start"):
    """The fields that are folded; the others are shown as they are."""

    steps: int = 0
    examples_per_step: int = 0


class Train(Record, frozen=True, tag="train"):
    loss: float | None = None
    accuracy: float | None = None
    examples_per_s: float | None = None


class Eval(Record, frozen=True, tag="eval"):
    loss: float | None = None
    accuracy: float | None = None
    best: bool = False


class Checkpoint(Record, frozen=True, tag="checkpoint"):
    path: str = ""


class Replica(msgspec.Struct, frozen=True):
    """See `train.standing.ReplicaStanding`. `heard_s`: how long ago it was heard."""

    replica: int
    doing: str = ""
    examples: int = 0
    examples_per_s: float = 0.0
    staleness: int | None = None
    heard_s: float = 0.0


class Shard(msgspec.Struct, frozen=True):
    """See `train.standing.ShardStanding`."""

    shard: int
    updates: int = 0
    updates_per_s: float = 0.0
    bytes_per_s: float = 0.0
    pushed_bytes_per_s: float = 0.0
    fetched_bytes_per_s: float = 0.0
    pushed_bytes: int = 0
    fetched_bytes: int = 0
    saved_bytes: int = 0
    heard_s: float = 0.0


class Machine(msgspec.Struct, frozen=True):
    """One machine of a single plan.

    Attributes:
        doing: its instruction; waiting: what it waits for, "" where it does not.
        alive: whether its process can run.
    """

    name: str
    doing: str = ""
    waiting: str = ""
    alive: bool = True
    examples_per_s: float = 0.0
    heard_s: float = 0.0


class Standing(Record, frozen=True, tag="standing"):
    """`staleness`: (updates between fetch and push, number of such pushes)."""

    replicas: tuple[Replica, ...] = ()
    shards: tuple[Shard, ...] = ()
    machines: tuple[Machine, ...] = ()
    staleness: Pairs = ()


class Alarm(Record, frozen=True, tag="alarm"):
    rule: str = ""
    replica: int | None = None


class End(Record, frozen=True, tag="end"):
    reason: str = ""
    error: str = ""


Any = Start | Train | Eval | Checkpoint | Standing | Alarm | End


def typed(record: Mapping[str, object]) -> Any | None:
    """A record; None for one of a kind that is not known, or that is not as it should be."""
    try:
        found: Any = msgspec.convert(record, Any)
    except msgspec.ValidationError:
        return None
    return found
