"""`dbgraph show`: a plan for the eye, and for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dbgraph.commands.base import (
    PLAN,
    load_plan,
    output_option,
    story,
    warn,
    write_file,
    write_or_print,
)
from dbgraph.commands.machines import CLUSTER, read_machines
from dbgraph.errors import UsageError

if TYPE_CHECKING:
    from dbgraph.show.digest import Digest

_EPILOG = """\b
Examples:
  dbgraph show digits.plan
  dbgraph show digits.plan --partition 2
  dbgraph show digits.plan --html digits.html
  dbgraph show digits.plan --cluster cluster.toml --open
  dbgraph show run.pftrace --open
  dbgraph show digits.plan --svg -o digits.svg
  dbgraph show digits.plan --png digits.png
  dbgraph show digits.plan --dot | dot -Tpdf -o digits.pdf
  dbgraph show digits.plan --json | jq '.partitions[].busy_s'

The keys of --json: plan, inputs, outputs, forecast, partitions, layers, links;
units are in the names (_s seconds, _bytes). dbgraph/show/json.py lists them all.
"""


@click.command(name="show", epilog=_EPILOG)
@PLAN
@click.option("--dot", is_flag=True, help="Text for Graphviz: every tile.")
@click.option("--svg", is_flag=True, help="A drawing: layers by partitions.")
@click.option("--json", "as_json", is_flag=True, help="A summary for other programs.")
@output_option("--html", "html_file", help="Write a page for the browser; - prints it.")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@CLUSTER
@output_option("--png", "png_file", help="Write the drawing as PNG.")
@output_option(help="Write to this file instead of stdout.")
@click.option("-p", "--partition", type=click.IntRange(min=0), help="Show this partition, in full.")
def show(
    plan_file: str,
    dot: bool,
    svg: bool,
    as_json: bool,
    html_file: str | None,
    opens: bool,
    cluster_file: str | None,
    png_file: str | None,
    output: str | None,
    partition: int | None,
) -> None:
    """Show a plan: as a table (the default), a page, a drawing, or for other programs.

    Opening a plan runs nothing of it. A page shows plans that break rules too, and marks where.
    A trace that `--trace` recorded (RUN.pftrace) is shown as a page.
    """
    form = _form(dot=dot, svg=svg, json=as_json)
    is_page, is_trace = bool(html_file or opens), plan_file.endswith(".pftrace")
    if is_page and (form or output or png_file or partition is not None):
        raise UsageError("--html and --open make a page of the whole plan and take no other form")
    if png_file and (form or output):
        raise UsageError("--png takes no other form", hint="leave out the other, or call it twice")
    if is_trace:
        _show_trace(plan_file, html_file, cluster_file, opens)
    elif is_page:
        from dbgraph.commands.page import show_page

        show_page(plan_file, html_file, cluster_file, opens)
    else:
        _print(_digest(plan_file, cluster_file, partition), form, partition, png_file, output)


def _show_trace(path: str, html_file: str | None, cluster_file: str | None, opens: bool) -> None:
    from dbgraph.commands.page import show_trace

    if not html_file and not opens:
        raise UsageError("a trace is shown as a page alone", hint="--open, or --html FILE")
    if cluster_file:
        hint = "set it beside a forecast: dbgraph simulate PLAN --cluster FILE --against TRACE"
        raise UsageError("a trace has its own machines and takes no --cluster", hint=hint)
    show_trace(path, html_file, opens)


def _digest(plan_file: str, cluster_file: str | None, partition: int | None) -> Digest:
    """Of a plan that keeps the rules. Raises UsageError where it has no such partition."""
    from dbgraph.commands.dryrun import deadlock
    from dbgraph.compile import forecast
    from dbgraph.show.digest import Digest

    plan = load_plan(plan_file)
    if partition is not None and partition >= plan.partitions:
        rule = f"there is no partition {partition}; the plan has {plan.partitions}"
        raise UsageError(rule, hint=f"they are numbered from 0 to {plan.partitions - 1}")
    cluster = read_machines(cluster_file, plan.partitions) if cluster_file else None
    cost = forecast(plan, cluster)
    if found := deadlock(plan, cost):
        warn(f"the programs wait for each other for ever:\n  {found}")
    return Digest(plan, cost, cluster, cluster_file or "")


def _print(
    digest: Digest, form: str | None, partition: int | None, png_file: str | None, path: str | None
) -> None:
    if png_file is None:
        write_or_print(_text(digest, form, partition), path)
        return
    from dbgraph.show.png import png
    from dbgraph.show.svg import plan_svg

    write_file(png_file, png(plan_svg(digest, partition)))
    story(f"wrote {png_file}")


def _form(**asked: bool) -> str | None:
    """The one that is asked for; None for the table. Raises UsageError for several."""
    forms = [form for form, wanted in asked.items() if wanted]
    if len(forms) > 1:
        both = " and ".join(f"--{form}" for form in forms)
        raise UsageError(f"{both} are different forms", hint="leave out one, or call it twice")
    return forms[0] if forms else None


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
