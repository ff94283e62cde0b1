"""`dbgraph diff`: two plans side by side."""

from __future__ import annotations

import os

import click

from dbgraph.commands.base import (
    AS_JSON,
    load_plan,
    output_option,
    print_json,
    story,
    write_file,
)
from dbgraph.commands.machines import CLUSTER, machines_for

_EPILOG = """\b
Examples:
  dbgraph diff before.plan after.plan
  dbgraph diff before.plan after.plan --cluster examples/cluster.toml
  dbgraph diff before.plan after.plan --html diff.html
  dbgraph diff before.plan after.plan --json | jq .figures.step_s

The keys of --json: same, settings, figures, layers, moves, traffic, machines;
dbgraph/show/diff.py says what each means. Exits with 0, whether they differ or not.
"""


@click.command(name="diff", epilog=_EPILOG)
@click.argument("before_file", metavar="BEFORE.plan")
@click.argument("after_file", metavar="AFTER.plan")
@CLUSTER
@output_option("--html", "html_file", help="Write it as a page too.")
@AS_JSON
def diff_(
    before_file: str,
    after_file: str,
    cluster_file: str | None,
    html_file: str | None,
    as_json: bool,
) -> None:
    """Say what moves from one plan to another, and what it costs.

    Layers are matched by their names, tiles by their regions. Both plans are simulated on the
    same machines.
    """
    from dbgraph.compile import forecast
    from dbgraph.show.diff import diff
    from dbgraph.show.differences import diff_json, diff_text
    from dbgraph.show.digest import Digest

    plans = load_plan(before_file), load_plan(after_file)
    count = max(plan.partitions for plan in plans)
    cluster = machines_for(cluster_file, count)
    before, after = (Digest(plan, forecast(plan, cluster), cluster) for plan in plans)
    found = diff(before, after)
    if html_file is not None:
        from dbgraph.show.page.diff import diff_page

        names = (os.path.basename(path) for path in (before_file, after_file))
        write_file(html_file, diff_page(found, *names))
        story(f"wrote {html_file}")
    if as_json:
        print_json(diff_json(found))
    else:
        click.echo(diff_text(found))
