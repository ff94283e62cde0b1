"""`dbgraph replicas`: more or fewer replicas of a run that goes on in another terminal."""

from __future__ import annotations

from pathlib import Path

import click

from dbgraph.commands.base import AS_JSON, print_json, story

_EPILOG = """\b
Examples:
  dbgraph train digits.py --replicas 4 --algorithm downpour --checkpoint out/ …
  dbgraph replicas out/                (in another terminal: how they are doing)
  dbgraph replicas out/ --add 2
  dbgraph replicas out/ --remove 0 --remove 3
"""


@click.command(name="replicas", epilog=_EPILOG)
@click.argument("folder")
@click.option("--add", type=click.IntRange(1), metavar="N", help="Start N more replicas.")
@click.option(
    "--remove",
    type=click.IntRange(0),
    multiple=True,
    metavar="NUMBER",
    help="End the replica of this number, after its step; may be repeated.",
)
@AS_JSON
def replicas(folder: str, add: int | None, remove: tuple[int, ...], as_json: bool) -> None:
    """See, add and remove the replicas of a run.

    FOLDER is what the run was given by --checkpoint. No number of a replica is used twice.
    """
    from dbgraph.backends.control import ask

    if remove:
        ask(Path(folder), {"ask": "remove", "numbers": list(remove)})
        story(f"asked for the end of {_them(len(remove))}")
    if add is not None:
        ask(Path(folder), {"ask": "add", "count": add})
        story(f"asked for {_them(add)} more")
    if (not remove and add is None) or as_json:
        found = ask(Path(folder), {"ask": "show"})
        lines = found.pop("lines")
        if as_json:
            print_json(found)
        else:
            click.echo("\n".join(lines))


def _them(count: int) -> str:
    return "one replica" if count == 1 else f"{count} replicas"
