"""Options of the batch methods."""

from __future__ import annotations

from dataclasses import dataclass

from dbgraph.errors import UsageError
from dbgraph.optim.conjugate import ConjugateGradient
from dbgraph.optim.lbfgs import LBFGS
from dbgraph.optim.minimise import Method
from dbgraph.optim.steepest import GradientDescent
from dbgraph.suggest import did_you_mean

METHODS = ("lbfgs", "cg", "gd")


@dataclass(frozen=True)
class Sandblaster:
    """Batch optimisation over shards and replicas (Dean et al. 2012, section 4.2).

    Attributes:
        method: lbfgs, cg (conjugate gradient) or gd (gradient descent with line search).
        history: pairs that L-BFGS keeps.
        portion: examples of a portion; None: the network's batch. Replicas compute it in runs of
            that batch.
        flush_every: a replica sends its gradients after so many portions.
        patience: overdue is who takes this many times as long as usual.
        duplicate: whether what one replica has may be given to another.
        gtol, ftol: see `optim.minimise.Stop`; None: 1e-6 for float32, SciPy's for float64.
    """

    method: str = "lbfgs"
    history: int = 10
    portion: int | None = None
    flush_every: int = 4
    patience: float = 2.0
    duplicate: bool = True
    gtol: float = 1e-5
    ftol: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            known = ", ".join(METHODS)
            hint = did_you_mean(self.method, METHODS) or f"there are: {known}"
            raise UsageError(f"Sandblaster has no method {self.method!r}", hint=hint)
        for name, least in (("history", 1), ("portion", 1), ("flush_every", 1), ("patience", 1)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise UsageError(f"{name} is {value}: must be at least {least}")
        for name in ("gtol", "ftol"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise UsageError(f"{name} is {value}: must be at least 0")

    def make_method(self, pairs: tuple[int, ...] = ()) -> Method:
        """The method by its name.

        Args:
            pairs: of L-BFGS, that stand on the shards already.
        """
        match self.method:
            case "lbfgs":
                return LBFGS(self.history, pairs=pairs)
            case "cg":
                return ConjugateGradient()
            case _:
                return GradientDescent()


@dataclass(frozen=True)
class Sync:
    """Synchronous SGD with replicas: a step takes the mean gradient of several batches.

    Attributes:
        backups: so many replicas more than gradients are waited for; the slowest ones of each
            step do not count, and their batches are taken again (Chen et al. 2016).
    """

    backups: int = 0

    def __post_init__(self) -> None:
        if self.backups < 0:
            raise UsageError(f"backups is {self.backups}: must be at least 0")
