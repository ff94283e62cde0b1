"""`dbgraph simulate`: what a step of a plan will cost, and why."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from math import inf
from typing import TYPE_CHECKING, Any

import click

from dbgraph.commands.base import (
    AS_JSON,
    PLAN,
    QUIET,
    load_plan,
    no_garbage,
    output_option,
    print_json,
    story,
    warn,
    write_file,
)
from dbgraph.commands.machines import CLUSTER, machines_for
from dbgraph.errors import PlanError, UsageError

if TYPE_CHECKING:
    from dbgraph.cluster import Cluster
    from dbgraph.plan.plan import Plan
    from dbgraph.profile import Profile
    from dbgraph.simulate import Forecast

_EPILOG = """\b
Examples:
  dbgraph simulate digits.plan
  dbgraph simulate digits.plan --cluster examples/cluster.toml --timeline
  dbgraph simulate digits.plan --svg step.svg
  dbgraph simulate digits.plan --cluster lab.toml --against run.pftrace
  dbgraph simulate digits.plan --json | jq '.machines[].idle_s'

The keys of --json: plan, cluster, step_s, busiest, machines, links, blocked, cycle; with
--timeline also timeline and critical_path. Units are in the names (_s seconds, _bytes);
dbgraph/simulate/forecast.py says what each means. With --against they are steps, left_out,
replicas, step, segments, links, machines, servers (a message to or from a shard), each with
forecast_s and measured_s, and dealing_s, a shard's work on a push. Exits with 3 where the programs
deadlock.
"""
_HEAD = ("name", "mode", "strategy", "partitions", "batch", "microbatches")
_WIDTH = 100


@click.command(name="simulate", epilog=_EPILOG)
@PLAN
@CLUSTER
@click.option(
    "--profile",
    "profile_file",
    metavar="FILE",
    help="Seconds of segments, as `dbgraph profile` measured them.",
)
@click.option("--timeline", is_flag=True, help="Show the step as a chart, and its critical path.")
@click.option(
    "--width",
    type=click.IntRange(min=40),
    help="Of the chart, in characters  [default: the terminal's]",
)
@output_option("--svg", "svg_file", help="Draw the step, and its critical path.")
@click.option(
    "--against",
    metavar="TRACE",
    help="Set the forecast beside a run of the plan that `--trace` recorded.",
)
@AS_JSON
@QUIET
@no_garbage()
def simulate_(
    plan_file: str,
    cluster_file: str | None,
    profile_file: str | None,
    timeline: bool,
    width: int | None,
    svg_file: str | None,
    against: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run one step of a plan on a virtual clock: how long it takes, who waits for whom, what fits.

    The simulator executes the plan's own instructions: each segment takes what its operations
    cost on its machine, machines of one host share its cores and its line, messages stand in line
    at both ends. Nothing is computed.
    """
    from dbgraph.profile import read_profile
    from dbgraph.simulate import simulate

    profile = read_profile(profile_file) if profile_file else None
    plan = load_plan(plan_file)
    cluster = machines_for(cluster_file, plan.partitions)
    if against is not None:
        if timeline or svg_file:
            raise UsageError("--against compares figures; it takes no --timeline and no --svg")
        _compare(plan, against, cluster, cluster_file or "", profile, as_json, quiet)
        return
    forecast = simulate(
        *(plan.graph, plan.transfers, plan.programs, cluster),
        timeline=timeline or svg_file is not None,
        profile=profile,
    )
    if svg_file is not None:
        _draw(plan, forecast, svg_file)
    if not timeline:
        forecast = replace(forecast, timeline=(), critical_path=())
    if as_json:
        print_json(_summary(plan, forecast, cluster, cluster_file))
    elif not quiet:
        click.echo(_page(plan, forecast, cluster, cluster_file or "", width))
    if forecast.blocked:
        raise PlanError(_deadlock(plan, forecast))
    if not quiet:
        _warn_of_memory(forecast, cluster)


def _draw(plan: Plan, forecast: Forecast, path: str) -> None:
    from dbgraph.show.forecasted import forecast_timeline
    from dbgraph.show.timeline_svg import timeline_svg

    write_file(path, timeline_svg(forecast_timeline(plan, forecast)))
    story(f"wrote {path}")


def _compare(
    plan: Plan,
    path: str,
    cluster: Cluster,
    cluster_file: str,
    profile: Profile | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Prints the forecast beside a trace."""
    from dbgraph.errors import DbgraphError
    from dbgraph.show.machines import machines_words
    from dbgraph.trace.against import compare
    from dbgraph.trace.gaps import comparison_json, comparison_page
    from dbgraph.trace.pftrace import open_trace

    trace = open_trace(path)
    try:
        found = compare(plan, trace, cluster, profile)
    except DbgraphError as error:
        raise type(error)(f"{path}: {error.rule}", at=error.at, hint=error.hint) from error
    if as_json:
        print_json(comparison_json(found))
    elif not quiet:
        head = f"{plan.name} on {machines_words(cluster, cluster_file)}, against {path}"
        click.echo(f"{head}\n\n{comparison_page(found, trace)}")


def _page(
    plan: Plan, forecast: Forecast, cluster: Cluster, cluster_file: str, width: int | None
) -> str:
    from dbgraph.show.digest import Digest
    from dbgraph.show.machines import machines_words
    from dbgraph.show.simulation import link_table, machine_table
    from dbgraph.show.table import headline
    from dbgraph.show.timeline import chart, path_table

    parts = [
        f"{headline(Digest(plan, forecast))}\non {machines_words(cluster, cluster_file)}",
        machine_table(plan, forecast, cluster),
        link_table(plan, forecast, cluster),
    ]
    if forecast.timeline:
        columns = width or shutil.get_terminal_size((_WIDTH, 0)).columns
        parts.append(chart(forecast, columns))
    if forecast.critical_path:
        parts.append(path_table(plan, forecast))
    if not forecast.blocked:
        parts.append(_verdict(plan, forecast))
    return "\n\n".join(part for part in parts if part)


def _verdict(plan: Plan, forecast: Forecast) -> str:
    from dbgraph.units import bytes_, count, seconds

    step_s = forecast.step_s
    rate = f", {count(float(f'{plan.batch / step_s:.3g}'))} examples/s" if step_s else ""
    traffic = sum(forecast.link_bytes.values())
    between = f", {bytes_(traffic)} between machines" if plan.partitions > 1 else ""
    return f"forecast: {seconds(step_s)} a step{rate}{between}"


def _deadlock(plan: Plan, forecast: Forecast) -> str:
    """The circle of machines that wait for each other, or all that wait for one that is done."""
    from dbgraph.commands.dryrun import deadlock

    circle = forecast.cycle
    waits = deadlock(plan, replace(forecast, blocked=circle or forecast.blocked))
    rest = len(forecast.blocked) - len(circle)
    more = f"\n  and {rest} more wait behind them" if circle and rest else ""
    return f"the programs of {plan.name} wait for each other for ever:\n  {waits}{more}"


def _warn_of_memory(forecast: Forecast, cluster: Cluster) -> None:
    from dbgraph.units import bytes_

    over = [
        p
        for p, m in enumerate(forecast.machines)
        if m.peak_bytes > cluster.machines[p].memory_bytes
    ]
    if over:
        worst = max(over, key=lambda p: forecast.machines[p].peak_bytes)
        warn(
            f"{len(over)} of {len(forecast.machines)} partitions need more memory than their "
            f"machine has; partition {worst} needs {bytes_(forecast.machines[worst].peak_bytes)} "
            f"of {bytes_(cluster.machines[worst].memory_bytes)}"
        )


def _summary(
    plan: Plan, forecast: Forecast, cluster: Cluster, cluster_file: str | None
) -> dict[str, Any]:
    """What the epilog lists, of literals that `json.dumps` takes."""
    limits = [machine.memory_bytes for machine in cluster.machines]
    found: dict[str, Any] = {
        "plan": {key: getattr(plan, key) for key in _HEAD},
        "cluster": cluster_file,
        "step_s": forecast.step_s,
        "busiest": forecast.busiest,
        "machines": [
            {
                "partition": p,
                **asdict(machine),
                "limit_bytes": limits[p] if limits[p] < inf else None,
            }
            for p, machine in enumerate(forecast.machines)
        ],
        "links": [
            {"from": a, "to": b, "bytes": size}
            for (a, b), size in sorted(forecast.link_bytes.items())
        ],
        "blocked": [asdict(one) for one in forecast.blocked],
        "cycle": [one.partition for one in forecast.cycle],
    }
    if forecast.timeline:
        found["timeline"] = [asdict(span) for span in forecast.timeline]
        found["critical_path"] = [asdict(span) for span in forecast.critical_path]
    return found
