"""`dbgraph compile`: a network's file, or an edited plan, becomes a plan."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from dbgraph.commands.base import (
    AS_JSON,
    QUIET,
    explained,
    no_garbage,
    output_option,
    print_json,
    story,
    warn,
    write_file,
)
from dbgraph.commands.machines import CLUSTER
from dbgraph.commands.passes import NAMES as _PASSES
from dbgraph.commands.passes import after_passes, end_progress, with_progress
from dbgraph.commands.request import Request
from dbgraph.compile import NAMES, Options, Outcome, compiled, forecast
from dbgraph.plan.plan import ORDERS

if TYPE_CHECKING:
    from dbgraph.plan.plan import Plan
    from dbgraph.show.compare import Candidate
    from dbgraph.show.digest import Digest

_EPILOG = """\b
Examples:
  dbgraph compile digits.py:network --partitions 4 -o digits.plan
  dbgraph compile digits.py --partitions 2 --microbatches 4 --strategy stages
  dbgraph compile digits.py --cluster cluster.toml --budget 60 -o digits.plan
  dbgraph compile digits.py --partitions 4 --compare tiles,stages -o digits.plan
  dbgraph compile --from digits.plan -o digits.plan      (its cuts were edited)
  dbgraph compile --from digits.plan --mode inference -o predict.plan
  dbgraph compile digits.py --partitions 2 --print-after tile --quiet
"""


@click.command(name="compile", epilog=_EPILOG)
@click.argument("spec", metavar="[FILE.py[:FUNCTION]]", required=False)
@click.option("-n", "--partitions", type=click.IntRange(min=1), help="Number of machines.")
@CLUSTER
@output_option(metavar="PLAN", help="Write the plan to this file.")
@click.option(
    "--microbatches",
    type=click.IntRange(min=1),
    help="Equal parts of a batch, computed one after another  [default: what a search finds, or 1]",
)
@click.option(
    "--order",
    type=click.Choice(ORDERS),
    help="Of microbatches: one forward, one backward; or all forward first  [default: what a "
    "search finds, or 1f1b]",
)
@click.option(
    "--mode",
    type=click.Choice(("training", "evaluation", "inference")),
    help="What the plan computes: losses, outputs and gradients; losses and outputs; outputs"
    "  [default: training]",
)
@click.option(
    "--strategy",
    type=click.Choice(NAMES),
    help="How to cut; auto, a search, is the default.",
)
@click.option(
    "--compare",
    metavar="A,B,…",
    help="Compile with each of these strategies, print them side by side, keep the best.",
)
@click.option(
    "--from",
    "source",
    metavar="PLAN",
    help="Take network, cuts and, unless they are given here, the other options from this plan; "
    "its section `cuts` may have been edited.",
)
@click.option(
    "--budget",
    type=click.FloatRange(min=0.0),
    metavar="SECONDS",
    help=f"What a search may take  [default: {Options.budget_s:g}]",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="So many plans a search may try, however long it takes: same seed, same plan.",
)
@click.option("--seed", default=0, show_default=True, help="Of a search.")
@click.option(
    "--print-after",
    "print_after",
    type=click.Choice(_PASSES),
    multiple=True,
    help="Print the graph after this pass; may be repeated. After schedule: the programs.",
)
@AS_JSON
@QUIET
@no_garbage()
def compile_(output: str | None, as_json: bool, quiet: bool, **asked: Any) -> None:
    """Cut a network for N machines and make its plan.

    FILE.py:FUNCTION names a function that returns a dbg.Network; FUNCTION is `network` unless it
    is given. The table shows each partition's share of a step, how each layer is cut, and the
    forecast; * marks the busiest machine. Nothing is run.

    With --from the network is the plan's own, or FILE.py's where that is given too. The cuts of
    the plan hold, even against pins (cut=, dbg.partition) in the network's file; a warning then
    says so.
    """
    start_s = time.perf_counter()
    request = Request(**asked)
    request.check()
    plan, candidates, texts = _compiled(request, quiet)
    if not as_json:
        for text in texts.values():
            click.echo(text)
    if output is not None:
        _save(plan, output)
    _print(request, plan, candidates, texts, as_json, quiet)
    if not quiet:
        wrote = f"; wrote {output}" if output is not None else ""
        story(f"compiled {plan.name} in {time.perf_counter() - start_s:.2f} s{wrote}")


def _compiled(request: Request, quiet: bool) -> tuple[Plan, list[Candidate], dict[str, str]]:
    """The plan, what it was compared with, and the graphs after passes."""
    from dbgraph.commands.compare import compare, names_in
    from dbgraph.commands.edit import at_its_line, warn_of_damage, warn_of_edits

    names = names_in(request.compare) if request.compare is not None else []
    candidates: list[Candidate] = []
    outcome: Outcome | None = None
    network = request.network
    options = with_progress(request.options, quiet)
    try:
        with at_its_line(request.source):
            if names:
                plan, candidates = compare(network, options, names)
            else:
                made = compiled(network, options)
                plan, outcome = made.plans[options.modes[0]], made.outcome
    finally:
        end_progress(quiet)
    if outcome is not None and not quiet:
        story(_searched(outcome))
    if request.source is not None and request.old is not None and not quiet:
        warn_of_damage(request.source, request.old)
        warn_of_edits(plan)
    return plan, candidates, after_passes(network, request.options, plan, request.print_after)


def _searched(outcome: Outcome) -> str:
    from dbgraph.passes.search import PROVED_GAP
    from dbgraph.units import seconds

    steps = {**outcome.strategies, "auto": outcome.best.forecast.step_s}
    found = ", ".join(f"{name} {seconds(step_s)}" for name, step_s in steps.items())
    text = f"searched {outcome.tried:,} plans; a step: {found}"
    if not outcome.estimate_s:
        return text
    if outcome.gap <= PROVED_GAP:
        return f"{text}; proved: its tiles can't be placed better, by estimate"
    most = f"{outcome.gap:.0%}"
    return f"{text}; placing its tiles otherwise can't save more than {most}, by estimate"


def _save(plan: Plan, path: str) -> None:
    from dbgraph.plan.seal import sealed
    from dbgraph.plan.text import plan_lines
    from dbgraph.plan.verify import verify_plan

    verify_plan(plan)
    with explained(path):
        write_file(path, sealed(plan_lines(plan)))


def _print(
    request: Request,
    plan: Plan,
    candidates: list[Candidate],
    texts: dict[str, str],
    as_json: bool,
    quiet: bool,
) -> None:
    from dbgraph.show.compare import compare_json, compare_table
    from dbgraph.show.digest import Digest

    cluster = request.cluster
    digest = Digest(plan, forecast(plan, cluster), cluster, request.cluster_file or "")
    if as_json:
        from dbgraph.show.json import plan_json

        compared = {"candidates": compare_json(candidates)} if candidates else {}
        print_json({**plan_json(digest), **compared, **({"graphs": texts} if texts else {})})
    elif not quiet:
        from dbgraph.show.table import headline, outlook, plan_table

        if candidates:
            click.echo(f"{headline(digest)}\n\n{compare_table(candidates)}\n\n{outlook(digest)}")
        else:
            click.echo(plan_table(digest))
    if not quiet:
        _warn_of_memory(digest)


def _warn_of_memory(digest: Digest) -> None:
    from dbgraph.units import bytes_

    specs = digest.cluster.machines
    machines = dict(enumerate(digest.forecast.machines))
    over = {p: one for p, one in machines.items() if one.peak_bytes > specs[p].memory_bytes}
    if over:
        worst = max(over, key=lambda p: over[p].peak_bytes)
        limit = specs[worst].memory_bytes
        warn(
            f"{len(over)} of {digest.plan.partitions} partitions need more memory than they have; "
            f"partition {worst} needs {bytes_(over[worst].peak_bytes)} of {bytes_(limit)}"
        )
