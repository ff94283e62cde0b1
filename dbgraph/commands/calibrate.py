"""`dbgraph calibrate`: measures this host, or listed ones, as machines that plans are made for."""

from __future__ import annotations

import time

import click

from dbgraph.commands.base import AS_JSON, QUIET, output_option, print_json, story, write_file
from dbgraph.commands.measuring import PIN, measuring
from dbgraph.errors import UsageError

_EPILOG = """\b
Examples:
  dbgraph calibrate -o cluster.toml
  dbgraph calibrate --partitions 4 --pin -o cluster.toml
  dbgraph calibrate --hosts hosts.toml --key job.key -o cluster.toml
  dbgraph compile net.py --partitions 2 --cluster cluster.toml -o net.plan

--json prints the cluster: machines (with kinds: kind, dtype, rates), hosts, link, local,
control_s. Units are in the names.
"""


@click.command(name="calibrate", epilog=_EPILOG)
@output_option(metavar="CLUSTER", help="Write the cluster file here.")
@click.option(
    "-n",
    "--partitions",
    type=click.IntRange(min=1),
    help="So many workers on this host  [default: one for each core]",
)
@PIN
@click.option("--hosts", metavar="FILE", help="The workers of this hosts file instead.")
@click.option("--key", metavar="FILE", help="The key that those workers were started with.")
@AS_JSON
@QUIET
def calibrate(
    output: str | None,
    partitions: int | None,
    pin: bool,
    hosts: str | None,
    key: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure what machines and links really do, and write it as a cluster file.

    Starts workers as a zmq job does, and times each kind of work alone, in several sizes; then it
    trains small networks on them for a while, cut in several ways. That takes about a minute, more
    with more workers than cores; other programs should rest meanwhile. With --hosts one worker of
    each host is timed alone, and all train together.
    """
    _check(partitions, pin, hosts, key)
    from dbgraph.calibrate.host import calibrate_here, calibrate_hosts, cores_here
    from dbgraph.calibrate.layout import Layout
    from dbgraph.calibrate.table import measured_table
    from dbgraph.clusterfile import cluster_toml

    begin_s = time.monotonic()
    with measuring(quiet) as say:
        if hosts is not None and key is not None:
            measured, cluster = calibrate_hosts(hosts, key, say)
        else:
            measured, cluster = calibrate_here(partitions or cores_here(), pin, say)
    if output is not None:
        write_file(output, cluster_toml(cluster))
    if as_json:
        from dataclasses import asdict

        print_json(asdict(cluster))
    elif not quiet:
        places = tuple(cluster.host(p) for p in range(len(cluster.machines)))
        click.echo(measured_table(measured, cluster, Layout(places)))
    if not quiet:
        wrote = f"; wrote {output}" if output is not None else ""
        story(f"measured in {time.monotonic() - begin_s:.0f} s{wrote}")


def _check(partitions: int | None, pin: bool, hosts: str | None, key: str | None) -> None:
    if hosts is None and key is not None:
        raise UsageError("--key is for the workers of --hosts, which is not given")
    if hosts is not None and key is None:
        hint = "make one with `dbgraph key FILE`; driver and hosts need the same"
        raise UsageError("--hosts needs --key, the key of those workers", hint=hint)
    if hosts is not None and (partitions is not None or pin):
        given = "--partitions" if partitions is not None else "--pin"
        raise UsageError(f"{given} is for workers on this host; --hosts names others")
