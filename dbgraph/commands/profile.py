"""`dbgraph profile`: times a plan's segments on this host."""

from __future__ import annotations

import time

import click

from dbgraph.commands.base import (
    AS_JSON,
    PLAN,
    QUIET,
    load_plan,
    output_option,
    print_json,
    story,
    write_file,
)
from dbgraph.commands.measuring import PIN, measuring

_EPILOG = """\b
Examples:
  dbgraph profile digits.plan -o digits.profile.json
  dbgraph simulate digits.plan --cluster cluster.toml --profile digits.profile.json

Keys of --json: segments (signature: seconds).
"""


@click.command(name="profile", epilog=_EPILOG)
@PLAN
@output_option(metavar="PROFILE", help="Write the profile here.")
@PIN
@AS_JSON
@QUIET
def profile(plan_file: str, output: str | None, pin: bool, as_json: bool, quiet: bool) -> None:
    """Time a plan's segments on this host, each by itself, on inputs made up.

    Segments of one structure are timed once. A forecast that is given the profile takes these
    seconds instead of those that it works out from the rates of a cluster file.
    """
    plan = load_plan(plan_file)
    from dbgraph.calibrate.segments import profile_plan

    begin_s = time.monotonic()
    with measuring(quiet) as say:
        found = profile_plan(plan, pin, say)
    if output is not None:
        write_file(output, found.text())
    if as_json:
        print_json({"segments": dict(found.seconds)})
    elif not quiet:
        from dbgraph.calibrate.table import profile_table

        click.echo(profile_table(plan, found))
    if not quiet:
        wrote = f"; wrote {output}" if output is not None else ""
        story(f"timed {len(found.seconds)} segments in {time.monotonic() - begin_s:.0f} s{wrote}")
