"""What a machine's load is: the parameter of the search."""

from __future__ import annotations

from dataclasses import dataclass

Row = tuple[float, float, float]
"""Weights of (work, received, sent)."""

ADDED: tuple[Row, ...] = ((1, 1, 1),)
"""Computing and moving take turns."""
OVERLAPPED: tuple[Row, ...] = ((1, 0, 0), (0, 1, 1))
"""Computing and moving go on at once; one link carries both directions."""
DUPLEX: tuple[Row, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
"""Computing, receiving and sending go on at once."""
WORK_ONLY: tuple[Row, ...] = ((1, 0, 0),)
"""Moving costs this machine nothing."""


@dataclass(frozen=True, slots=True)
class Objective:
    """The busiest machine's load is what the search makes small.

    Attributes:
        rows: for each kind of machine rows of weights (at least 0); its load is the largest of
            `a·work + b·received + c·sent`.
        per_destination: whether a value is sent anew for each machine that reads it (messages
            between machines) or once for all of them (through a host's memory).
        serial: where 1, epochs go one after another, and what is made small is the sum of each
            one's busiest machine; where 0, they overlap, and it is the machine that is busiest
            in all of them together; anything between is a mixture.
    """

    rows: tuple[tuple[Row, ...], ...] = (ADDED,)
    per_destination: bool = False
    serial: float = 0.0

    def load(self, kind: int, work: float, received: float, sent: float) -> float:
        """The load of a machine of this kind."""
        best = 0.0
        for a, b, c in self.rows[kind]:
            best = max(best, a * work + b * received + c * sent)
        return best


Key = tuple[float, float, float]
"""How cuts compare: what is to be made small, the sum of squared loads, what is
moved. Less is better, first things first."""


def better(new: Key, old: Key, tolerance: float) -> bool:
    """Whether `new` is truly less: rounding alone doesn't count.

    Args:
        tolerance: relative; figures nearer than that are equal.
    """
    for a, b in zip(new, old, strict=True):
        if abs(a - b) > tolerance * max(abs(a), abs(b)):
            return a < b
    return False


__all__ = [
    "ADDED",
    "DUPLEX",
    "OVERLAPPED",
    "WORK_ONLY",
    "Key",
    "Objective",
    "Row",
    "better",
]
