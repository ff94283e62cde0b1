"""What a coordinator and the replicas say to each other: one frozen struct per kind.

A replica is named by (replica, epoch), as in `dbgraph.ps.messages`; what comes from another epoch
than the present one is not read, and nothing is sent to it.
"""

from __future__ import annotations

from dbgraph.wire.messages import Message

# --- Sandblaster: to a replica ---


class Compute(Message, frozen=True):
    """Compute the loss and the gradient of a portion of the batch, and say `Computed`.

    Fetch the parameters first, where the evaluation is another than that of the last `Compute`.

    Attributes:
        evaluation: counts the evaluations.
        portion: its number.
        start, stop: the portion's range of the batch.
        likely: the range that this replica probably gets next, so that its data can be read
            ahead; None where that can't be said.
    """

    replica: int
    epoch: int
    evaluation: int
    portion: int
    start: int
    stop: int
    likely: tuple[int, int] | None = None


class Grant(Message, frozen=True):
    """The portion counts: add weight × its gradient to the accumulator of that sequence. A new
    sequence begins a new accumulator, and what an older one holds is void.

    Attributes:
        weight: the portion's part of the batch, where its gradient is a mean over its examples.
    """

    replica: int
    epoch: int
    evaluation: int
    portion: int
    sequence: int
    weight: float


class Deny(Message, frozen=True):
    """The portion does not count: forget its gradient."""

    replica: int
    epoch: int
    evaluation: int
    portion: int


class Flush(Message, frozen=True):
    """Stage the accumulator on the shards, under its sequence; when all of them have it, say
    `Flushed`."""

    replica: int
    epoch: int
    sequence: int


# --- Sandblaster: from a replica ---


class Computed(Message, frozen=True):
    """The portion's gradient is there; `loss` is the mean over its examples."""

    replica: int
    epoch: int
    evaluation: int
    portion: int
    loss: float


class Flushed(Message, frozen=True):
    """All shards hold all parts of the staged push."""

    replica: int
    epoch: int
    sequence: int


# --- synchronous SGD ---


class Contribute(Message, frozen=True):
    """Fetch the parameters, compute the gradient of this step, and stage it under `sequence`,
    multiplied by its number of examples. A newer `Contribute` calls off an older one."""

    replica: int
    epoch: int
    step: int
    sequence: int


class Contributed(Message, frozen=True):
    """All shards hold the step's staged gradient; `loss` is the mean over its examples."""

    replica: int
    epoch: int
    step: int
    examples: int
    loss: float


ToReplica = Compute | Grant | Deny | Flush | Contribute
