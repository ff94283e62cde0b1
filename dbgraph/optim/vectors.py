"""The vector space that the batch algorithms stand on: named vectors that they never hold.

An algorithm is a generator. It yields a request, is sent the scalars that answer it, and returns
its result: the same text runs in one process (`space.run`) and over parameter server shards
(`dbgraph.coordinate.sandblaster`), where each shard executes the same commands on its part of
every vector (Dean et al., "Large Scale Distributed Deep Networks", NIPS 2012, section 4.2).

A request is one of three:
- a batch of commands, executed in order; its answer has one scalar for each `Dot`, `Norm` and
  `MaxAbs` in it. A batch costs one round trip to every shard, so ask for much at once;
- `Evaluate`: its answer is the loss;
- `Report`: an iteration ended; its answer is empty.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import TypeVar

import msgspec

T = TypeVar("T")
Scalars = tuple[float, ...]

PARAMETERS = "parameters"
"""The vector at which `Evaluate` takes the loss."""


class Command(msgspec.Struct, frozen=True, tag=True, tag_field="command", gc=False):
    """Base of all commands. `out` is written, and made where it does not exist, of the shape of
    the parameters; all others must exist."""


class Zero(Command, frozen=True):
    """out = 0"""

    out: str


class Copy(Command, frozen=True):
    """out = x"""

    x: str
    out: str


class Scale(Command, frozen=True):
    """x = factor * x"""

    factor: float
    x: str


class Axpy(Command, frozen=True):
    """y = factor * x + y"""

    factor: float
    x: str
    y: str


class Add(Command, frozen=True):
    """out = x + y"""

    x: str
    y: str
    out: str


class Multiply(Command, frozen=True):
    """out = x * y, element by element"""

    x: str
    y: str
    out: str


class Dot(Command, frozen=True):
    """The scalar product, summed in float64 whatever the vectors are."""

    x: str
    y: str


class Norm(Command, frozen=True):
    """The square root of the sum of squares."""

    x: str


class MaxAbs(Command, frozen=True):
    """The largest absolute value; not a number where an element is not."""

    x: str


AnyCommand = Zero | Copy | Scale | Axpy | Add | Multiply | Dot | Norm | MaxAbs
Batch = tuple[AnyCommand, ...]


class Evaluate(msgspec.Struct, frozen=True):
    """The loss at the present parameters over the whole batch; its gradient becomes `out`."""

    out: str


class Report(msgspec.Struct, frozen=True):
    """An iteration ended: the parameters are its result, and stay so until the answer.

    The one point at which a run may be stopped or a snapshot taken: in between, the parameters
    are a line search's trial.

    Attributes:
        iteration: counts from 0, the start.
        evaluations: so far.
        loss: at the parameters.
        max_gradient: the largest absolute element of the gradient there.
        step: the length of the step that led here, in units of the direction.
    """

    iteration: int
    evaluations: int
    loss: float
    max_gradient: float
    step: float


Request = Batch | Evaluate | Report
Steps = Generator[Request, Scalars, T]


def is_scalar(command: Command) -> bool:
    """Whether it is answered by a scalar."""
    return isinstance(command, Dot | Norm | MaxAbs)


def combine(batch: Batch, partial: Sequence[Scalars]) -> Scalars:
    """The answer to a batch, from the answers of all shards.

    Args:
        partial: for each shard its scalars; in an order that stays, since sums are rounded.
    """
    asked = filter(is_scalar, batch)
    return tuple(map(_combined, asked, zip(*partial, strict=True)))


def _combined(command: AnyCommand, values: Scalars) -> float:
    match command:
        case Norm():
            return math.hypot(*values)
        case MaxAbs():
            return max(values, key=lambda value: math.inf if math.isnan(value) else value)
        case _:
            return sum(values)
