"""`dbgraph worker`: one process that waits for a partition of a job."""

from __future__ import annotations

import click

_EPILOG = """\b
Examples:
  dbgraph key job.key                     (once; then copy it to every host)
  dbgraph worker --listen tcp://10.0.0.2:7000 --key job.key
  dbgraph worker --listen tcp://10.0.0.2:7000 --key job.key --forever

The driver finds the workers by a hosts file:
  dbgraph train digits.py --partitions 2 --backend zmq --hosts hosts.toml --key job.key
"""


@click.command(name="worker", epilog=_EPILOG)
@click.option(
    "--listen", required=True, metavar="tcp://ADDR:PORT", help="The address to listen on."
)
@click.option("--key", "key_file", required=True, metavar="FILE", help="The job's key file.")
@click.option("--forever", is_flag=True, help="Wait for the next job when one has ended.")
def worker(listen: str, key_file: str, forever: bool) -> None:
    """Wait on this host for a partition of a job.

    One worker serves one partition: start one for each, with a port of its own. It takes work
    from none but those who hold the same key file. It ends with the job, or when the driver is
    gone; with --forever it then waits for the next job.
    """
    from dbgraph.backends.zeromq_worker import serve

    serve(listen, key_file, forever)
