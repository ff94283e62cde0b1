"""`dbgraph top`: how a run is doing, from another terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from dbgraph.commands.base import AS_JSON, print_json
from dbgraph.errors import UsageError

if TYPE_CHECKING:
    from dbgraph.watch.fold import RunView

_EVERY_S = 1.0
_EPILOG = """\b
Examples:
  dbgraph train digits.py --checkpoint runs/digits …
  dbgraph top runs/digits              (in another terminal)
  dbgraph top runs/digits --json --follow | jq .latest.held_out_accuracy
"""


@click.command(epilog=_EPILOG)
@click.argument("job")
@click.option("--once", is_flag=True, help="Show it as it is now, and end.")
@click.option("--follow", is_flag=True, help="With --json: a line for each change, until it ends.")
@AS_JSON
def top(job: str, once: bool, follow: bool, as_json: bool) -> None:
    """Show how a training run is doing, until it ends.

    JOB is the folder that the run was given by --checkpoint, or the file of its --log. Ctrl-C ends
    this screen and not the run. Where the output is no terminal, it is shown once.
    """
    if follow and (once or not as_json):
        raise UsageError(
            "--follow prints a line of JSON for each change: it needs --json, and not --once",
            hint="without them the screen follows the run by itself",
        )
    from dbgraph.watch.job import Follower, log_of
    from dbgraph.watch.job import as_json as record

    run = Follower(log_of(job))
    if as_json and not follow:
        print_json(record(run.update()))
    elif as_json:
        for view in _views(run.update):
            click.echo(json.dumps(record(view), allow_nan=False))
    else:
        _show(run.update, once or not sys.stdout.isatty())


def _show(update: Callable[[], RunView], once: bool) -> None:
    from rich.console import Console
    from rich.live import Live

    from dbgraph.watch.screen import headline, screen

    console = Console(highlight=False)
    console.print(headline(update()), markup=False)
    if once:
        console.print(screen(update(), time.time(), console.width))
        return
    try:
        with Live(console=console, auto_refresh=False) as live:
            for view in _views(update, always=True):
                shown = screen(view, time.time(), console.width, console.height)
                live.update(shown, refresh=True)
    except KeyboardInterrupt:
        pass  # that is how one leaves it


def _views(update: Callable[[], RunView], always: bool = False) -> Iterator[RunView]:
    """The run whenever it has changed, until it ends.

    Args:
        always: also where it has not changed: times since then have.
    """
    before = None
    while True:
        view = update()
        if always or view != before:
            yield view
        if view.state not in ("unknown", "running"):
            return
        before = view
        time.sleep(_EVERY_S)
