"""`dbgraph key`: the secret that the processes of a job share."""

from __future__ import annotations

import click

from dbgraph.commands.base import file_to_write, story

_EPILOG = """\b
Examples:
  dbgraph key job.key
  scp -p job.key host2:
"""


@click.command(name="key", epilog=_EPILOG)
@click.argument("file", type=file_to_write)
def key(file: str) -> None:
    """Make the key file that the hosts of a job share.

    FILE must not exist yet; only its owner may read it. Copy it to every host of the job: who
    holds it may give work to the workers there, so keep it secret.
    """
    from dbgraph.backends.keys import create_key_file

    create_key_file(file)
    story(f"wrote {file}; copy it to the job's hosts, readable by you alone")
