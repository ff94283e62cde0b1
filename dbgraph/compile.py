"""The compiler: a declared network becomes a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dbgraph.cluster import Cluster
from dbgraph.dsl.network import Network
from dbgraph.ir.verify import verify
from dbgraph.passes.partition.trial import Made, Outcome
from dbgraph.passes.schedule import Schedule
from dbgraph.pipeline import PASSES, Options, Watch, back_passes, run
from dbgraph.placing import NAMES, Placed, place
from dbgraph.plan.declared import Declared
from dbgraph.plan.plan import Plan
from dbgraph.simulate import Forecast, simulate


@dataclass(frozen=True)
class Compiled:
    """
    Attributes:
        plans: by mode; all with the same cuts and placement.
        outcome: of the search, where there was one.
    """

    plans: Mapping[str, Plan]
    outcome: Outcome | None = None


def make_plan(
    network: Network,
    partitions: int = 1,
    *,
    microbatches: int | None = None,
    mode: str = "training",
    strategy: str | None = None,
    cluster: Cluster | None = None,
) -> Plan:
    """Compiles a network for a number of machines.

    Args:
        microbatches: equal parts of the batch; None: what the search finds best.
        strategy: "tiles", "stages" or "auto" (a search, the default).
        cluster: the machines; equal ones of the documented default if not given.

    Raises NetworkError, NoCutError.

    >>> plan = dbg.make_plan(network(), partitions=4)  # doctest: +SKIP
    """
    options = Options(partitions, microbatches, strategy, (mode,), cluster=cluster)
    return make_plans(network, options)[mode]


def make_plans(network: Network | Declared, options: Options) -> Mapping[str, Plan]:
    """One plan for each mode, all with the same cuts and placement."""
    return compiled(network, options).plans


def compiled(network: Network | Declared, options: Options) -> Compiled:
    """The plans, and what the search for them found."""
    placed = place(network, options)
    plans = {mode: _finish(network, options, placed, mode) for mode in options.modes}
    return Compiled(plans, placed.outcome)


def forecast(plan: Plan, cluster: Cluster | None = None) -> Forecast:
    """What a step of the plan will cost; by default on equal machines of the documented kind."""
    return simulate(
        plan.graph, plan.transfers, plan.programs, cluster or Cluster.equal(plan.partitions)
    )


def _finish(network: Network | Declared, options: Options, placed: Placed, mode: str) -> Plan:
    made = _made(options, placed, mode)
    return Plan(
        name=network.name,
        fingerprint=network.fingerprint,
        mode=mode,
        partitions=options.partitions,
        batch=network.batch,
        microbatches=placed.microbatches,
        order=placed.order,
        seed=network.seed,
        strategy=placed.strategy,
        network=network.graph,
        cuts=placed.choices,
        graph=made.graph,
        transfers=made.transfers,
        programs=made.programs,
    )


def _made(options: Options, placed: Placed, mode: str) -> Made:
    """What the later passes make; of its first mode a search has it already."""
    if placed.outcome is not None and mode == options.modes[0]:
        made = placed.outcome.best.made
        verify(made.graph, "communicating")
        return made
    graph = run(back_passes(mode), placed.graph, options.watch)
    schedule = Schedule(options.partitions, placed.microbatches, mode == "training", placed.order)
    return Made(graph, *schedule(graph))


__all__ = [
    "NAMES",
    "PASSES",
    "Compiled",
    "Options",
    "Outcome",
    "Watch",
    "compiled",
    "forecast",
    "make_plan",
    "make_plans",
]
