"""What replicas, shards and the coordinator say to each other: one frozen struct per kind.

Arrays travel beside a message, in the order of its parts (`wire.parcel`): a part has as many
arrays as its codec makes (`compress`); a part of rows has two, int64[rows] and the values.

A replica's partition is a stream of pushes. A push is named by (replica, epoch, sequence), with
the same sequence on all partitions and shards; the sequence counts from 1 in each epoch. The
epoch tells a replica from the one that had its number before.

| to a shard | from            | answer                | refused where                          |
|------------|-----------------|-----------------------|----------------------------------------|
| Fetch      | replica, reader | Fetched, perhaps late | not admitted, closed                   |
| Push       | replica         | Pushed                | not admitted, closed, a gap, malformed |
| Stage      | replica         | Staged                | not admitted, closed, malformed        |
| Admit      | coordinator     | Admitted              | that epoch was closed                  |
| Close      | coordinator     | Closed                |                                        |
| Execute    | coordinator     | Executed              | a gap, unknown vectors, nothing staged |
| Mark       | coordinator     | Marked                |                                        |
| Cut        | coordinator     | Snapped, late         | there was no such Mark                 |
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from dbgraph.optim.vectors import PARAMETERS, AnyCommand, Command
from dbgraph.wire.messages import Box, Message

READER = -1
"""The replica number of those who only fetch, such as an evaluation; they need no admission."""

Pairs = tuple[tuple[int, int], ...]


class Part(msgspec.Struct, frozen=True, gc=False):
    """A region of a parameter.

    Attributes:
        bounds: of the region, in the whole parameter.
        rows: only some rows of it follow (a sparse gradient): their indices along axis 0, in the
            whole parameter, and then their values.
    """

    name: str
    bounds: Pairs
    rows: bool = False


class Applied(msgspec.Struct, frozen=True, array_like=True):
    """Which pushes of one stream are in a shard's values: 1 to `sequence`.

    Attributes:
        batches: the batches whose gradients they carried, as ranges.
    """

    replica: int
    partition: int
    epoch: int
    sequence: int
    batches: Pairs = ()


class Reason(StrEnum):
    """Why a shard refuses."""

    UNKNOWN = "not admitted"
    CLOSED = "the epoch is closed"
    GAP = "a number was left out"
    MALFORMED = "malformed"


# --- from a replica ---


class Fetch(Message, frozen=True):
    """Please send these parts of a vector.

    Attributes:
        number: counts the stream's fetches, so that a late answer is told from the awaited one.
        after: answer when this push of the stream is applied: a replica reads what it wrote.
        codec: how the values are to come.
    """

    replica: int
    partition: int
    epoch: int
    number: int
    after: int
    parts: tuple[Part, ...]
    vector: str = PARAMETERS
    codec: str = "none"


class Push(Message, frozen=True):
    """Gradients, to be applied by the shard's rule at once.

    Attributes:
        version, contains: as in the Fetched that the parameters came from, at which the first of
            these gradients was computed.
        batches: whose gradients these are, as ranges.
    """

    replica: int
    partition: int
    epoch: int
    sequence: int
    version: int
    contains: int
    batches: Pairs
    parts: tuple[Part, ...]
    codec: str = "none"


class Stage(Message, frozen=True):
    """Gradients, to be kept until the coordinator commits or discards them."""

    replica: int
    partition: int
    epoch: int
    sequence: int
    parts: tuple[Part, ...]
    codec: str = "none"


# --- to a replica ---


class Fetched(Message, frozen=True):
    """The parts of the Fetch of that number.

    Attributes:
        version: number of pushes applied to them (to that one which had most).
        sequence: the stream's last push that is in them.
    """

    replica: int
    partition: int
    epoch: int
    number: int
    version: int
    sequence: int


class Pushed(Message, frozen=True):
    """All pushes of the stream up to `sequence` are applied, once.

    Attributes:
        version: of what the push changed, after it.
        staleness: of the last one: updates by other replicas between its fetch and itself.
    """

    replica: int
    partition: int
    epoch: int
    sequence: int
    version: int
    staleness: int


class Staged(Message, frozen=True):
    """The staged push is there."""

    replica: int
    partition: int
    epoch: int
    sequence: int


class Refused(Message, frozen=True):
    """A message was not taken; nothing was changed.

    Attributes:
        what: the kind of the message.
        number: its sequence or number.
        detail: for people.
    """

    what: str
    replica: int
    partition: int
    epoch: int
    number: int
    reason: Reason
    detail: str = ""


# --- from the coordinator ---


class Admit(Message, frozen=True):
    """A replica may write from now on, in this epoch; an older epoch of it is closed.

    Attributes:
        partitions: those that push to this shard.
        clock: what its sequence is counted from where replicas are compared (bounded staleness);
            the same on all shards.
    """

    replica: int
    epoch: int
    partitions: tuple[int, ...]
    clock: int = 0


class Close(Message, frozen=True):
    """Nothing more of the replica's epoch is taken."""

    replica: int
    epoch: int


class Commit(Command, frozen=True):
    """out = out + all gradients staged under these (replica, epoch, sequence), each once."""

    pushes: tuple[tuple[int, int, int], ...]
    out: str


class Discard(Command, frozen=True):
    """Forgets what is staged under these (replica, epoch, sequence), or comes late.

    Attributes:
        epochs: (replica, epoch) of which all that is still there is forgotten too.
    """

    pushes: tuple[tuple[int, int, int], ...] = ()
    epochs: tuple[tuple[int, int], ...] = ()


class Update(Command, frozen=True):
    """The rule's update of the parameters by factor * x as their gradient."""

    x: str
    factor: float = 1.0


Order = AnyCommand | Commit | Discard | Update


class Execute(Message, frozen=True):
    """Orders, executed one after another, all or none; `number` counts from 1, without gaps."""

    number: int
    orders: tuple[Order, ...]


class Mark(Message, frozen=True):
    """Copy your state: a snapshot is to be cut from it.

    Attributes:
        vectors: named vectors that belong to it.
    """

    number: int
    vectors: tuple[str, ...] = ()


class Cut(Message, frozen=True):
    """Which pushes the snapshot has: of each (replica, epoch) those up to a sequence."""

    number: int
    cut: tuple[tuple[int, int, int], ...]


# --- between a replica and the coordinator ---


class Join(Message, frozen=True):
    """A process would be a replica.

    Attributes:
        fingerprint: of its network.
    """

    fingerprint: str


class Train(Message, frozen=True):
    """Be this replica, in this epoch, until Rest or End: with a new client, from its step 0."""

    replica: int
    epoch: int


class Work(Message, frozen=True):
    """Batches to train on, as ranges of their numbers."""

    batches: Pairs


class Rest(Message, frozen=True):
    """Nothing is left to take: stop, and when all is acknowledged, leave. There may be another
    Train later."""


class End(Message, frozen=True):
    """Stop, and when all is acknowledged, leave for good.

    Attributes:
        why: for people.
    """

    why: str


class Progress(Message, frozen=True):
    """A step is done.

    Attributes:
        step: how many it has done in this epoch.
        loss: of the step.
        sequence: its last push that all shards have applied.
        applied: the batches that they carried, those told before left out.
        wants: whether it will soon need more batches.
        staleness: of its last push that was applied: updates by others since it fetched.
    """

    replica: int
    epoch: int
    step: int
    loss: float
    sequence: int
    applied: Pairs = ()
    wants: bool = False
    staleness: int = 0


class Leave(Message, frozen=True):
    """All that the replica has pushed is acknowledged; it does nothing more in this epoch."""

    replica: int
    epoch: int


# --- to the coordinator ---


class Admitted(Message, frozen=True):
    replica: int
    epoch: int


class Closed(Message, frozen=True):
    """The last word on the epoch: what is applied of it, by stream."""

    replica: int
    epoch: int
    applied: tuple[Applied, ...]


class Executed(Message, frozen=True):
    """The orders' scalars."""

    number: int
    scalars: tuple[float, ...]


class Marked(Message, frozen=True):
    """The copy is there, with these pushes of the replicas that are at work."""

    number: int
    applied: tuple[Applied, ...]


class Snapped(Message, frozen=True):
    """The shard's part of a snapshot. Arrays: boxes, then scalars.

    Attributes:
        version: updates of the most updated parameter.
        applied: of all streams, also closed ones, since the shard was loaded.
    """

    number: int
    version: int
    applied: tuple[Applied, ...]
    boxes: tuple[Box, ...]
    scalars: tuple[str, ...]


Any = (
    Fetch
    | Push
    | Stage
    | Fetched
    | Pushed
    | Staged
    | Refused
    | Admit
    | Close
    | Execute
    | Mark
    | Cut
    | Join
    | Train
    | Work
    | Rest
    | End
    | Progress
    | Leave
    | Admitted
    | Closed
    | Executed
    | Marked
    | Snapped
)
