"""Placing tiles anew: the cuts stay, the machines of the tiles are searched for.

What is made small is an estimate of the step: in each epoch of the network the busiest machine's
compute and messages.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from dbgraph.cluster import Cluster
from dbgraph.errors import NoCutError
from dbgraph.ir.graph import Cut, Graph
from dbgraph.passes.partition.choice import Choice, Choices, computes, layer_of
from dbgraph.passes.partition.pinned import pinned_choice
from dbgraph.passes.partition.tilegraph import TileGraph, tile_graph
from dbgraph.passes.search import ADDED, Budget, Objective, Place, Problem, Progress, search
from dbgraph.passes.search.assignment import Assignment
from dbgraph.passes.search.atoms import Atoms, condense

# Where epochs hardly count, a search heaps up what has to go on at once.
_LEAST_SERIAL = 0.15


@dataclass(frozen=True)
class Relocation:
    """Tiles at new places.

    Attributes:
        value_s: the estimate for one microbatch, forward and back.
        bound_s: what it is at the least, wherever these tiles stand, if tiny ones stay with those
            that they follow.
        proved: whether nothing better can be.
    """

    choices: Choices
    value_s: float
    bound_s: float
    proved: bool


def relocate(
    graph: Graph,
    choices: Choices,
    cluster: Cluster,
    budget: Budget,
    *,
    microbatches: int = 1,
    step_s: float | None = None,
    seed: int = 0,
    use_exact: bool | None = None,
    progress: Progress | None = None,
) -> Relocation:
    """The same tiles at better places, or at the same ones: a step is never estimated longer than
    before, and machines that had something to do still have.

    Tiles that do not fit the memories, by what is reckoned here, stay where they are if no places
    are found where they do.

    Args:
        graph: of one microbatch, as it enters the partition pass.
        choices: for each node that computes.
        microbatches: of a step.
        step_s: the simulated step, which tells how far epochs overlap. None: what holds for
            layers that are all cut over all machines.
        seed, use_exact, progress: see `dbgraph.passes.search.search`.
    """
    tiles = tile_graph(graph, choices, cluster)
    atoms = condense(_roomy(tiles.problem))
    serial = 0.5 + 0.5 / microbatches
    if step_s is not None:
        serial = _seriality(atoms, tiles.start, step_s / microbatches)
    objective = step_objective(tiles.problem, serial)
    present = Assignment(atoms, objective, atoms.gather(tiles.start))
    try:
        found = search(
            tiles.problem,
            objective,
            budget,
            seed=seed,
            use_exact=use_exact,
            progress=progress,
            start=tiles.start,
            busy=set(tiles.start[: tiles.count]),
        )
    except NoCutError:
        return Relocation(choices, present.value, 0.0, False)
    if found.value > present.value and any(stage == "start" for stage, *_ in found.stages):
        # Only because no machine was to be idle.
        return Relocation(choices, present.value, found.bound, False)
    return Relocation(tiles.choices(found.place), found.value, found.bound, found.proved)


def place_layers(
    graph: Graph,
    cluster: Cluster,
    machines: int,
    budget: Budget,
    *,
    contiguous: bool,
    microbatches: int = 1,
    seed: int = 0,
    use_exact: bool | None = None,
) -> Choices | None:
    """Whole layers on the first machines of a cluster; what the user cut stays cut. Every machine
    gets something to do, if there are enough layers. None where nothing fits.

    Args:
        contiguous: stages of a pipeline: no path of nodes leaves a machine and comes back to it,
            and only the busiest machine counts.
        microbatches: of a step. The more there are, the more the busiest machine of all epochs
            together counts, and the less that of each.
        seed, use_exact: see `dbgraph.passes.search.search`.
    """
    try:
        tiles = layer_tiles(graph, cluster.first(machines), contiguous)
        found = search(
            tiles.problem,
            # Branches go on at once without ever waiting for each other, epochs or not.
            step_objective(tiles.problem, 1 / (1 + microbatches)),
            budget,
            seed=seed,
            use_exact=use_exact,
            busy=range(machines),
        )
    except NoCutError:
        return None
    return tiles.choices(found.place)


def layer_tiles(graph: Graph, cluster: Cluster, contiguous: bool) -> TileGraph:
    """Whole layers, each on one machine, but for what the user cut."""
    everywhere = tuple(range(len(cluster.machines)))
    choices: dict[str, Choice] = {}
    groups: dict[str, str] = {}
    for node in (node for node in graph if computes(node)):
        whole = Choice(Cut.whole(node.type.shape, 0))
        choice = choices[node.name] = pinned_choice(graph, node, everywhere) or whole
        if choice.inner is None and choice.cut.count == 1:
            groups[node.name] = layer_of(node)
    return tile_graph(graph, choices, cluster, groups, contiguous=contiguous)


def _roomy(problem: Problem) -> Problem:
    """Without limits of memory: what is there may not fit."""
    machines = tuple(replace(m, memory_bytes=inf) for m in problem.machines)
    return replace(problem, machines=machines)


def step_objective(problem: Problem, serial: float) -> Objective:
    """What puts plans into nearly the order of their simulated steps: computing and messages take
    turns, and each destination takes a message of its own.

    Args:
        serial: see `Objective`. With one microbatch what stands in different epochs can't go on
            at once.
    """
    return Objective((ADDED,) * len(problem.work), per_destination=True, serial=serial)


def _seriality(atoms: Atoms, start: Place, microbatch_s: float) -> float:
    """The share of epochs one after another that makes the estimate of a cut come true."""
    cut = Assignment(atoms, step_objective(atoms.problem, 1.0), atoms.gather(start))
    busiest_s, in_turn_s = max(cut.loads), cut.value
    if in_turn_s <= busiest_s:
        return 1.0
    share = (microbatch_s - busiest_s) / (in_turn_s - busiest_s)
    return min(1.0, max(_LEAST_SERIAL, share))


__all__ = ["Relocation", "layer_tiles", "place_layers", "relocate", "step_objective"]
