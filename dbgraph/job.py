"""A job: the plans to run together, and one step of them. Plain data, shared by all backends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dbgraph.data import Source
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan
from dbgraph.trace.collect import Collector


@dataclass(frozen=True)
class Job:
    """What a backend is started with.

    Attributes:
        plans: by name, such as "train" and "evaluate"; they share their partitions and place
            the parameters alike.
        rule: the optimiser's rule that UPDATE applies; None: UPDATE does nothing, and the
            gradients can be asked for.
        sources: by plan name the data that each machine opens itself; a plan without one is fed
            by the driver.
        collector: of what everybody does, and when; it stays with the driver. None: nobody notes
            it.
    """

    plans: Mapping[str, Plan]
    rule: Rule | None = None
    sources: Mapping[str, Source] = field(default_factory=dict)
    collector: Collector | None = None


@dataclass(frozen=True)
class Step:
    """One step of one plan.

    Attributes:
        plan: which of the job's plans.
        number: the step's number, from 0: dropout and schedules depend on it.
        examples: int64[batch], which examples of the plan's source; or
        feeds: for each input the whole batch, axis 0 being the batch.
        want: kinds of results to return, of "loss", "output", "gradient". Losses and terms
            come with "loss".
    """

    plan: str
    number: int = 0
    examples: np.ndarray | None = None
    feeds: Mapping[str, np.ndarray] | None = None
    want: frozenset[str] = frozenset({"loss", "output"})


@dataclass(frozen=True)
class StepResult:
    """What a step yields.

    Attributes:
        losses: "loss" is the total over the batch; each named term beside it.
        outputs: by name, the whole batch.
        gradients: by parameter, whole.
    """

    losses: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    gradients: Mapping[str, np.ndarray] = field(default_factory=dict)
