"""`--cluster FILE`: the machines that a plan is made for, or held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dbgraph.errors import UsageError

if TYPE_CHECKING:
    from dbgraph.cluster import Cluster

CLUSTER = click.option(
    "--cluster",
    "cluster_file",
    metavar="FILE",
    help="The machines and links, as `dbgraph calibrate` writes them "
    "[default: equal machines of a documented kind].",
)


def machines_for(path: str | None, count: int) -> Cluster:
    """Those of `--cluster`, or as many equal ones. Raises what `read_machines` raises."""
    from dbgraph.cluster import Cluster

    return Cluster.equal(count) if path is None else read_machines(path, count)


def read_machines(path: str, count: int | None = None) -> Cluster:
    """The first machines of a cluster file; without a count all.

    Raises UsageError where it has fewer, and what `read_cluster` raises.
    """
    from dbgraph.clusterfile import read_cluster

    cluster = read_cluster(path)
    there = len(cluster.machines)
    if count is not None and count > there:
        raise UsageError(
            f"{path} has {there} machines; {count} are asked for",
            hint=f"--partitions {there} or fewer, or add machines to the file",
        )
    return cluster if count is None else cluster.first(count)
