"""Whether a plan's cuts were edited since its graph and programs were made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dbgraph.ir.graph import Cut
from dbgraph.plan.choice import Choices
from dbgraph.plan.plan import Plan

_NUMBERS = re.compile(r"(?:\.part\d+)?(?:\[\d+\])?$")


def edited_node(plan: Plan) -> str:
    """The first node whose tiles in the plan's graph are not those of its cuts; "" where all
    agree. What the plan's mode leaves out has no tiles."""
    expected = {tile: (name, cut) for name, tile, cut in _tiles(plan.cuts)}
    for node in plan.graph:
        if node.cut is None or not node.inputs:
            continue
        name, cut = expected.get(node.name, (_NUMBERS.sub("", node.name), None))
        if cut != node.cut:
            return name
    return ""


def _tiles(cuts: Choices) -> Iterator[tuple[str, str, Cut]]:
    """(node of the network, tile, its cut), as the `tile` pass names them and writes their
    regions."""
    for name, choice in cuts.items():
        values = {name: choice.cut}
        if choice.inner is not None:
            values |= {f"{name}.part{k}": cut for k, cut in enumerate(choice.inner.partials)}
        for value, cut in values.items():
            for k, (region, partition) in enumerate(cut.tiles()):
                tile = value if cut.count == 1 else f"{value}[{k}]"
                yield name, tile, Cut(region.bounds, (partition,))
