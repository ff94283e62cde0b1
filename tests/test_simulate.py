"""The simulator, rule by rule, against small schedules counted by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from time import process_time

import pytest

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.cluster import Cluster, Link, MachineSpec, Racks
from dbgraph.compile import forecast
from dbgraph.errors import UsageError
from dbgraph.ir.types import TensorType
from dbgraph.memory import peak_bytes
from dbgraph.plan.program import Recv, Run, Send, Transfer, parse_instruction
from dbgraph.simulate import Blocked, Cause, Forecast, ServerTraffic, simulate
from dbgraph.simulate.engine import Engine
from dbgraph.simulate.servers import with_servers
from dbgraph.simulate.summary import Summary
from dbgraph.simulate.trace import Trace
from dbgraph.simulate.work import Work

# Arithmetic alone counts: memory and dispatch cost nothing.
MACHINE = MachineSpec(flop_s=1e3, memory_bytes_s=inf, dispatch_s=0.0)


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
    plan = dbg.make_plan(stages(), 2, strategy="stages", mode="inference")
    cluster = Cluster((MACHINE,) * 2, Link(bytes_s=800.0, latency_s=0.05, message_s=0.0))
    cost = forecast(plan, cluster)
    assert cost.step_s == pytest.approx(0.2 + 0.05 + 0.1 + 0.2)
    assert cost.link_bytes == {(0, 1): 80}
    assert [m.flop for m in cost.machines] == [200, 200]
    assert [m.out_bytes for m in cost.machines] == [80, 0]
    assert [m.busy_s for m in cost.machines] == pytest.approx([0.3, 0.3])


def test_microbatches_overlap() -> None:
    """Two microbatches of 0.1 s a stage: the second stage works while the first does."""
    plan = dbg.make_plan(stages(), 2, strategy="stages", mode="inference", microbatches=2)
    cluster = Cluster((MACHINE,) * 2, Link(bytes_s=inf, latency_s=0.0, message_s=0.0))
    assert forecast(plan, cluster).step_s == pytest.approx(0.3)


# Schedules without a network: `RUN sN.0` takes N seconds, each line 100 bytes/s, latency 0.5 s.

LINK = Link(bytes_s=100.0, latency_s=0.5, message_s=0.0)


def cluster(count: int, **more: object) -> Cluster:
    local = Link(bytes_s=1000.0, latency_s=0.25, message_s=0.0)
    return replace(Cluster((MachineSpec(),) * count, LINK, local=local), **more)


def work(
    machines: Cluster, programs: Sequence[str], transfers: Sequence[tuple[int, int, int]] = ()
) -> Work:
    """Args: programs: instructions with `;` between. transfers: (from, to, bytes)."""
    parsed = [
        [parse_instruction(i.strip()) for i in text.split(";") if i.strip()] for text in programs
    ]
    return Work(
        cluster=machines,
        transfers=tuple(
            Transfer(i, "", "", source, to, TensorType((size,), "uint8"))
            for i, (source, to, size) in enumerate(transfers)
        ),
        instructions=parsed,
        own=[range(len(program)) for program in parsed],
        segment_s=[list(map(float, range(20)))] * len(parsed),
        update_s=[0.0] * len(parsed),
    )


def ran(todo: Work, count: int | None = None) -> Forecast:
    """Args: count: of machines that are no shards."""
    count = len(todo.instructions) if count is None else count
    trace = Trace(len(todo.instructions))
    engine = Engine(todo, trace)
    engine.run()
    found = Summary(engine, count)
    return Forecast(
        found.step_s,
        tuple(found.machine(p, 0, 0, 0) for p in range(count)),
        found.link_bytes,
        found.blocked,
        found.timeline(trace),
        found.critical_path(trace),
    )


def ends(found: Forecast) -> list[float]:
    return [machine.end_s for machine in found.machines]


def spans(found: Forecast, machine: int) -> list[tuple[str, float, float]]:
    return [(s.kind, s.start_s, s.stop_s) for s in found.timeline if s.machine == machine]


def test_a_value_travels() -> None:
    """Computed at 1, its first byte arrives at 1.5, its last one 2 s later."""
    todo = work(cluster(2), ["RUN s1.0; SEND t0.0; RUN s3.0", "RECV t0.0; RUN s2.0"], [(0, 1, 200)])
    found = ran(todo)
    assert ends(found) == [4.0, 5.5]
    assert spans(found, 0) == [("compute", 0, 1), ("compute", 1, 4), ("wait", 4, 5.5)]
    assert spans(found, 1) == [("wait", 0, 3.5), ("compute", 3.5, 5.5)]
    assert found.machines[1].causes == (Cause(0, 0, 3.5),)
    assert [m.idle_s for m in found.machines] == [1.5, 3.5]
    assert [m.busy_s for m in found.machines] == [6.0, 4.0]
    path = [(s.kind, s.machine, s.start_s, s.stop_s) for s in found.critical_path]
    assert path == [
        ("compute", 0, 0, 1),
        ("latency", 1, 1, 1.5),
        ("link", 1, 1.5, 3.5),
        ("compute", 1, 3.5, 5.5),
    ]


def test_messages_occupy_both_ends() -> None:
    """0.25 s before it leaves, 0.25 s after it is there; sends never wait for the receiver."""
    link = replace(LINK, message_s=0.25)
    todo = work(
        cluster(2, link=link), ["SEND t0.0; RUN s1.0", "RUN s3.0; RECV t0.0"], [(0, 1, 100)]
    )
    found = ran(todo)
    assert spans(found, 0) == [("send", 0, 0.25), ("compute", 0.25, 1.25), ("wait", 1.25, 3.25)]
    assert spans(found, 1) == [("compute", 0, 3), ("receive", 3, 3.25)]
    assert [m.busy_s for m in found.machines] == [2.25, 4.25]


def test_values_stand_in_line_at_their_sender() -> None:
    """Two of 100 bytes to different machines: the second leaves a second after the first."""
    programs = ["SEND t0.0; SEND t1.0", "RECV t0.0", "RECV t1.0"]
    found = ran(work(cluster(3), programs, [(0, 1, 100), (0, 2, 100)]))
    assert ends(found) == [0.0, 1.5, 2.5]


def test_values_stand_in_line_at_their_receiver_in_the_order_of_arrival() -> None:
    """Machine 0's second value leaves at 2 and comes at 2.5; machine 1's, which was sent later,
    came at 1.5 and has the line until 3."""
    programs = ["SEND t0.0; SEND t1.0", "RUN s1.0; SEND t2.0", "RECV t0.0", "RECV t1.0; RECV t2.0"]
    transfers = [(0, 2, 200), (0, 3, 150), (1, 3, 150)]
    found = ran(work(cluster(4), programs, transfers))
    assert ends(found) == [0.0, 1.0, 2.5, 4.5]
    path = [(s.kind, s.transfer, s.start_s, s.stop_s) for s in found.critical_path]
    assert path == [
        ("compute", None, 0, 1),
        ("latency", 2, 1, 1.5),
        ("link", 2, 1.5, 3),
        ("link", 1, 3, 4.5),
    ]


def test_machines_of_one_host_share_its_line() -> None:
    """0 and 1 on one host send to others; 4 and 5 on one host receive."""
    machines = cluster(6, hosts=(0, 0, 1, 2, 3, 3))
    programs = ["SEND t0.0", "SEND t1.0", "RECV t0.0", "RECV t1.0", "", ""]
    assert ends(ran(work(machines, programs, [(0, 2, 100), (1, 3, 100)]))) == [0, 0, 1.5, 2.5, 0, 0]
    programs = ["", "", "SEND t0.0", "SEND t1.0", "RECV t0.0", "RECV t1.0"]
    assert ends(ran(work(machines, programs, [(2, 4, 100), (3, 5, 100)]))) == [0, 0, 0, 0, 1.5, 2.5]


def test_what_stays_on_a_host_takes_the_local_link() -> None:
    """1000 bytes/s after 0.25 s, and the host's own line is free meanwhile."""
    machines = cluster(3, hosts=(0, 0, 1))
    programs = ["SEND t0.0; SEND t1.0", "RECV t0.0", "RECV t1.0"]
    found = ran(work(machines, programs, [(0, 1, 1000), (0, 2, 100)]))
    assert ends(found) == [0.0, 1.25, 1.5]
    assert [m.out_s for m in found.machines] == [2.0, 0.0, 0.0]


def test_machines_of_one_host_share_its_cores() -> None:
    """Both run at half speed until 1 has done its 1 s, at 2; then 0 has one left."""
    machines = cluster(2, hosts=(0, 0), host_cores=(1,))
    found = ran(work(machines, ["RUN s2.0", "RUN s1.0"]))
    assert ends(found) == [3.0, 2.0]
    assert [m.compute_s for m in found.machines] == [3.0, 2.0]
    assert ends(ran(work(replace(machines, host_cores=(2,)), ["RUN s2.0", "RUN s1.0"]))) == [2, 1]


def test_cores_are_shared_by_what_each_keeps_busy() -> None:
    """5 wanted of 4: both at 4/5 until 0 has done its 4 s, at 5; then 1 has 4 of its 8 s left."""
    specs = MachineSpec(cores=3), MachineSpec(cores=2)
    machines = cluster(2, machines=specs, hosts=(0, 0), host_cores=(4,))
    assert ends(ran(work(machines, ["RUN s4.0", "RUN s8.0"]))) == [5.0, 9.0]


def test_one_that_begins_later_slows_the_other_from_then_on() -> None:
    """1 begins when the value is there, at 0.25: 0 has 1.75 s left, both at half speed until 1 has
    done its 1 s, at 2.25; then 0 has 0.75 left."""
    machines = cluster(2, hosts=(0, 0), host_cores=(1,))
    programs = ["SEND t0.0; RUN s2.0", "RECV t0.0; RUN s1.0"]
    assert ends(ran(work(machines, programs, [(0, 1, 0)]))) == [3.0, 2.25]


def test_a_message_keeps_one_core_busy() -> None:
    """3 wanted of 2, so 1 s of message takes 1.5; 0 has done 1 of 2 s by then."""
    machines = cluster(
        2,
        machines=(MachineSpec(cores=2), MachineSpec(cores=2)),
        hosts=(0, 0),
        host_cores=(2,),
        local=Link(bytes_s=inf, latency_s=0.0, message_s=1.0),
    )
    found = ran(work(machines, ["RUN s2.0; RECV t0.0", "SEND t0.0"], [(1, 0, 1)]))
    assert ends(found) == [3.5, 1.5]


def test_a_rack_has_one_uplink() -> None:
    """Hosts 0 and 1 are one rack, 2 and 3 the other; 50 bytes/s between. 100 bytes take 2 s on
    the uplink though 1 s on each line; the second ones wait for the uplink, not the line."""
    machines = cluster(4, racks=Racks(2, 50.0))
    programs = ["SEND t0.0", "SEND t1.0", "RECV t0.0", "RECV t1.0"]
    transfers = [(0, 2, 100), (1, 3, 100)]
    found = ran(work(machines, programs, transfers))
    assert ends(found) == [0.0, 0.0, 2.5, 4.5]
    path = [(s.kind, s.transfer, s.start_s, s.stop_s) for s in found.critical_path]
    assert path == [("link", 0, 0, 2), ("link", 1, 2, 4), ("latency", 1, 4, 4.5)]
    inside = ran(work(machines, ["SEND t0.0", "RECV t0.0", "", ""], [(0, 1, 100)]))
    assert ends(inside)[1] == 1.5


def test_what_trickles_in_leaves_the_line_to_others() -> None:
    """The uplink lets 100 bytes through until 2.5; the line needs 1 s of that for them, so that
    the neighbour's, which come at 1.6 and need 1 s, are there at 2.6."""
    machines = cluster(4, racks=Racks(2, 50.0))
    programs = ["SEND t0.0", "", "RECV t0.0; RECV t1.0", "RUN s1.0; SEND t1.0"]
    found = ran(work(machines, programs, [(0, 2, 100), (3, 2, 110)]))
    assert ends(found)[2] == pytest.approx(2.6)


def test_microbatches_are_messages_of_their_own() -> None:
    programs = [
        "RUN s1.0; SEND t0.0; RUN s1.1; SEND t0.1",
        "RECV t0.0; RUN s1.0; RECV t0.1; RUN s1.1",
    ]
    found = ran(work(cluster(2), programs, [(0, 1, 100)]))
    assert ends(found) == [2.0, 4.5]
    assert found.link_bytes == {(0, 1): 200}
    assert found.machines[1].causes == (Cause(0, 0, 2.5),)


def test_causes_of_idling_are_peers_with_their_slowest_transfer() -> None:
    programs = [
        "RUN s1.0; SEND t0.0; RUN s4.0; SEND t1.0",
        "RUN s2.0; SEND t2.0",
        "RECV t0.0; RECV t2.0; RECV t1.0",
    ]
    found = ran(work(cluster(3), programs, [(0, 2, 0), (0, 2, 0), (1, 2, 0)]))
    assert found.machines[2].causes == (Cause(0, 1, 1.5 + 3.0), Cause(1, 2, 1.0))


# Traffic with a parameter server


def test_parameter_server_traffic() -> None:
    """Two partitions ask two shards at 0, these hear it at 0.5. Each sends 100 bytes to partition
    0, then to 1. They meet in the partitions' lines: 0 has all at 3, 1 at 4. Each computes 1 s
    and pushes 50 bytes to each shard; the last ones are there at 6.5."""
    todo = work(cluster(2), ["RUN s1.0", "RUN s1.0"])
    traffic = ServerTraffic(2, fetch_bytes=(200, 200), push_bytes=(100, 100))
    found = ran(with_servers(todo, traffic), 2)
    assert ends(found) == [4.0, 5.0]
    assert found.step_s == 6.5
    assert found.link_bytes == {
        **{(shard, p): 100 for shard in (2, 3) for p in (0, 1)},
        **{(p, shard): 50 for shard in (2, 3) for p in (0, 1)},
    }
    computes = [s for s in found.timeline if s.kind == "compute"]
    assert [(s.machine, s.instruction) for s in computes] == [(0, 0), (1, 0)]
    assert all(s.instruction is None for s in found.timeline if s.kind == "wait")
    assert {s.machine for s in found.timeline} == {0, 1}
    assert [cause.peer for cause in found.machines[0].causes] == [2, 3]


def test_parameter_server_traffic_every_few_steps() -> None:
    """A step has its share: 210 of 1,050 bytes in 4 parts; what is pushed fits as little."""
    todo = work(cluster(1), ["RUN s1.0"])
    traffic = ServerTraffic(4, (1050,), (10,), fetch_every=5, push_every=5)
    found = ran(with_servers(todo, traffic), 1)
    assert sorted(found.link_bytes.values()) == [1, 1, 52, 52, 53, 53]
    assert sum(size for (_, to), size in found.link_bytes.items() if to == 0) == 210


def test_servers_stand_behind_the_hosts_of_the_cluster() -> None:
    """Both partitions share one line to them: 100 bytes each, one after the other."""
    machines = cluster(2, hosts=(0, 0), host_cores=(1,), racks=Racks(1, inf))
    traffic = ServerTraffic(1, fetch_bytes=(0, 0), push_bytes=(100, 100))
    assert ran(with_servers(work(machines, ["", ""]), traffic), 2).step_s == 2.5


def test_a_plan_with_server_traffic() -> None:
    """Before the stages of 0.2 s each fetches its 100 bytes of weights; then as without."""
    plan = dbg.make_plan(stages(), 2, strategy="stages", mode="inference")
    machines = Cluster((MACHINE,) * 2, Link(bytes_s=800.0, latency_s=0.05, message_s=0.0))
    alone = forecast(plan, machines)
    traffic = ServerTraffic(1, (100, 100), (0, 0))
    found = simulate(plan.graph, plan.transfers, plan.programs, machines, traffic=traffic)
    fetch_s = 0.05 + 0.05 + 100 / 800
    assert found.step_s == pytest.approx(alone.step_s + fetch_s)
    assert [m.flop for m in found.machines] == [m.flop for m in alone.machines]


@pytest.mark.parametrize(
    "traffic",
    [((0, 0, 0), (0, 0)), ((0, 0), (0,))],
)
def test_server_traffic_of_another_plan(traffic: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match="does not fit 2 programs"):
        with_servers(work(cluster(2), ["", ""]), ServerTraffic(1, *traffic))


@pytest.mark.parametrize("options", [{"shards": 0}, {"fetch_every": 0}, {"push_every": -1}])
def test_server_traffic_that_never_happens(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="each must be at least 1"):
        ServerTraffic(**{"shards": 1, "fetch_bytes": (), "push_bytes": (), **options})


# Deadlocks


def test_a_deadlock_is_a_circle_with_those_behind_it() -> None:
    """0 waits for 1, 1 for 2, 2 for 0; and 3 waits for 0."""
    programs = [
        "RUN s1.0; RECV t1.0; SEND t0.0; SEND t3.0",
        "RECV t2.0; SEND t1.0",
        "RECV t0.0; SEND t2.0",
        "RECV t3.0",
    ]
    found = ran(work(cluster(4), programs, [(0, 2, 1), (1, 0, 1), (2, 1, 1), (0, 3, 1)]))
    assert found.blocked == (
        Blocked(2, 0, 0, 0, 0),
        Blocked(0, 1, 1, 0, 1),
        Blocked(1, 0, 2, 0, 2),
        Blocked(3, 0, 3, 0, 0),
    )
    circle = [one.partition for one in found.cycle]
    assert sorted(circle) == [0, 1, 2]
    for one, after in zip(found.cycle, [*found.cycle[1:], found.cycle[0]], strict=True):
        assert one.source == after.partition
    assert found.step_s == 1.0
    assert found.critical_path == ()
    assert [m.idle_s for m in found.machines] == [0.0, 1.0, 1.0, 1.0]


def test_no_circle_where_the_sender_has_ended() -> None:
    found = ran(work(cluster(2), ["RUN s1.0", "RECV t0.0"], [(0, 1, 1)]))
    assert [one.partition for one in found.blocked] == [1]
    assert found.cycle == ()


def test_too_few_machines_for_the_programs() -> None:
    plan = dbg.make_plan(stages(), 2, strategy="stages", mode="inference")
    with pytest.raises(UsageError, match="the cluster has 1 machine, not 2"):
        forecast(plan, Cluster.equal(1))


def test_machines_beyond_the_programs_are_left_out() -> None:
    plan = dbg.make_plan(stages(), 2, strategy="stages", mode="inference")
    assert forecast(plan, Cluster.equal(5)) == forecast(plan, Cluster.equal(2))


def test_a_deadlock_is_a_result_that_names_who_waits_for_what() -> None:
    plan = dbg.make_plan(stages(), 2, strategy="stages", mode="inference")
    first = plan.programs[0]
    silent = replace(
        first, instructions=tuple(i for i in first.instructions if not isinstance(i, Send))
    )
    cost = simulate(plan.graph, plan.transfers, (silent, plan.programs[1]), Cluster((MACHINE,) * 2))
    assert [(b.partition, b.transfer) for b in cost.blocked] == [(1, 0)]
    waits = plan.programs[1].instructions[cost.blocked[0].position]
    assert isinstance(waits, Recv)


def test_peak_memory_of_a_chain_by_hand() -> None:
    """Stage 0 holds x (80 B), its weights (100 B) and its result (80 B); stage 1 holds its
    weights, what it received and its result."""
    plan = dbg.make_plan(stages(), 2, strategy="stages", mode="inference")
    assert peak_bytes(plan.graph, plan.transfers, plan.programs) == (260, 260)


def test_inputs_of_the_whole_batch_are_there_from_the_beginning() -> None:
    """Stage 0 holds x of 4 examples (80 B), its weights (100 B) and results of one at a time."""
    plan = dbg.make_plan(stages(), 2, strategy="stages", mode="inference", microbatches=4)
    first, second = peak_bytes(plan.graph, plan.transfers, plan.programs)
    assert first == 80 + 100 + 20
    assert second == 100 + 20 + 4 * 20  # the outputs of all microbatches stay


def test_gradients_of_microbatches_are_one_sum() -> None:
    """Most is alive when the last of 4 microbatches' gradients is computed: x (80 B), the weights
    and the sum so far (100 B each), three losses (4 B each); the new gradient (100 B) with the
    cotangent that it is made of (20 B), and the loss."""
    with dbg.Network("n", batch=4) as net:
        y = L.Dense(5, use_bias=False)(dbg.input("x", (5,)))
        dbg.loss(L.MeanSquaredError()(y, y))
    plan = dbg.make_plan(net, 1, microbatches=4, strategy="stages")
    (peak,) = peak_bytes(plan.graph, plan.transfers, plan.programs)
    assert peak == 80 + 100 + 100 + 3 * 4 + 100 + 20 + 4


def test_the_forecast_knows_nothing_of_the_backend() -> None:
    """The simulator runs the plan's own instructions: all of them, in any mode."""
    plan = dbg.make_plan(stages(), 2, strategy="stages", mode="inference", microbatches=4)
    cost = forecast(plan)
    sends = sum(isinstance(i, Send) for p in plan.programs for i in p.instructions)
    assert sends == 4
    assert sum(cost.link_bytes.values()) == 80


# Speed


@pytest.mark.slow
def test_a_million_instructions() -> None:
    """1,024 machines in a ring, each of which computes, sends and receives 326 times. It takes
    some 4 s; anything that grows with the square of the machines or the messages would take
    minutes."""
    count, rounds = 1024, 326
    programs = [
        [
            i
            for r in range(rounds)
            for i in (Run(1 + r % 19), Send(r * count + p), Recv(r * count + (p - 1) % count))
        ]
        for p in range(count)
    ]
    type_ = TensorType((1000,), "uint8")
    todo = replace(
        work(Cluster.equal(count), [""] * count),
        transfers=tuple(
            Transfer(i, "", "", i % count, (i + 1) % count, type_) for i in range(count * rounds)
        ),
        instructions=programs,
        own=[range(len(program)) for program in programs],
    )
    start_s = process_time()
    engine = Engine(todo)
    engine.run()
    found = Summary(engine, count)
    assert not found.blocked
    assert sum(found.machine(p, 0, 0, 0).out_bytes for p in range(count)) == count * rounds * 1000
    assert process_time() - start_s < 40
