"""What actors say to each other beside `ps.messages` and `coordinate.messages`.

Within a replica, partition 0 leads: it alone talks to the coordinator.
"""

from __future__ import annotations

from dbgraph.actor import Hire
from dbgraph.coordinate import messages as batch
from dbgraph.ps import messages as ps
from dbgraph.ps.messages import Pairs
from dbgraph.wire.messages import Box, Message

Ordinal = tuple[int, int]
"""Of a run of the program; it only ever grows, alike on all partitions of a replica."""


# --- within a replica: between its partitions ---


class Cargo(Message, frozen=True):
    """The value of a transfer for one microbatch. Array: the value."""

    ordinal: Ordinal
    transfer: int
    microbatch: int


class Exit(Message, frozen=True):
    """To a partition: end, for good."""


class Reveal(Message, frozen=True):
    """With which parameters did you compute this run? Its loss is not finite."""

    ordinal: Ordinal


class Revealed(Message, frozen=True):
    """With these. Arrays: by leaf; none where they are not kept any more."""

    ordinal: Ordinal
    leaves: tuple[str, ...]


# --- within a replica under Downpour: from its leader ---


class Launch(Message, frozen=True):
    """Be this replica in this epoch, with a new client."""

    replica: int
    epoch: int


class Proceed(Message, frozen=True):
    """Compute the gradients of this batch, as your client's step."""

    epoch: int
    step: int
    batch: int


class Halt(Message, frozen=True):
    """Tell your client to stop."""

    epoch: int


# --- within a replica under Downpour: to its leader ---


class Waits(Message, frozen=True):
    """The client may begin this step."""

    epoch: int
    step: int


class Did(Message, frozen=True):
    """The step is done; `loss` is 0 where the partition does not hold it."""

    epoch: int
    loss: float


class Acknowledged(Message, frozen=True):
    """All shards have applied the pushes up to `sequence`, with these batches.

    Attributes:
        staleness: of the last one, the largest of its shards.
    """

    epoch: int
    sequence: int
    applied: Pairs
    staleness: int


class Quits(Message, frozen=True):
    """The client has ended, all its pushes are acknowledged."""

    epoch: int


class Sacked(Message, frozen=True):
    """A shard takes nothing from this replica any more."""

    epoch: int
    why: str


# --- within a replica under the batch methods: to its leader ---


class Summed(Message, frozen=True):
    """The gradient of the portion, or of the step, is there; `loss` as in `Did`."""

    name: tuple[int, int]
    loss: float


class Stowed(Message, frozen=True):
    """All shards hold the partition's staged push."""

    sequence: int


# --- synchronous SGD: to a replica ---


class Lesson(Message, frozen=True):
    """`coordinate.messages.Contribute`, with the batch to take, of so many examples."""

    replica: int
    epoch: int
    step: int
    sequence: int
    batch: int
    examples: int


# --- coordinator and shards ---


class Restore(Message, frozen=True):
    """Set your state; without `given` the initial one. Arrays: boxes, then scalars."""

    given: bool
    step: int = 0
    boxes: tuple[Box, ...] = ()
    scalars: tuple[str, ...] = ()


class Restored(Message, frozen=True):
    """The state is set."""


class ShardStatus(Message, frozen=True):
    """What the shard has done since it began; see `ps.counters.Counters`.

    Attributes:
        staleness: pairs of a staleness and its number of pushes.
    """

    updates: int
    fetches: int
    pushed_bytes: int
    fetched_bytes: int
    saved_bytes: int
    duplicates: int
    staleness: Pairs = ()


# --- coordinator and evaluators ---


class Appraise(Message, frozen=True):
    """Evaluate the present parameters; they are those after `step` steps."""

    number: int
    step: int


class Holding(Message, frozen=True):
    """The parameters are fetched: they may change now."""

    number: int


class Appraised(Message, frozen=True):
    """What `train.history.Evaluation` has."""

    number: int
    step: int
    loss: float
    terms: dict[str, float]
    accuracy: float | None
    examples: int


Own = (
    Cargo
    | Exit
    | Reveal
    | Revealed
    | Launch
    | Proceed
    | Halt
    | Waits
    | Did
    | Acknowledged
    | Quits
    | Sacked
    | Summed
    | Stowed
    | Lesson
    | Restore
    | Restored
    | ShardStatus
    | Appraise
    | Holding
    | Appraised
    | Hire
)

Any = ps.Any | batch.ToReplica | batch.Computed | batch.Flushed | batch.Contributed | Own
"""Every message that an actor sends: for the wire's codec. Their tags differ."""
