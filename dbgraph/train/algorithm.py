"""Which algorithm trains, with how many replicas and shards; checked against the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dbgraph.coordinate.options import Sandblaster, Sync
from dbgraph.errors import UsageError
from dbgraph.ir.types import DTYPE_BYTES
from dbgraph.optim.minimise import Stop
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan
from dbgraph.ps.options import Downpour
from dbgraph.sampler import Batches
from dbgraph.suggest import did_you_mean

Algorithm = Downpour | Sandblaster | Sync

ALGORITHMS: Mapping[str, type[Algorithm]] = {
    "downpour": Downpour,
    "sandblaster": Sandblaster,
    "sync": Sync,
}
DEFAULT_RULE = "momentum:learning_rate=0.05"
DEFAULT_DOWNPOUR_RULE = "adagrad:learning_rate=0.02"
"""The paper's choice; momentum and stale gradients add up to too much."""
ITERATIONS = 10
"""Sandblaster evaluates after so many: each goes over all training data, perhaps several times."""


@dataclass(frozen=True)
class Many:
    """A run with replicas.

    Attributes:
        replicas: that play from the start.
    """

    algorithm: Algorithm
    replicas: int = 1
    shards: int = 1

    @property
    def name(self) -> str:
        return next(name for name, kind in ALGORITHMS.items() if isinstance(self.algorithm, kind))

    @property
    def counted(self) -> int:
        """How many replicas a step of synchronous SGD waits for."""
        backups = self.algorithm.backups if isinstance(self.algorithm, Sync) else 0
        return self.replicas - backups

    @property
    def batches_per_step(self) -> int:
        return self.counted if isinstance(self.algorithm, Sync) else 1

    def __str__(self) -> str:
        return f"{self.name}, {_count(self.replicas, 'replica')}, {_count(self.shards, 'shard')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")


def many(
    algorithm: Algorithm | str | None, replicas: int | None, shards: int | None
) -> Many | None:
    """Raises UsageError for an unknown algorithm, and for options that contradict each other."""
    if algorithm is None:
        for name, given in (("replicas", replicas), ("shards", shards)):
            if given is not None:
                hint = f"choose an algorithm: {', '.join(ALGORITHMS)}"
                raise UsageError(f"{name} is given, but a plain run has none", hint=hint)
        return None
    if isinstance(algorithm, str):
        if algorithm not in ALGORITHMS:
            known = f"there are: {', '.join(ALGORITHMS)}"
            hint = did_you_mean(algorithm, ALGORITHMS) or known
            raise UsageError(f"no algorithm {algorithm!r}", hint=hint)
        algorithm = ALGORITHMS[algorithm]()
    if type(algorithm) not in ALGORITHMS.values():
        kind = type(algorithm).__name__
        raise UsageError(f"algorithm must be dbg.Downpour, Sandblaster or Sync, not {kind}")
    found = Many(algorithm, replicas or 1, shards or 1)
    if found.counted < 1:
        raise UsageError(
            f"{found.replicas} replicas, {found.replicas - found.counted} of them backups: at "
            "least one must count",
            hint="more replicas, or fewer backups",
        )
    return found


def is_sandblaster(chosen: Many | None) -> bool:
    return chosen is not None and isinstance(chosen.algorithm, Sandblaster)


def default_rule(chosen: Many | None) -> str:
    downpour = chosen is not None and isinstance(chosen.algorithm, Downpour)
    return DEFAULT_DOWNPOUR_RULE if downpour else DEFAULT_RULE


def check_fit(chosen: Many, plan: Plan, rule: Rule | None) -> None:
    """Raises UsageError where the algorithm can't train this network, or has no use for a rule.

    Args:
        rule: what is asked for.
    """
    if isinstance(chosen.algorithm, Sandblaster):
        if rule is not None:
            raise UsageError(
                f"optimizer {rule} is given, but Sandblaster's method is "
                f"{chosen.algorithm.method!r}",
                hint="leave the optimizer out",
            )
        node = next((node for node in plan.network if node.op == "dropout"), None)
        if node is not None:
            raise UsageError(
                f"Sandblaster needs a loss that is a function of the parameters: layer "
                f"{node.layer!r} of {plan.name!r} is dropout",
                at=node.source,
                hint="give a network without dropout",
            )


def stop_of(options: Sandblaster, plan: Plan, iterations: int) -> Stop:
    """When Sandblaster stops."""
    widest = max(DTYPE_BYTES[kind.dtype] for kind in plan.parameter_types.values())
    ftol = options.ftol
    if ftol is None:
        ftol = Stop().ftol if widest == 8 else 1e-6
    return Stop(gtol=options.gtol, ftol=ftol, maxiter=iterations, maxfun=max(20 * iterations, 1))


def steps_per_epoch(chosen: Many | None, batches: Batches) -> int:
    """Steps that take each example once: at least 1."""
    if chosen is None:
        return batches.steps_per_epoch
    if is_sandblaster(chosen):
        return 1
    return max(batches.steps_per_epoch // chosen.batches_per_step, 1)
