"""The discrete-event run, against small plans counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cluster import Cluster, Link, MachineSpec
from dbgraph.compile import forecast
from dbgraph.memory import peak_bytes
from dbgraph.plan.program import Recv, Send
from dbgraph.simulate import simulate

# Arithmetic alone counts: memory and dispatch cost nothing.
MACHINE = MachineSpec(flop_s=1e3, memory_bytes_s=float("inf"), dispatch_s=0.0)


def stages(batch: int = 4) -> dbg.Network:
    with dbg.Network("stages", batch=batch) as net:
        h = dbg.input("x", (5,))
        for k in range(2):
            with dbg.partition(k):
                h = L.Dense(5, use_bias=False, name=f"s{k}")(h)
        dbg.output("y", h)
    return net


def test_two_stages_one_after_the_other() -> None:
    """Each stage is 2·4·5·5 = 200 FLOP, so 0.2 s; 4·5·4 = 80 bytes cross at 800 bytes/s, 0.1 s,
    after 0.05 s of latency."""
    plan = dbg.make_plan(stages(), 2, mode="inference")
    cluster = Cluster((MACHINE,) * 2, Link(bytes_s=800.0, latency_s=0.05))
    cost = forecast(plan, cluster)
    assert cost.step_s == pytest.approx(0.2 + 0.05 + 0.1 + 0.2)
    assert cost.link_bytes == {(0, 1): 80}
    assert [m.flop for m in cost.machines] == [200, 200]
    assert [m.out_bytes for m in cost.machines] == [80, 0]
    assert [m.busy_s for m in cost.machines] == pytest.approx([0.3, 0.3])


def test_microbatches_overlap() -> None:
    """Two microbatches of 0.1 s a stage: the second stage works while the first does."""
    plan = dbg.make_plan(stages(), 2, mode="inference", microbatches=2)
    cluster = Cluster((MACHINE,) * 2, Link(bytes_s=float("inf"), latency_s=0.0))
    assert forecast(plan, cluster).step_s == pytest.approx(0.3)


def test_a_deadlock_is_a_result_that_names_who_waits_for_what() -> None:
    plan = dbg.make_plan(stages(), 2, mode="inference")
    first = plan.programs[0]
    silent = replace(
        first, instructions=tuple(i for i in first.instructions if not isinstance(i, Send))
    )
    cost = simulate(
        plan.graph, plan.transfers, (silent, plan.programs[1]), Cluster((MACHINE,) * 2)
    )
    assert [(b.partition, b.transfer) for b in cost.blocked] == [(1, 0)]
    waits = plan.programs[1].instructions[cost.blocked[0].position]
    assert isinstance(waits, Recv)


def test_peak_memory_of_a_chain_by_hand() -> None:
    """Stage 0 holds x (80 B), its weights (100 B) and its result (80 B); stage 1 holds its
    weights, what it received and its result."""
    plan = dbg.make_plan(stages(), 2, mode="inference")
    assert peak_bytes(plan.graph, plan.transfers, plan.programs) == (260, 260)


def test_the_forecast_knows_nothing_of_the_backend() -> None:
    """The simulator runs the plan's own instructions: all of them, in any mode."""
    plan = dbg.make_plan(stages(), 2, mode="inference", microbatches=4)
    cost = forecast(plan)
    sends = sum(isinstance(i, Send) for p in plan.programs for i in p.instructions)
    assert sends == 4
    assert sum(cost.link_bytes.values()) == 80
