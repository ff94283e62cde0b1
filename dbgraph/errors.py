"""The one exception tree.

Every error that a user can cause says four things: the rule, the values that broke it, where in
the user's file, and what to do. The command line prints `str(error)` and exits with `exit_code`.
"""

from __future__ import annotations

from typing import ClassVar

from dbgraph.source import Source


class DbgraphError(Exception):
    """Base of everything that dbgraph raises on purpose.

    Args:
        rule: what must hold, with the values that broke it.
        at: the line of the user's file, where one is to blame.
        hint: what to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, rule: str, *, at: Source | None = None, hint: str = "") -> None:
        self.rule = rule
        self.at = at
        self.hint = hint
        super().__init__(rule)

    def __str__(self) -> str:
        place = f"{self.at}: " if self.at else ""
        advice = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.rule}{advice}"


class UsageError(DbgraphError):
    """The command line or an option is wrong."""

    exit_code = 2


class NetworkError(DbgraphError):
    """The declared network breaks a rule."""

    exit_code = 3


class PlanError(DbgraphError):
    """A plan, or a graph between two passes, breaks a rule."""

    exit_code = 3


class NoCutError(DbgraphError):
    """The network can't be cut as asked."""

    exit_code = 4


class ClusterLostError(DbgraphError):
    """A machine that the job needs is gone."""

    exit_code = 5


class DataError(DbgraphError):
    """A data source or an array does not fit the network."""


class CheckpointError(DbgraphError):
    """A checkpoint can't be written, or does not fit the network."""


class RunError(DbgraphError):
    """The run failed: a value is not finite, a disk is full, a kernel failed."""
