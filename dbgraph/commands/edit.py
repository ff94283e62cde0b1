"""`compile --from PLAN`: a plan whose cuts may have been edited, made anew."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dbgraph.commands.base import warn
from dbgraph.errors import PlanError, UsageError

if TYPE_CHECKING:
    from dbgraph.plan.plan import Plan


def open_edited(path: str) -> Plan:
    """A plan whose network keeps all rules; where its graph or its programs are damaged, which are
    to be made anew, it comes without them. Raises UsageError where there is none, PlanError."""
    from dbgraph.ir.verify import verify
    from dbgraph.plan.text import open_cuts, open_plan

    if not os.path.exists(path):
        raise UsageError(f"there is no file {path!r}", hint="--from takes a plan's file")
    try:
        plan = open_plan(path, edited=True)
    except PlanError:
        plan = open_cuts(path)
    try:
        verify(plan.network, "network")
    except PlanError as error:
        raise PlanError(f"{path}: {error.rule}", at=error.at, hint=error.hint) from error
    return plan


@contextmanager
def at_its_line(path: str | None) -> Iterator[None]:
    """A cut that does not fit, reported with the line of the file that it stands in."""
    from dbgraph.passes.partition.given import CutError
    from dbgraph.plan.cuts import SUCH_AS, line_of

    try:
        yield
    except CutError as error:
        assert path is not None  # only a plan's file gives cuts
        line = line_of(Path(path).read_text(encoding="utf-8"), error.node)
        rule = f"{path}: line {line}: cuts: {error.rule}"
        raise PlanError(rule, hint=error.hint or SUCH_AS) from error


def name_of_cuts(plan: Plan) -> str:
    """What the new plan calls its strategy. Without the graph that was made of the cuts nobody can
    tell whether they are still the strategy's."""
    from dbgraph.plan.edited import edited_node

    return "edited" if not len(plan.graph) or edited_node(plan) else plan.strategy


def warn_of_damage(path: str, old: Plan) -> None:
    """Where a plan came without what is made anew."""
    if not len(old.graph):
        warn(f"{path}: its graph and programs can't be read; only its network and cuts were")


def warn_of_edits(plan: Plan) -> None:
    """Where edited cuts hold against what the network's file says, and machines that they leave
    without work."""
    from dbgraph.passes.partition.choice import used_partitions
    from dbgraph.passes.partition.given import against_pins
    from dbgraph.show.words import ranges

    places: Mapping[str, object] = {
        node.layer or node.name: node.source for node in against_pins(plan.network, plan.cuts)
    }
    for layer, source in places.items():
        where = f" at {source}" if source else ""
        warn(f"{layer} is pinned{where} (cut= or dbg.partition); the cuts of the plan overrule it")
    used = used_partitions(plan.cuts)
    if idle := tuple(p for p in range(plan.partitions) if p not in used):
        warn(f"no tile stands on partition {ranges(idle)}")
