"""What the commands that measure share: how far they are, and whether the host is at rest."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from dbgraph.commands.base import warn

if TYPE_CHECKING:
    from dbgraph.calibrate.stopwatch import Say

PIN = click.option("--pin", is_flag=True, help="On workers that are pinned to one core each.")
_BUSY = 0.25
"""This much of a host's cores in other hands makes the figures doubtful."""


@contextmanager
def measuring(quiet: bool) -> Iterator[Say]:
    """Gives what is to be told how far the work is. On a terminal that is one line."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if not quiet and load > _BUSY * cores:
        warn(f"this host is busy (load {load:.1f}): what is measured will be too slow")
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return

    def say(done: float) -> None:
        sys.stderr.write(f"\r\x1b[Kdbgraph: measuring: {done:.0%}")
        sys.stderr.flush()

    try:
        yield say
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
