"""What the user fixed for a node: it holds whatever the strategy."""

from __future__ import annotations

from dbgraph.errors import NoCutError
from dbgraph.ir.graph import Graph, Node
from dbgraph.passes.partition.choice import Choice, inner_choice, reductions_of
from dbgraph.passes.partition.team import Team


def pinned(node: Node) -> bool:
    """Whether the user fixed anything of a node."""
    return bool(node.pin.pieces or node.pin.inner or node.pin.partitions)


def pinned_choice(graph: Graph, node: Node, everywhere: tuple[int, ...]) -> Choice | None:
    """The choice that a pin with cuts, or with places, makes; None where it leaves both open.

    Args:
        everywhere: the partitions over which tiles spread that the user placed nowhere.
    """
    pin = node.pin
    if not pinned(node):
        return None
    _check_lengths(node)
    places = pin.partitions or everywhere
    if pin.inner:
        return _inner(graph, node, places)
    if pin.pieces or len(places) == 1:
        return Choice(Team.equal(places).cut(node.type.shape, dict(pin.pieces)))
    return None


def _check_lengths(node: Node) -> None:
    """A microbatch may be too short for a cut that fitted the batch."""
    for axis, pieces in node.pin.pieces:
        if pieces > node.type.shape[axis]:
            raise NoCutError(
                f"{node.name} is cut into {pieces} along axis {axis}, which has "
                f"{node.type.shape[axis]} elements in a microbatch",
                at=node.source,
                hint="use fewer microbatches or fewer pieces",
            )


def _inner(graph: Graph, node: Node, places: tuple[int, ...]) -> Choice:
    known = {reduction.name for reduction in reductions_of(graph, node)}
    for name, _ in node.pin.inner:
        if name not in known:
            rule = f"{node.name}: {node.op} has no reduced axis {name!r}"
            raise NoCutError(rule, at=node.source, hint=f"it has: {', '.join(sorted(known))}")
    outer = dict(node.pin.pieces)
    return inner_choice(graph, node, dict(node.pin.inner), Team.equal(places), outer)


def check_places(graph: Graph, partitions: int) -> None:
    """Every partition that the user named exists. Raises NoCutError."""
    for node in graph:
        for place in node.pin.partitions:
            if place >= partitions:
                raise NoCutError(
                    f"{node.layer or node.name} is placed on partition {place}, "
                    f"but there are {partitions} (0 to {partitions - 1})",
                    at=node.source,
                    hint=f"compile with --partitions {place + 1} or more",
                )
