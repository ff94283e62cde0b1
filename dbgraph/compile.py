"""The pipeline: a declared network becomes a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dbgraph.cluster import Cluster
from dbgraph.dsl.network import Network
from dbgraph.errors import NoCutError, UsageError
from dbgraph.ir.graph import Graph
from dbgraph.ir.verify import verify
from dbgraph.passes.base import Pass
from dbgraph.passes.communicate import Communicate
from dbgraph.passes.gradient import Gradient
from dbgraph.passes.infer import Infer
from dbgraph.passes.microbatch import Microbatch
from dbgraph.passes.mode import Mode
from dbgraph.passes.partition import STRATEGIES, Partition, Strategy
from dbgraph.passes.schedule import Schedule
from dbgraph.passes.simplify import Simplify
from dbgraph.passes.tile import Tile
from dbgraph.plan.plan import Plan
from dbgraph.simulate import Forecast, simulate

Watch = Callable[[str, Graph], None]
"""Called after each pass with its name and the graph."""


@dataclass(frozen=True)
class Options:
    """How to compile.

    Attributes:
        partitions: number of machines.
        microbatches: equal parts of the batch, computed one after another.
        strategy: a name of STRATEGIES, or None: the one with the smaller forecast.
        modes: the plans to make; they share cuts and placement.
        watch: sees the graph after every pass.
    """

    partitions: int = 1
    microbatches: int = 1
    strategy: str | None = None
    modes: tuple[str, ...] = ("training",)
    watch: Watch | None = None


def front_passes(network: Network, options: Options, strategy: Strategy) -> tuple[Pass, ...]:
    """What all modes share: from the declared network to cuts and places."""
    return (
        Infer(),
        Simplify(),
        Microbatch(network.batch, options.microbatches),
        Partition(options.partitions, strategy),
    )


def back_passes(mode: str) -> tuple[Pass, ...]:
    """From cuts and places to sends and receives."""
    gradient = (Gradient(),) if mode == "training" else ()
    return (Mode(mode), Tile(), *gradient, Communicate())


PASSES = ("infer", "simplify", "microbatch", "partition", "mode", "tile", "gradient", "communicate")
"""The names, in order, that `--print-after` takes; `schedule` is the programs themselves."""


def make_plan(
    network: Network,
    partitions: int = 1,
    *,
    microbatches: int = 1,
    mode: str = "training",
    strategy: str | None = None,
) -> Plan:
    """Compiles a network for a number of machines.

    Raises NetworkError, NoCutError.

    >>> plan = dbg.make_plan(network(), partitions=4)  # doctest: +SKIP
    """
    options = Options(partitions, microbatches, strategy, (mode,))
    return make_plans(network, options)[mode]


def make_plans(network: Network, options: Options) -> dict[str, Plan]:
    """One plan for each mode, all with the same cuts and placement."""
    placed, strategy = _placed(network, options)
    return {mode: _finish(network, options, placed, mode, strategy) for mode in options.modes}


def forecast(plan: Plan, cluster: Cluster | None = None) -> Forecast:
    """What a step of the plan will cost; by default on equal machines of the documented kind."""
    return simulate(
        plan.graph, plan.transfers, plan.programs, cluster or Cluster.equal(plan.partitions)
    )


def _placed(network: Network, options: Options) -> tuple[Graph, str]:
    """The placed graph of the strategy whose busiest machine has least to do."""
    names = [options.strategy] if options.strategy else list(STRATEGIES)
    if options.partitions == 1 and not options.strategy:
        names = ["stages"]  # there is nothing to choose
    found: list[tuple[Graph, str]] = []
    errors: list[NoCutError] = []
    for name in names:
        try:
            found.append((_place(network, options, name), name))
        except NoCutError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    if len(found) == 1:
        return found[0]
    return min(found, key=lambda entry: _busiest_s(network, options, *entry))


def _busiest_s(network: Network, options: Options, placed: Graph, name: str) -> float:
    plan = _finish(network, options, placed, options.modes[0], name, quiet=True)
    return max(machine.busy_s for machine in forecast(plan).machines)


def _place(network: Network, options: Options, name: str) -> Graph:
    if name not in STRATEGIES:
        raise UsageError(f"no strategy {name!r}", hint=f"known: {', '.join(STRATEGIES)}")
    strategy = STRATEGIES[name](Cluster.equal(max(1, options.partitions)))
    return _run(front_passes(network, options, strategy), network.graph, options.watch)


def _finish(
    network: Network,
    options: Options,
    placed: Graph,
    mode: str,
    strategy: str,
    *,
    quiet: bool = False,
) -> Plan:
    watch = None if quiet else options.watch
    graph = _run(back_passes(mode), placed, watch)
    schedule = Schedule(options.partitions, options.microbatches, mode == "training")
    transfers, programs = schedule(graph)
    return Plan(
        name=network.name,
        fingerprint=network.fingerprint,
        mode=mode,
        partitions=options.partitions,
        batch=network.batch,
        microbatches=options.microbatches,
        seed=network.seed,
        strategy=strategy,
        network=network.graph,
        graph=graph,
        transfers=transfers,
        programs=programs,
    )


def _run(passes: Sequence[Pass], graph: Graph, watch: Watch | None) -> Graph:
    for step in passes:
        graph = step(graph)
        verify(graph, step.ensures)
        if watch is not None:
            watch(step.name, graph)
    return graph
