"""The simulator against a slow one of the same rules, and what is true of any program."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_simulator import SlowSimulator, random_cluster, random_work

from dbgraph.plan.program import Send
from dbgraph.simulate.engine import Engine
from dbgraph.simulate.summary import Summary
from dbgraph.simulate.trace import Trace
from dbgraph.simulate.work import Work

seeds = st.integers(0, 2**32)


def ran(work: Work, trace: Trace | None = None) -> Summary:
    engine = Engine(work, trace)
    engine.run()
    return Summary(engine, len(work.instructions))


@given(seed=seeds, knots=st.booleans())
@settings(max_examples=400, deadline=None)
def test_equal_to_the_slow_simulator(seed: int, knots: bool) -> None:
    random = Random(seed)
    work = random_work(random, random_cluster(random, random.randint(1, 6)), knots)
    slow, found = SlowSimulator(work), ran(work)
    engine = found.engine
    assert {(b.partition, b.position) for b in found.blocked} == slow.blocked
    for p, machine in enumerate(slow.machines):
        assert engine.compute_s[p] == pytest.approx(float(machine.spent["compute"]))
        assert engine.send_s[p] == pytest.approx(float(machine.spent["send"]))
        assert engine.receive_s[p] == pytest.approx(float(machine.spent["receive"]))
        end = float(machine.began if machine.end is None else machine.end)
        assert found.stop_s[p] == pytest.approx(end)
    for index, wait_s in enumerate(engine.wait_s):
        assert wait_s == pytest.approx(float(slow.wait[index]), abs=1e-9)


@given(seed=seeds, knots=st.booleans())
@settings(max_examples=200, deadline=None)
def test_the_timeline_has_no_gap_and_says_what_the_figures_say(seed: int, knots: bool) -> None:
    random = Random(seed)
    work = random_work(random, random_cluster(random, random.randint(1, 6)), knots)
    trace = Trace(len(work.instructions))
    found = ran(work, trace)
    assert found.step_s == ran(work).step_s
    spans = found.timeline(trace)
    for p in range(len(work.instructions)):
        mine = [span for span in spans if span.machine == p]
        assert [span.start_s for span in mine] == [0.0, *(span.stop_s for span in mine[:-1])]
        assert mine[-1].stop_s == found.step_s
        of_kind = {
            kind: sum(span.seconds for span in mine if span.kind == kind)
            for kind in ("compute", "send", "receive", "wait")
        }
        one = found.machine(p, 0, 0, 0)
        assert of_kind == pytest.approx(
            {
                "compute": one.compute_s,
                "send": one.send_s,
                "receive": one.receive_s,
                "wait": one.idle_s,
            },
            abs=1e-9,
        )
        waited_s = found.step_s - one.end_s + sum(cause.wait_s for cause in one.causes)
        assert waited_s <= one.idle_s + 1e-9


@given(seed=seeds)
@settings(max_examples=200, deadline=None)
def test_the_critical_path_is_one_chain_from_0_to_the_end(seed: int) -> None:
    random = Random(seed)
    work = random_work(random, random_cluster(random, random.randint(1, 6)))
    trace = Trace(len(work.instructions))
    found = ran(work, trace)
    path = found.critical_path(trace)
    assert [span.start_s for span in path] == [0.0, *(span.stop_s for span in path[:-1])]
    assert path[-1].stop_s == found.step_s
    assert not any(span.kind == "wait" for span in path)


@given(seed=seeds)
@settings(max_examples=100, deadline=None)
def test_what_is_sent_is_received(seed: int) -> None:
    random = Random(seed)
    work = random_work(random, random_cluster(random, random.randint(1, 6)))
    found = ran(work)
    machines = [found.machine(p, 0, 0, 0) for p in range(len(work.instructions))]
    sends = [i for program in work.instructions for i in program if isinstance(i, Send)]
    total = sum(work.transfers[i.transfer].type.size_bytes for i in sends)
    assert sum(found.link_bytes.values()) == total
    assert sum(m.out_bytes for m in machines) == sum(m.in_bytes for m in machines) == total


@given(seed=seeds)
@settings(max_examples=100, deadline=None)
def test_no_step_is_shorter_than_what_one_machine_or_line_has_to_do(seed: int) -> None:
    """Each machine on a host of its own: with a line within the host it has two."""
    random = Random(seed)
    cluster = random_cluster(random, random.randint(1, 6))
    work = random_work(random, replace(cluster, hosts=(), host_cores=()))
    found = ran(work)
    for p in range(len(work.instructions)):
        one = found.machine(p, 0, 0, 0)
        runs_s = one.compute_s + one.send_s + one.receive_s
        assert found.step_s >= max(runs_s, one.out_s, one.in_s) - 1e-9


@given(seed=seeds)
@settings(max_examples=100, deadline=None)
def test_twice_as_slow_takes_twice_as_long(seed: int) -> None:
    """To the last bit: doubling is exact."""
    random = Random(seed)
    work = random_work(random, random_cluster(random, random.randint(1, 6)))
    assert ran(slower(work, 2.0)).step_s == 2 * ran(work).step_s


@given(seed=seeds, factors=st.lists(st.floats(1, 4), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_without_queues_nothing_gets_faster_by_being_slowed_down(
    seed: int, factors: list[float]
) -> None:
    """Where nobody stands in line, the times of all events are sums and maxima. (With lines or
    shared cores this does not hold: who comes later may let a more urgent one go first.)"""
    random = Random(seed)
    cluster = random_cluster(random, random.randint(1, 6))
    link = replace(cluster.link, bytes_s=inf)
    work = random_work(random, replace(cluster, link=link, hosts=(), host_cores=(), racks=None))
    compute, latency, message = factors
    slow = replace(
        slower(work, compute),
        cluster=replace(
            work.cluster,
            link=replace(
                link, latency_s=link.latency_s * latency, message_s=link.message_s * message
            ),
        ),
    )
    assert ran(slow).step_s >= ran(work).step_s * (1 - 1e-12)


def slower(work: Work, factor: float) -> Work:
    """Everything takes that many times as long."""
    cluster = work.cluster
    link, local = (
        replace(
            one,
            bytes_s=one.bytes_s / factor,
            latency_s=one.latency_s * factor,
            message_s=one.message_s * factor,
        )
        for one in (cluster.link, cluster.local)
    )
    racks = cluster.racks and replace(cluster.racks, bytes_s=cluster.racks.bytes_s / factor)
    return replace(
        work,
        cluster=replace(cluster, link=link, local=local, racks=racks),
        segment_s=[[s * factor for s in segments] for segments in work.segment_s],
        adding_s=[[s * factor for s in segments] for segments in work.adding_s],
        update_s=[s * factor for s in work.update_s],
    )
