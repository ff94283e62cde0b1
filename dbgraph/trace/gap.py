"""A forecast beside a measurement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gap:
    """A forecast and a measurement.

    Attributes:
        name: what people read, such as "hidden1, hidden2".
        partition: of a segment, of a machine, or of traffic with a shard; None for others.
        link: (from, to), of a link; None for others.
        segment: its number; None for others.
        shard: of traffic with one; None for others.
        size_bytes, messages: in a step, over a link; with a shard of one message, and in all.
        measured_s: the median over the steps, or over the messages with a shard.
    """

    name: str
    forecast_s: float
    measured_s: float
    partition: int | None = None
    link: tuple[int, int] | None = None
    segment: int | None = None
    shard: int | None = None
    size_bytes: int = 0
    messages: int = 0

    @property
    def off_s(self) -> float:
        """How much longer it took than was forecast."""
        return self.measured_s - self.forecast_s


def worst_first(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """By how many seconds they are off."""
    return tuple(sorted(gaps, key=lambda gap: -abs(gap.off_s)))
