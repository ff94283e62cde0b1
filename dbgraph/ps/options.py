"""Downpour SGD's options (Dean et al. 2012, section 4.1 and Algorithm 7.1)."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.errors import UsageError
from dbgraph.optim.rules import Rule
from dbgraph.ps.compress import CODECS, Compression


@dataclass(frozen=True)
class Downpour:
    """How replicas and shards work together.

    Attributes:
        n_fetch: a replica fetches parameters every so many steps.
        n_push: it pushes its accrued gradients every so many steps.
        local_rate: learning rate of its own descent between two fetches; None: the rule's own
            learning rate. Without effect where n_fetch is 1.
        warm_start: one replica makes so many steps before the others begin.
        max_staleness: no replica fetches while it is more than so many pushes ahead of the
            slowest one ("stale synchronous parallel": Ho et al., NIPS 2013); None: no bound.
        scale_by_staleness: divides the change that a push makes by its staleness, where that is
            above 1 (Zhang et al., "Staleness-aware async-SGD", IJCAI 2016).
        push_compression, fetch_compression: see `Compression`.
        share: a replica is handed so many batches at a time.
    """

    n_fetch: int = 1
    n_push: int = 1
    local_rate: float | None = None
    warm_start: int = 0
    max_staleness: int | None = None
    scale_by_staleness: bool = False
    push_compression: str = "none"
    fetch_compression: str = "none"
    share: int = 16

    def __post_init__(self) -> None:
        for name, least in (("n_fetch", 1), ("n_push", 1), ("share", 1), ("warm_start", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}: must be at least {least}")
        if self.local_rate is not None and not self.local_rate >= 0:
            raise UsageError(f"local_rate is {self.local_rate}: must be at least 0")
        if self.max_staleness is not None and self.max_staleness < 0:
            raise UsageError(f"max_staleness is {self.max_staleness}: must be at least 0")
        Compression.parse(self.push_compression)
        if not CODECS[Compression.parse(self.fetch_compression).codec].whole:
            raise UsageError(
                f"parameters can't be fetched by {self.fetch_compression!r}: it leaves most out",
                hint="it is for pushes",
            )

    def rate(self, rule: Rule) -> float:
        """Of the local descent."""
        given = self.local_rate
        return float(rule.options["learning_rate"]) if given is None else given  # type: ignore[arg-type]  # a number
