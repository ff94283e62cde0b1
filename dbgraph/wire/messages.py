"""One frozen struct per message kind. Arrays travel beside a message, not in it (`parcel`).

The driver is process -1, a worker is the number of its partition; actors' processes are numbered
in the order in which they enter. Sequenced messages are
delivered exactly once and in order; `Ack`, `Heartbeat`, `Ping` and `Pong` are not sequenced:
a newer one replaces a lost one.
"""

from __future__ import annotations

import msgspec

DRIVER = -1


class Message(msgspec.Struct, frozen=True, tag=True, tag_field="kind", gc=False):
    """Base of all kinds; the tag on the wire is the class's name."""


class Address(msgspec.Struct, frozen=True, gc=False):
    """Where a process listens, and which incarnation of it is meant."""

    process: int
    endpoint: str
    epoch: int


class Box(msgspec.Struct, frozen=True, gc=False):
    """A region of a named tensor; its values are the array at the same place."""

    name: str
    bounds: tuple[tuple[int, int], ...]
    slot: str = ""


# --- from the driver to a worker ---


class Assign(Message, frozen=True):
    """The first message to a worker: which partition it is, and where everybody is.

    Attributes:
        driver: where the driver listens; the worker answers there.
        epoch: the worker's own, for this job.
        peers: the other workers.
        heartbeat_s: send a heartbeat this often.
        silence_s: a driver that is silent for so long is gone.
        actor: the worker is to play an actor, not to run a plan's partition.
        record: it is to note what it does, for a trace.
    """

    partition: int
    driver: str
    epoch: int
    peers: tuple[Address, ...]
    heartbeat_s: float
    silence_s: float
    actor: bool = False
    record: bool = False


class Ship(Message, frozen=True):
    """The job; one array of bytes per name (see `zeromq_job`)."""

    names: tuple[str, ...]


class Load(Message, frozen=True):
    """Set the state; without `given` the initial one. Arrays: boxes, then scalars."""

    given: bool
    step: int = 0
    boxes: tuple[Box, ...] = ()
    scalars: tuple[str, ...] = ()


class Run(Message, frozen=True):
    """One step. Arrays: the examples' numbers, or one per fed leaf.

    Attributes:
        ordinal: counts the steps of this job, of any plan: it tells the values of one step from
            those of the next.
        number: the step's number, for dropout and schedules.
        feeds: the leaves whose arrays follow; None: the worker reads the examples itself.
    """

    ordinal: int
    plan: str
    number: int
    want: tuple[str, ...]
    feeds: tuple[str, ...] | None = None


class Collect(Message, frozen=True):
    """Send the state back."""


class Stop(Message, frozen=True):
    """End."""


# --- between workers ---


class Value(Message, frozen=True):
    """The value of a transfer for one microbatch of a step."""

    ordinal: int
    transfer: int
    microbatch: int


# --- from a worker to the driver ---


class Ready(Message, frozen=True):
    """The worker holds the job."""

    pid: int
    host: str


class Loaded(Message, frozen=True):
    """The state is set."""


class Done(Message, frozen=True):
    """The step's results. Arrays: outputs, then gradients."""

    ordinal: int
    losses: dict[str, float]
    outputs: tuple[Box, ...] = ()
    gradients: tuple[Box, ...] = ()


class Collected(Message, frozen=True):
    """The state. Arrays: boxes, then scalars."""

    step: int
    boxes: tuple[Box, ...]
    scalars: tuple[str, ...]


class Failed(Message, frozen=True):
    """The worker's program raised.

    Attributes:
        error: the name of the exception's class.
        rule, at, hint: as in `DbgraphError`.
        instruction: what the worker was doing.
        trace: the traceback, for the log.
    """

    error: str
    rule: str
    at: str = ""
    hint: str = ""
    instruction: str = ""
    trace: str = ""


# --- between actors, and between the driver and their processes (`dbgraph.actor`) ---


class Enter(Message, frozen=True):
    """From the driver: an actor that one may hear of, or write to, and where it listens.

    Attributes:
        role, number, partition: the actor's address.
    """

    process: int
    endpoint: str
    epoch: int
    role: str
    number: int
    partition: int


class Gone(Message, frozen=True):
    """From the driver: nothing is taken from that process any more.

    Attributes:
        lost: it did not end because it was over.
    """

    process: int
    lost: bool


class Play(Message, frozen=True):
    """From the driver: be this actor. Array: the bytes that make it (see `zeromq_cast`)."""

    role: str
    number: int
    partition: int


class Letter(Message, frozen=True):
    """What one actor says to another, with the arrays that belong to it (see `letter`).

    Attributes:
        name: of the message's class, "dbgraph.ps.messages:Push".
        body: msgpack of its fields.
    """

    name: str
    body: bytes


class Over(Message, frozen=True):
    """To the driver: the actor has nothing more to do, and all that it said has arrived."""


class Recorded(Message, frozen=True):
    """To the driver: what the process noted since the last time (see `trace.events.Noted`).
    Array: the rows."""

    names: tuple[str, ...]
    lost: int
    last: bool


# --- any, not sequenced ---


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a machine is; None for what is not known.

    Attributes:
        step: the step's number.
        position: the index of its program's instruction.
        transfer, microbatch: what it waits for.
    """

    step: int | None = None
    position: int | None = None
    transfer: int | None = None
    microbatch: int | None = None


class Heartbeat(Message, frozen=True):
    """The process lives; where its main thread is.

    Attributes:
        progress: grows with each thing that the main thread has done.
        doing: what it does, for people.
        waiting: what it waits for, "" while it computes.
        since_s: for how long.
        counters: refused frames by reason, and other counts.
        awaits: whom it waits for: "partition 1", "shard 0".
    """

    progress: int = 0
    doing: str = ""
    waiting: str = ""
    since_s: float = 0.0
    counters: dict[str, int] = {}
    awaits: tuple[str, ...] = ()
    place: Place = Place()


class Ack(Message, frozen=True):
    """Everything up to the envelope's `ack` arrived; `gap`: send again from there."""

    gap: bool = False


class Ping(Message, frozen=True):
    """What time is it there? Answered at once (see `trace.clock`)."""

    sent_ns: int


class Pong(Message, frozen=True):
    """The answer: when the question was sent, on the asker's clock; when it was heard and
    answered, on this one."""

    sent_ns: int
    heard_ns: int
    answered_ns: int


# --- inside a parcel ---


class Chunk(Message, frozen=True):
    """The next bytes of an array of the message that is under way."""

    array: int
    offset: int


Any = (
    Assign
    | Ship
    | Load
    | Run
    | Collect
    | Stop
    | Value
    | Ready
    | Loaded
    | Done
    | Collected
    | Failed
    | Enter
    | Gone
    | Play
    | Letter
    | Over
    | Recorded
    | Heartbeat
    | Ack
    | Ping
    | Pong
    | Chunk
)
UNSEQUENCED = (Heartbeat, Ack, Ping, Pong)
