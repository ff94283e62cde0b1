"""`dbgraph explain`: why a plan is as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from dbgraph.commands.base import AS_JSON, PLAN, load_plan, print_json
from dbgraph.commands.machines import CLUSTER, read_machines
from dbgraph.errors import UsageError
from dbgraph.suggest import did_you_mean

if TYPE_CHECKING:
    from dbgraph.plan.plan import Plan
    from dbgraph.show.digest import Digest

_EPILOG = """\b
Examples:
  dbgraph explain digits.plan
  dbgraph explain digits.plan dense1
  dbgraph explain digits.plan 'dense1->dense2'
  dbgraph explain digits.plan t12
  dbgraph explain digits.plan dense1 --cluster cluster.toml --json

The keys of --json stand in dbgraph/explain/json.py.
"""
_TRANSFER = re.compile(r"t\d+")
_ARROW = re.compile(r"\s*(?:->|→)\s*")


@click.command(name="explain", epilog=_EPILOG)
@PLAN
@click.argument("what", metavar="[LAYER|EDGE]", required=False)
@CLUSTER
@AS_JSON
def explain(plan_file: str, what: str | None, cluster_file: str | None, as_json: bool) -> None:
    """Say what bounds a plan's step, and why each transfer exists.

    Of a plan: what its busiest machine does, what the step can't be shorter than, and the
    heaviest edges. Of a LAYER: how it is cut, what crosses to and from it and why, and what other
    cuts of it would have cost. Of an EDGE, as 'hidden1->hidden2' or as a transfer such as t12: the
    same of it alone.
    """
    from dbgraph.commands.dryrun import check_deadlock
    from dbgraph.compile import forecast
    from dbgraph.show.digest import Digest

    plan = load_plan(plan_file)
    cluster = read_machines(cluster_file, plan.partitions) if cluster_file else None
    cost = forecast(plan, cluster)
    check_deadlock(plan, cost)
    digest = Digest(plan, cost, cluster, cluster_file or "")
    if as_json:
        print_json(_json(digest, what))
    else:
        click.echo(_page(digest, what))


def _page(digest: Digest, what: str | None) -> str:
    from dbgraph.explain import page

    if what is None:
        return page.plan_page(digest)
    if (index := _transfer(digest.plan, what)) is not None:
        return page.transfer_page(digest, index)
    ends = _layers(digest, what)
    return page.layer_page(digest, ends[0]) if len(ends) == 1 else page.edge_page(digest, ends)


def _json(digest: Digest, what: str | None) -> dict[str, Any]:
    from dbgraph.explain import json

    if what is None:
        return json.plan_json(digest)
    if (index := _transfer(digest.plan, what)) is not None:
        return json.transfer_json(digest, index)
    ends = _layers(digest, what)
    return json.layer_json(digest, ends[0]) if len(ends) == 1 else json.edge_json(digest, ends)


def _transfer(plan: Plan, what: str) -> int | None:
    """The index of a transfer, where one is named. Raises UsageError where there is none such."""
    if not _TRANSFER.fullmatch(what) or any(node.layer == what for node in plan.network):
        return None
    index, count = int(what[1:]), len(plan.transfers)
    if index >= count:
        hint = f"they are t0 to t{count - 1}" if count else "nothing is sent"
        raise UsageError(f"the plan has no transfer {what}", hint=hint)
    return index


def _layers(digest: Digest, what: str) -> tuple[str] | tuple[str, str]:
    """A layer, or the two of an edge. Raises UsageError where one is unknown."""
    known = list(dict.fromkeys(node.layer for node in digest.plan.network if node.layer))
    known += [row.name for row in digest.layers if row.name not in known]
    named = _ARROW.split(what)
    for name in named:
        if name not in known:
            near = did_you_mean(name, known) or f"the layers are: {', '.join(known)}"
            raise UsageError(f"the plan has no layer {name!r}", hint=near)
    if len(named) > 2:
        raise UsageError(f"{what!r} is no edge", hint="write it as 'hidden1->hidden2'")
    return (named[0],) if len(named) == 1 else (named[0], named[1])
