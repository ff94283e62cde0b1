"""`dbgraph metrics`: a run's numbers for Prometheus, and a dashboard for Grafana."""

from __future__ import annotations

import click

from dbgraph.commands.base import QUIET, output_option, write_or_print
from dbgraph.errors import UsageError

_EPILOG = """\b
Examples:
  dbgraph metrics out/ -o /var/lib/node_exporter/dbgraph.prom
  dbgraph metrics --grafana -o dashboard.json   (in Grafana: Dashboards, New, Import)
"""


@click.command(name="metrics", epilog=_EPILOG)
@click.argument("job", required=False)
@click.option("--grafana", is_flag=True, help="Print a dashboard instead, for any runs.")
@output_option(help="Write it there.")
@QUIET
def metrics(job: str | None, grafana: bool, output: str | None, quiet: bool) -> None:
    """Print a run's metrics in Prometheus' text format.

    JOB is the folder that the run was given by --checkpoint, or its log. A run with --dashboard
    serves the same as /metrics.
    """
    if grafana == (job is not None):
        raise UsageError("give either a run or --grafana", hint="dbgraph metrics out/")
    write_or_print(_dashboard() if job is None else _exposition(job), output, quiet)


def _exposition(job: str) -> str:
    from dbgraph.watch.job import view_of
    from dbgraph.watch.prometheus import exposition

    return exposition(view_of(job)).decode()


def _dashboard() -> str:
    import json

    from dbgraph.watch.grafana import dashboard

    return json.dumps(dashboard(), indent=2)
