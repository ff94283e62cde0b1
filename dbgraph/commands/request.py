"""What a command line asks the compiler for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

from dbgraph.commands.base import load_network
from dbgraph.commands.edit import name_of_cuts, open_edited
from dbgraph.commands.machines import read_machines
from dbgraph.compile import Options
from dbgraph.errors import UsageError
from dbgraph.passes.partition.given import Given
from dbgraph.plan.declared import Declared

if TYPE_CHECKING:
    from dbgraph.cluster import Cluster
    from dbgraph.dsl.network import Network
    from dbgraph.plan.plan import Plan


@dataclass(frozen=True)
class Request:
    """The options of `dbgraph compile`; None: not given.

    Attributes:
        spec: FILE.py:FUNCTION.
        source: the plan of `--from`.
        budget: in seconds.
    """

    spec: str | None
    partitions: int | None
    cluster_file: str | None
    microbatches: int | None
    order: str | None
    mode: str | None
    strategy: str | None
    compare: str | None
    source: str | None
    budget: float | None
    steps: int | None
    seed: int
    print_after: tuple[str, ...]

    def check(self) -> None:
        """Before any work is done: what goes together. Raises UsageError."""
        if self.spec is None and self.source is None:
            raise UsageError("compile what?", hint="name a FILE.py, or a plan with --from PLAN")
        if self.source is None and self.partitions is None and self.cluster_file is None:
            raise UsageError(
                "for how many machines?", hint="--partitions N, or --cluster FILE, or both"
            )
        if self.strategy is not None and self.compare is not None:
            raise UsageError("--strategy names one strategy, --compare several; give one of them")
        if self.strategy is not None and self.source is not None:
            raise UsageError(
                "--from takes the cuts of a plan, --strategy makes new ones",
                hint="give one of them, or both ways side by side: --from … --compare …",
            )

    @cached_property
    def old(self) -> Plan | None:
        """Of `--from`."""
        return None if self.source is None else open_edited(self.source)

    @cached_property
    def network(self) -> Network | Declared:
        if self.spec is not None:
            return load_network(self.spec)
        assert self.old is not None  # `check`
        return Declared.of(self.old)

    @cached_property
    def cluster(self) -> Cluster | None:
        if self.cluster_file is None:
            return None
        return read_machines(self.cluster_file, self.partitions or self._old_partitions)

    @property
    def _old_partitions(self) -> int | None:
        return self.old.partitions if self.old else None

    @cached_property
    def options(self) -> Options:
        old = self.old
        count = self.partitions or self._old_partitions
        count = count or (len(self.cluster.machines) if self.cluster else 1)
        microbatches = self.microbatches or (old.microbatches if old else None)
        default_s = Options.budget_s if self.steps is None else inf
        return Options(
            partitions=count,
            microbatches=microbatches,
            strategy=name_of_cuts(old) if old else self.strategy,
            modes=(self.mode or (old.mode if old else "training"),),
            cluster=self.cluster,
            # Who names a cluster alone leaves open how much of it is used.
            may_idle=self.partitions is None and old is None,
            order=self.order or (old.order if old else None),
            given=Given.by(old, microbatches or 1) if old else None,
            budget_s=default_s if self.budget is None else self.budget,
            budget_steps=inf if self.steps is None else self.steps,
            seed=self.seed,
        )
