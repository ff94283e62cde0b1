"""`dbgraph show`: a plan for the eye, and for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dbgraph.commands.base import PLAN, check_target, load_plan, warn, write_or_print
from dbgraph.errors import UsageError

if TYPE_CHECKING:
    from dbgraph.show.digest import Digest

_EPILOG = """\b
Examples:
  dbgraph show digits.plan
  dbgraph show digits.plan --partition 2
  dbgraph show digits.plan --svg -o digits.svg
  dbgraph show digits.plan --dot | dot -Tpdf -o digits.pdf
  dbgraph show digits.plan --json | jq '.partitions[].busy_s'

The keys of --json: plan, inputs, outputs, forecast, partitions, layers, links;
units are in the names (_s seconds, _bytes). dbgraph/show/json.py lists them all.
"""


@click.command(name="show", epilog=_EPILOG)
@PLAN
@click.option("--dot", "form", flag_value="dot", help="Text for Graphviz: every tile.")
@click.option("--svg", "form", flag_value="svg", help="A drawing: layers by partitions.")
@click.option("--json", "form", flag_value="json", help="A summary for other programs.")
@click.option("-o", "--output", metavar="FILE", help="Write to this file instead of stdout.")
@click.option("-p", "--partition", type=click.IntRange(min=0), help="Show this partition, in full.")
def show(plan_file: str, form: str | None, output: str | None, partition: int | None) -> None:
    """Show a plan: as a table (the default), a drawing, or for other programs.

    Opening a plan runs nothing of it.
    """
    from dbgraph.commands.dryrun import deadlock
    from dbgraph.compile import forecast
    from dbgraph.show.digest import Digest

    check_target(output)
    plan = load_plan(plan_file)
    if partition is not None and partition >= plan.partitions:
        raise UsageError(f"there is no partition {partition}; the plan has {plan.partitions}")
    cost = forecast(plan)
    if found := deadlock(plan, cost):
        warn(f"the programs wait for each other for ever:\n  {found}")
    write_or_print(_text(Digest(plan, cost), form, partition), output)


def _text(digest: Digest, form: str | None, partition: int | None) -> str:
    """The plan in one of the forms."""
    if form == "dot":
        from dbgraph.show.dot import plan_dot

        return plan_dot(digest, partition)
    if form == "svg":
        from dbgraph.show.svg import plan_svg

        return plan_svg(digest, partition)
    if form == "json":
        import json

        from dbgraph.show.json import plan_json

        return json.dumps(plan_json(digest, partition), indent=2, allow_nan=False) + "\n"
    from dbgraph.show.table import partition_page, plan_table

    page = plan_table(digest) if partition is None else partition_page(digest, partition)
    return page + "\n"
