"""`dbgraph show PLAN --html FILE`, `--open`: a plan as a page."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path
from tempfile import mkdtemp

import click

from dbgraph.commands.base import STDOUT, no_garbage, read_plan, story, warn, write_file
from dbgraph.commands.machines import read_machines


def show_page(plan_file: str, html_file: str | None, cluster_file: str | None, opens: bool) -> None:
    """Writes it, and opens it in the browser. A plan that breaks rules is shown too.

    Args:
        html_file: `-` for stdout; None: a new file among the temporary ones.
    """
    from dbgraph.show.page.plan import drawn

    target = html_file or new_file()
    with no_garbage():
        plan = read_plan(plan_file, broken=True)
        cluster = read_machines(cluster_file, plan.partitions) if cluster_file else None
        text, problems = drawn(plan, cluster, cluster_file or "")
    for problem in problems:
        warn(problem.text)
    deliver(text, target, opens)


def show_trace(trace_file: str, html_file: str | None, opens: bool) -> None:
    """The page of a recorded run, as `show_page` does it. Raises UsageError for what is none."""
    from dbgraph.show.page.timeline import timeline_page
    from dbgraph.trace.pftrace import open_trace
    from dbgraph.trace.timeline import timeline

    target = html_file or new_file()
    deliver(timeline_page(timeline(open_trace(trace_file))), target, opens)


def new_file() -> str:
    """The name of a page among the temporary files."""
    return os.path.join(mkdtemp(prefix="dbgraph-"), "plan.html")


def deliver(text: str, target: str, opens: bool) -> None:
    """Writes a page, and opens it in the browser."""
    if target == STDOUT:
        click.echo(text, nl=False)
        return
    write_file(target, text)
    story(f"wrote {target}")
    if opens and not webbrowser.open(Path(target).resolve().as_uri()):
        warn(f"found no browser; open {target} in one")
