"""`dbgraph report`: training runs as a page."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import click

from dbgraph.commands.base import QUIET, output_option, write_or_print

_EPILOG = """\b
Examples:
  dbgraph report runs/digits -o digits.html
  dbgraph report runs/a runs/b old.jsonl -o compared.html
"""


@click.command(epilog=_EPILOG)
@click.argument("jobs", metavar="RUN…", nargs=-1, required=True)
@output_option(help="The page.  [stdout]")
@QUIET
def report(jobs: tuple[str, ...], output: str | None, quiet: bool) -> None:
    """Show training runs as a page: one, or several beside each other.

    RUN is the folder that a run was given by --checkpoint, or the file of its --log. The page is
    one file that needs no network: the curves over steps and over time, the last figures, the
    replicas, shards and machines, and, of several runs, the options in which they differ.
    """
    from dbgraph.watch.job import view_of
    from dbgraph.watch.page import report as page

    views = [view_of(job) for job in jobs]
    write_or_print(page(list(zip(_names(jobs), views, strict=True))), output, quiet)


def _names(jobs: Sequence[str]) -> list[str]:
    """Short where that tells them apart."""
    short = [os.path.splitext(os.path.basename(os.path.normpath(job)))[0] for job in jobs]
    many = Counter(short)
    return [job if many[name] > 1 else name for name, job in zip(short, jobs, strict=True)]
