"""`dbgraph compile`: a network's file becomes a plan."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from dbgraph.commands.base import (
    AS_JSON,
    NETWORK,
    QUIET,
    check_target,
    explained,
    load_network,
    print_json,
    story,
    warn,
    write_file,
)

if TYPE_CHECKING:
    from dbgraph.compile import Options, Watch
    from dbgraph.dsl.network import Network
    from dbgraph.ir.graph import Graph
    from dbgraph.plan.plan import Plan

_EPILOG = """\b
Examples:
  dbgraph compile digits.py:network --partitions 4 -o digits.plan
  dbgraph compile digits.py --partitions 2 --microbatches 4 --strategy stages
  dbgraph compile digits.py --partitions 4 --mode inference -o predict.plan
  dbgraph compile digits.py --partitions 2 --print-after tile --quiet
"""
_PASSES = (
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


@click.command(name="compile", epilog=_EPILOG)
@NETWORK
@click.option(
    "-n", "--partitions", type=click.IntRange(min=1), required=True, help="Number of machines."
)
@click.option("-o", "--output", metavar="PLAN", help="Write the plan to this file.")
@click.option(
    "--microbatches",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Equal parts of a batch, computed one after another.",
)
@click.option(
    "--mode",
    type=click.Choice(("training", "evaluation", "inference")),
    default="training",
    show_default=True,
    help="What the plan computes: losses, outputs and gradients; losses and outputs; outputs.",
)
@click.option(
    "--strategy",
    type=click.Choice(("tiles", "stages")),
    help="How to cut; by default the one with the smaller forecast.",
)
@click.option(
    "--print-after",
    "print_after",
    type=click.Choice(_PASSES),
    multiple=True,
    help="Print the graph after this pass; may be repeated. After schedule: the programs.",
)
@AS_JSON
@QUIET
def compile_(
    spec: str,
    partitions: int,
    output: str | None,
    microbatches: int,
    mode: str,
    strategy: str | None,
    print_after: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    """Cut a network for N machines and make its plan.

    FILE.py:FUNCTION names a function that returns a dbg.Network; FUNCTION is `network` unless it
    is given. The table shows each partition's share of a step, how each layer is cut, and the
    forecast; * marks the busiest machine. Nothing is run.
    """
    from dbgraph.compile import Options, forecast, make_plans

    check_target(output)
    start_s = time.perf_counter()
    network = load_network(spec)
    options = Options(partitions, microbatches, strategy, (mode,), _progress(quiet))
    plan = make_plans(network, options)[mode]
    _end_progress(quiet)
    texts = _after_passes(network, options, plan, print_after)
    if not as_json:
        for text in texts.values():
            click.echo(text)
    if output is not None:
        _save(plan, output)
    cost = forecast(plan)
    _print(plan, cost, texts, as_json, quiet)
    if not quiet:
        _warn_of_memory(cost)
        wrote = f"; wrote {output}" if output is not None else ""
        story(f"compiled {plan.name} in {time.perf_counter() - start_s:.2f} s{wrote}")


def _print(plan: Plan, cost: Any, texts: dict[str, str], as_json: bool, quiet: bool) -> None:
    from dbgraph.show.digest import Digest

    digest = Digest(plan, cost)
    if as_json:
        from dbgraph.show.json import plan_json

        print_json({**plan_json(digest), **({"graphs": texts} if texts else {})})
    elif not quiet:
        from dbgraph.show.table import plan_table

        click.echo(plan_table(digest))


def _after_passes(
    network: Network, options: Options, plan: Plan, names: tuple[str, ...]
) -> dict[str, str]:
    """The text after each of these passes, in the order of the passes."""
    if not names:
        return {}
    from dataclasses import replace

    from dbgraph.compile import make_plans
    from dbgraph.ir.text import print_graph
    from dbgraph.plan.text import lines_of

    found: dict[str, str] = {}

    def watch(name: str, graph: Graph) -> None:
        if name in names:
            found[name] = f"# after {name}\n{print_graph(graph)}"

    # Again with the chosen strategy: the first time several were tried.
    make_plans(network, replace(options, strategy=plan.strategy, watch=watch))
    if "schedule" in names:
        found["schedule"] = "# after schedule\n" + "\n".join(lines_of(plan.programs)) + "\n"
    for name in names:
        if name not in found:
            warn(f"--print-after {name}: this pass is no part of --mode {plan.mode}")
    return found


def _save(plan: Plan, path: str) -> None:
    from dbgraph.plan.text import print_plan

    with explained(path):
        write_file(path, print_plan(plan))


def _progress(quiet: bool) -> Watch | None:
    """On a terminal one line that tells which pass was the last."""
    if quiet or not sys.stderr.isatty():
        return None

    def show(name: str, graph: Graph) -> None:
        sys.stderr.write(f"\r\x1b[Kdbgraph: {name}: {len(graph):,} nodes")
        sys.stderr.flush()

    return show


def _end_progress(quiet: bool) -> None:
    if not quiet and sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _warn_of_memory(cost: Any) -> None:
    from dbgraph.cluster import MachineSpec
    from dbgraph.units import bytes_

    limit = MachineSpec().memory_bytes
    over = [p for p, m in enumerate(cost.machines) if m.peak_bytes > limit]
    if over:
        worst = max(over, key=lambda p: cost.machines[p].peak_bytes)
        warn(
            f"{len(over)} of {len(cost.machines)} partitions need more than {bytes_(limit)}; "
            f"partition {worst} needs {bytes_(cost.machines[worst].peak_bytes)}"
        )
