"""What a compilation shows of itself: progress on a terminal, graphs after passes."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from dbgraph.commands.base import warn
from dbgraph.units import seconds

if TYPE_CHECKING:
    from dbgraph.compile import Options
    from dbgraph.dsl.network import Network
    from dbgraph.ir.graph import Graph
    from dbgraph.passes.partition.trial import Progress
    from dbgraph.plan.declared import Declared
    from dbgraph.plan.plan import Plan

NAMES = (
    "infer",
    "simplify",
    "microbatch",
    "partition",
    "mode",
    "tile",
    "gradient",
    "communicate",
    "schedule",
)
"""What `--print-after` takes."""


def with_progress(options: Options, quiet: bool) -> Options:
    """On a terminal one line that tells what is being done."""
    if quiet or not sys.stderr.isatty():
        return options

    def after(name: str, graph: Graph) -> None:
        _show(f"{name}: {len(graph):,} nodes")

    def searching(found: Progress) -> None:
        _show(f"best of {found.tried:,} plans: {seconds(found.best_s)} a step ({found.label})")

    return replace(options, watch=after, progress=searching)


def _show(text: str) -> None:
    sys.stderr.write(f"\r\x1b[Kdbgraph: {text}")
    sys.stderr.flush()


def end_progress(quiet: bool) -> None:
    if not quiet and sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def after_passes(
    network: Network | Declared, options: Options, plan: Plan, names: tuple[str, ...]
) -> dict[str, str]:
    """The text after each of these passes, in the order of the passes."""
    if not names:
        return {}
    from dbgraph.compile import make_plans
    from dbgraph.ir.text import print_graph
    from dbgraph.passes.partition.given import Given
    from dbgraph.plan.text import lines_of

    found: dict[str, str] = {}

    def watch(name: str, graph: Graph) -> None:
        if name in names:
            found[name] = f"# after {name}\n{print_graph(graph)}"

    # Again with what was decided: the first time several strategies may have been tried.
    decided = replace(
        options,
        microbatches=plan.microbatches,
        order=plan.order,
        given=Given(plan.cuts),
        watch=watch,
    )
    make_plans(network, decided)
    if "schedule" in names:
        found["schedule"] = "# after schedule\n" + "\n".join(lines_of(plan.programs)) + "\n"
    for name in names:
        if name not in found:
            warn(f"--print-after {name}: this pass is no part of --mode {plan.mode}")
    return found
