"""`dbgraph verify`: is a plan right?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dbgraph.commands.base import (
    AS_JSON,
    PLAN,
    QUIET,
    load_plan,
    print_json,
    story,
)
from dbgraph.errors import RunError

if TYPE_CHECKING:
    from dbgraph.numerics import Difference
    from dbgraph.plan.plan import Plan
    from dbgraph.simulate import Forecast

_EPILOG = """\b
Examples:
  dbgraph verify digits.plan
  dbgraph verify digits.plan --numerics
  dbgraph verify digits.plan --numerics --tolerance 1e-4 --seed 7

Exits with 3 where the plan breaks a rule or deadlocks, with 1 where its numbers are wrong.
"""


@click.command(name="verify", epilog=_EPILOG)
@PLAN
@click.option(
    "--numerics",
    is_flag=True,
    help="Run one step on this machine and compare it with the uncut network.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0.0),
    help="Largest difference allowed, relative to the largest element of a value "
    "[default: 1e-9 in float64, 1e-5 in float32].",
)
@click.option("--seed", default=0, show_default=True, help="Of the random inputs and parameters.")
@AS_JSON
@QUIET
def verify(
    plan_file: str,
    numerics: bool,
    tolerance: float | None,
    seed: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check a plan: its rules, deadlocks, and its numbers.

    It holds the graphs and the programs against their rules, pairs every send with its recv, and
    finds deadlocks by a dry run. With --numerics it runs one step of the plan and one of the uncut
    network, both on random inputs, and prints the largest difference of every loss, output and
    gradient.
    """
    from dbgraph.commands.dryrun import check_deadlock
    from dbgraph.compile import forecast

    plan = load_plan(plan_file, anew=True)
    transfers = len(plan.transfers)
    cost = forecast(plan)
    check_deadlock(plan, cost)
    if not as_json and not quiet:
        click.echo(_facts(plan, transfers, cost))
    found: list[Difference] = []
    limit = 0.0
    if numerics:
        found, limit = _numerics(plan, seed, tolerance, quiet)
    wrong = [one for one in found if not one.close]
    if as_json:
        print_json(_summary(plan, transfers, cost, found, limit))
    elif numerics and not quiet:
        click.echo("\n" + _table(found))
    if wrong:
        raise RunError(_verdict(wrong, limit), hint="the plan does not compute its network")
    if found and not as_json and not quiet:
        click.echo(f"\n{_praise(found, limit)}")


def _numerics(
    plan: Plan, seed: int, tolerance: float | None, quiet: bool
) -> tuple[list[Difference], float]:
    from dbgraph.kernels.cache import use_compilation_cache

    use_compilation_cache()
    from dbgraph.numerics import compare, tolerance_of

    if not quiet:
        story("running one step of the plan and one of the uncut network")
    limit = tolerance_of(plan.network) if tolerance is None else tolerance
    return compare(plan, seed=seed, tolerance=tolerance), limit


def _facts(plan: Plan, transfers: int, cost: Forecast) -> str:
    from dbgraph.units import seconds

    segments = sum(len(p.segments) for p in plan.programs)
    steps = sum(len(p.instructions) for p in plan.programs)
    pairs = f"{transfers:,} sends, each with its one recv" if transfers else "nothing is sent"
    return (
        f"{plan.name}: {plan.mode} on {plan.partitions} partitions\n"
        f"rules:    ok, {len(plan.graph):,} nodes in {segments:,} segments\n"
        f"pairs:    ok, {pairs}\n"
        f"dry run:  ok, {steps:,} instructions, no deadlock; forecast {seconds(cost.step_s)} a step"
    )


def _table(found: list[Difference]) -> str:
    from dbgraph.show.columns import columns

    head = ["value", "name", "type", "largest difference", "relative", ""]
    rows = [
        [
            one.kind,
            one.name,
            str(one.type),
            f"{one.absolute:.2g}",
            f"{one.relative:.2g}",
            _remark(one),
        ]
        for one in found
    ]
    return columns(head, rows, left=frozenset({"value", "name", "type", ""}))


def _remark(one: Difference) -> str:
    if not one.close:
        return "WRONG"
    return f"rounding alone makes {one.rounding:.2g}" if one.rounding else ""


def _praise(found: list[Difference], limit: float) -> str:
    within = [one for one in found if one.relative <= limit]
    worst = max((one.relative for one in within), default=0.0)
    text = f"numerics: ok, relative differences up to {worst:.2g} (limit {limit:.2g})"
    rest = len(found) - len(within)
    if rest:
        text += f"; {rest} more differ by no more than rounding their inputs makes"
    return text


def _verdict(wrong: list[Difference], limit: float) -> str:
    worst = max(wrong, key=lambda one: one.relative)
    count = "1 value differs" if len(wrong) == 1 else f"{len(wrong)} values differ"
    return (
        f"{count} from the uncut network by more than {limit:.2g}; the worst is "
        f"{worst.kind} {worst.name}: {worst.absolute:.3g}, relative {worst.relative:.3g}"
    )


def _summary(
    plan: Plan, transfers: int, cost: Forecast, found: list[Difference], limit: float
) -> dict[str, Any]:
    """Keys: plan, fingerprint, transfers, step_s; with --numerics also ok, tolerance and
    differences (kind, name, type, absolute, relative, rounding, ok)."""
    result: dict[str, Any] = {
        "plan": plan.name,
        "fingerprint": plan.fingerprint,
        "transfers": transfers,
        "step_s": cost.step_s,
        "ok": all(one.close for one in found),
    }
    if found:
        result["tolerance"] = limit
        result["differences"] = [
            {
                "kind": one.kind,
                "name": one.name,
                "type": str(one.type),
                "absolute": _finite(one.absolute),
                "relative": _finite(one.relative),
                "rounding": one.rounding,
                "ok": one.close,
            }
            for one in found
        ]
    return result


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if value < float("inf") else None
