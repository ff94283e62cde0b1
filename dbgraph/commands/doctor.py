"""`dbgraph doctor`: which machine of a run waits for what, from whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dbgraph.commands.base import AS_JSON, print_json

if TYPE_CHECKING:
    from dbgraph.watch.checkup import Checkup

_EPILOG = """\b
Examples:
  dbgraph train digits.py --partitions 4 --backend zmq --checkpoint out/ …
  dbgraph doctor out/                  (in another terminal, when it does not go on)
  dbgraph doctor out/ --json

Exit codes: 0 the run goes on, 1 it is stalled, 2 no run goes on there.
"""


@click.command(name="doctor", epilog=_EPILOG)
@click.argument("job")
@click.option(
    "--stuck",
    type=click.FloatRange(0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="One piece of work that takes longer, while others wait for it, is a stall.",
)
@AS_JSON
def doctor(job: str, stuck: float, as_json: bool) -> None:
    """Say which machine of a run waits for what from whom, and who holds it up.

    JOB is the folder that the run was given by --checkpoint.
    """
    from dbgraph.watch.checkup import examine

    found = examine(job, stuck)
    if as_json:
        print_json(found.record())
    else:
        click.echo(_text(found))
    if found.is_stalled:
        click.get_current_context().exit(1)


def _text(found: Checkup) -> str:
    return "\n".join([found.headline(), *found.lines(), *found.verdict()])
