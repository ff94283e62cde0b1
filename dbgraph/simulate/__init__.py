"""A discrete-event run of a plan's own instructions: the forecast, and the dry run that finds
deadlocks. No jax.

The model, each rule in one place:
- A machine executes its program in order. A RUN takes what its segment costs (`dbgraph.cost`), an
  UPDATE what reading and writing the parameters takes: `work`.
- Machines of one host share its cores, or run on one of them each, and crowd one another: `cores`.
- A SEND never waits. A RECV waits until the value's last byte is there. Each message occupies
  both processors for `Link.message_s`.
- Bytes stand in line at the sender's line and at the receiver's, and between racks at the two
  uplinks: `lines`. Latency is charged once to each message and to no machine: a machine goes on
  meanwhile.
- Traffic with a parameter server is further sends and receives: `servers`.
"""

from __future__ import annotations

from dbgraph.cluster import Cluster
from dbgraph.ir.graph import Graph
from dbgraph.memory import peak_bytes
from dbgraph.plan.program import Program, Transfer
from dbgraph.profile import Profile
from dbgraph.simulate.engine import Engine
from dbgraph.simulate.forecast import Blocked, Cause, Forecast, MachineForecast, Span
from dbgraph.simulate.servers import ServerTraffic, with_servers
from dbgraph.simulate.summary import Summary
from dbgraph.simulate.trace import Trace
from dbgraph.simulate.work import flop_of, parameter_bytes, work_of

__all__ = [
    "Blocked",
    "Cause",
    "Forecast",
    "MachineForecast",
    "ServerTraffic",
    "Span",
    "simulate",
]


def simulate(
    graph: Graph,
    transfers: tuple[Transfer, ...],
    programs: tuple[Program, ...],
    cluster: Cluster,
    *,
    traffic: ServerTraffic | None = None,
    timeline: bool = False,
    profile: Profile | None = None,
) -> Forecast:
    """Runs all programs on a virtual clock. A deadlock is a result.

    Args:
        cluster: with a machine for each program; further ones stay idle and are left out.
        traffic: with a parameter server; None: there is none.
        timeline: whether to note spans and the critical path, which takes time and memory.
        profile: measured seconds of segments; those that it knows are taken from it.

    Raises UsageError where the cluster has too few machines.
    """
    work = work_of(graph, transfers, programs, cluster.first(len(programs)), profile)
    if traffic is not None:
        work = with_servers(work, traffic)
    trace = Trace(len(work.instructions)) if timeline else None
    engine = Engine(work, trace)
    engine.run()
    summary = Summary(engine, len(programs))
    held, peaks = parameter_bytes(graph), peak_bytes(graph, transfers, programs)
    return Forecast(
        step_s=summary.step_s,
        machines=tuple(
            summary.machine(p, flop_of(graph, program), peaks[p], held.get(p, 0))
            for p, program in enumerate(programs)
        ),
        link_bytes=summary.link_bytes,
        blocked=summary.blocked,
        timeline=summary.timeline(trace) if trace else (),
        critical_path=summary.critical_path(trace) if trace else (),
        link_messages=summary.link_messages,
    )
