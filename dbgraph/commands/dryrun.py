"""The dry run: whether a plan's programs can come to their ends."""

from __future__ import annotations

from dbgraph.errors import PlanError
from dbgraph.plan.plan import Plan
from dbgraph.simulate import Forecast
from dbgraph.worker import Waiting, Worker


def deadlock(plan: Plan, forecast: Forecast) -> str:
    """Who waits for what for ever; "" where all programs end."""
    lines = []
    for one in forecast.blocked:
        worker = Worker(plan, one.partition)
        wanted = worker.describe(Waiting(one.transfer, one.microbatch))
        source = plan.transfers[one.transfer].source
        lines.append(
            f"partition {one.partition} waits for {wanted}, at its instruction {one.position + 1} "
            f"(RECV t{one.transfer}.{one.microbatch}); {_why(plan, forecast, source)}"
        )
    return "\n  ".join(lines)


def _why(plan: Plan, forecast: Forecast, partition: int) -> str:
    """What the sender does instead."""
    for one in forecast.blocked:
        if one.partition == partition:
            return (
                f"partition {partition} stands at its instruction {one.position + 1} "
                f"(RECV t{one.transfer}.{one.microbatch}) and sends it later"
            )
    return f"partition {partition} never sends it"


def check_deadlock(plan: Plan, forecast: Forecast) -> None:
    """Raises PlanError that names every partition that waits, and for what."""
    found = deadlock(plan, forecast)
    if found:
        raise PlanError(f"the programs of {plan.name} wait for each other for ever:\n  {found}")
