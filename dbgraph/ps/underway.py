"""What a client has sent, and is not done with."""

from __future__ import annotations

from dataclasses import dataclass, field

from dbgraph.ps.compress import Arrays
from dbgraph.ps.gradients import Gradient
from dbgraph.ps.messages import Fetch, Pairs, Push


@dataclass(frozen=True, slots=True)
class Send:
    """Please send this to a shard."""

    shard: int
    message: Fetch | Push
    arrays: Arrays = ()


@dataclass(frozen=True, slots=True)
class Base:
    """What a shard's Fetched says of its values: see there."""

    version: int = 0
    sequence: int = 0


@dataclass
class Sent:
    """A push.

    Attributes:
        batches: whose gradients are in it.
        gradients: as the shards see them.
        open: the shards that have not acknowledged it.
    """

    sequence: int
    batches: Pairs
    gradients: dict[str, Gradient]
    open: set[int]


@dataclass
class Fetching:
    """A fetch, until it is used.

    Attributes:
        number: counts the fetches.
        step: before which it was begun.
        after: the last push that was sent before it.
        bases, arrays: by shard, where the answer has come.
    """

    number: int
    step: int
    after: int
    bases: dict[int, Base] = field(default_factory=dict)
    arrays: dict[int, Arrays] = field(default_factory=dict)
