"""What training yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dbgraph.state import State


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good the model is on some data.

    Attributes:
        step: number of training steps done before.
        loss: mean over the examples, penalties included; without dropout.
        terms: the mean of each named loss and penalty.
        accuracy: from 0 to 1; None where no output can be compared with an input.
        examples: how many.
    """

    step: int
    loss: float
    terms: Mapping[str, float]
    accuracy: float | None
    examples: int


@dataclass(frozen=True)
class Result:
    """What a training run came to.

    Attributes:
        step: number of steps done, those before resuming included. With replicas: batches under
            Downpour, updates under synchronous SGD, iterations under Sandblaster.
        reason: "steps" (all are done), "early stop", or how Sandblaster's method ended.
        losses: the training loss of every step of this run; under Downpour in the order in which
            they became known.
        evaluations: of this run, on the held-out data, the last one at its end.
        best: the evaluation with the smallest loss, also of the run before resuming.
        seconds: that it took, compiling included.
        examples_per_s: of the training steps, but for the first, which compiles.
        checkpoint: the newest one's folder, if any was saved.
        moved_bytes: between replicas and shards, of gradients and parameters.
        saved_bytes: how many more they would have been without compression.
    """

    step: int
    reason: str
    losses: tuple[float, ...]
    evaluations: tuple[Evaluation, ...]
    best: Evaluation | None
    seconds: float
    examples_per_s: float
    checkpoint: str | None
    final: State = field(repr=False)
    moved_bytes: int = 0
    saved_bytes: int = 0

    @property
    def loss(self) -> float:
        """At the end: on the held-out data, else of the last training step (NaN without one)."""
        if self.evaluations:
            return self.evaluations[-1].loss
        return self.losses[-1] if self.losses else float("nan")

    @property
    def accuracy(self) -> float | None:
        """At the end, on the held-out data."""
        return self.evaluations[-1].accuracy if self.evaluations else None

    def state(self) -> State:
        """Parameters and optimiser slots as they are at the end."""
        return self.final
