"""Programs: what each partition does, in order. The simulator, the local backend and the zmq
backend execute the same instructions."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Run:
    """Compute a segment for one microbatch."""

    segment: int
    microbatch: int = 0

    def __str__(self) -> str:
        return f"RUN s{self.segment}.{self.microbatch}"


@dataclass(frozen=True, slots=True)
class Send:
    """Send a value; never waits."""

    transfer: int
    microbatch: int = 0

    def __str__(self) -> str:
        return f"SEND t{self.transfer}.{self.microbatch}"


@dataclass(frozen=True, slots=True)
class Recv:
    """Wait until a value is there."""

    transfer: int
    microbatch: int = 0

    def __str__(self) -> str:
        return f"RECV t{self.transfer}.{self.microbatch}"


@dataclass(frozen=True, slots=True)
class Update:
    """Apply the optimiser's rule to all parameters of the partition; once a step."""

    def __str__(self) -> str:
        return "UPDATE"


Instruction = Run | Send | Recv | Update

_KINDS: dict[str, tuple[type[Run | Send | Recv], str]] = {
    "RUN": (Run, "s"),
    "SEND": (Send, "t"),
    "RECV": (Recv, "t"),
}
"""The class of a word, and the letter before its number."""


def parse_instruction(text: str) -> Instruction:
    """The inverse of `str`. Raises ValueError."""
    word, _, rest = text.partition(" ")
    if word == "UPDATE" and not rest:
        return Update()
    if word not in _KINDS:
        raise ValueError(f"{text!r} is no instruction (RECV, RUN, SEND or UPDATE)")
    kind, letter = _KINDS[word]
    number, dot, microbatch = rest.partition(".")
    if not dot or not number.startswith(letter):
        raise ValueError(f"{text!r}: expected {word} {letter}NUMBER.MICROBATCH")
    return kind(int(number[1:]), int(microbatch))


@dataclass(frozen=True, slots=True)
class Transfer:
    """One value that crosses once from one partition to another, for each microbatch.

    Attributes:
        index: its place in `Plan.transfers`.
        value: the node whose value crosses; `recv` is the node that stands for it there.
        source, to: partitions.
        invariant: the value is the same for all microbatches of a step (a parameter), so it
            crosses with the first one only, and all read that.
    """

    index: int
    value: str
    recv: str
    source: int
    to: int
    type: TensorType
    invariant: bool = False

    def times(self, microbatches: int) -> int:
        """How often it crosses in a step."""
        return 1 if self.invariant else microbatches


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes of one partition that are computed together, as one XLA computation.

    Attributes:
        nodes: in topological order.
        inputs: values from outside it: leaves, received values, values of earlier segments.
        outputs: values that are needed after it: to send, by later segments, as results.
    """

    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """One partition's ordered instructions."""

    partition: int
    segments: tuple[Segment, ...]
    instructions: tuple[Instruction, ...]
