"""Calibration: its arithmetic on figures made up, and whole on machines that are simulated."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli_tools import Cli
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.backends.base import Backend, make_backend
from dbgraph.calibrate import stopwatch
from dbgraph.calibrate.context import Context, context_of, in_context
from dbgraph.calibrate.fit import Timed, fit_rates, non_negative
from dbgraph.calibrate.layout import Layout
from dbgraph.calibrate.machines import cluster_of
from dbgraph.calibrate.measure import Measured, measure
from dbgraph.calibrate.rehearse import Rehearsal, rehearsal_plans
from dbgraph.calibrate.samples import SAMPLES, Sample
from dbgraph.calibrate.sketch import Sketch
from dbgraph.calibrate.table import measured_table
from dbgraph.cluster import Cluster, Link, MachineSpec, Rates
from dbgraph.clusterfile import cluster_toml, parse_cluster
from dbgraph.cost import node_work
from dbgraph.errors import ClusterLostError
from dbgraph.ir.types import NO_ATTRS, Attrs, TensorType
from dbgraph.job import Job, Step, StepResult
from dbgraph.ops import COMMUNICATION, LEAVES, OPS
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Recv, Run, Send, Update
from dbgraph.plan.text import parse_plan, print_plan
from dbgraph.simulate import simulate
from dbgraph.state import State

POSITIVE = st.floats(1e-3, 1e3)


# Arithmetic


def roofline(start_s: float, flop_s: float, bytes_s: float) -> list[Timed]:
    works = [(1e6, 1e6), (1e8, 1e6), (1e7, 1e7), (1e9, 1e8), (1e5, 1e5)]
    return [Timed(f, b, start_s + f / flop_s + b / bytes_s) for f, b in works]


def test_rates_of_samples_without_noise_are_exact() -> None:
    found = fit_rates(roofline(20e-6, 50e9, 10e9))
    assert found.start_s == pytest.approx(20e-6)
    assert found.flop_s == pytest.approx(50e9)
    assert found.memory_bytes_s == pytest.approx(10e9)


@settings(deadline=None, max_examples=50)
@given(POSITIVE, POSITIVE, POSITIVE)
def test_rates_of_any_size_are_found(start: float, flop: float, memory: float) -> None:
    found = fit_rates(roofline(start * 1e-6, flop * 1e9, memory * 1e9))
    for timed in roofline(start * 1e-6, flop * 1e9, memory * 1e9):
        forecast_s = found.start_s + timed.flop / found.flop_s
        forecast_s += timed.traffic_bytes / found.memory_bytes_s
        assert forecast_s == pytest.approx(timed.seconds, rel=1e-3)


def test_what_samples_do_not_show_costs_nothing() -> None:
    found = fit_rates([Timed(flop, 0.0, flop / 2e9) for flop in (1e6, 1e8, 1e9)])
    assert found.flop_s == pytest.approx(2e9)
    assert (found.memory_bytes_s, found.start_s) == (inf, pytest.approx(0.0, abs=1e-12))


def test_one_sample_that_went_wrong_moves_little() -> None:
    """Of five equal samples one took a fiftieth, and one fifty times as long."""
    (found,) = non_negative(np.ones((5, 1)), [1.0, 1.01, 0.99, 0.02, 50.0])
    assert found == pytest.approx(1.0, rel=0.02)


def test_half_is_as_far_off_as_twice() -> None:
    """The forecast of two equal samples is not nearer to the shorter one, as it would be with the
    least relative errors: in between they balance."""
    (found,) = non_negative(np.ones((3, 1)), [1.0, 2.0, 4.0])
    assert found == pytest.approx(2.0, rel=1e-3)


def test_no_coefficient_is_negative_and_noise_below_zero_is_left_out() -> None:
    """The second feature would be best at -1."""
    features = np.array([[1.0, 0.0], [1.0, 0.5], [1.0, 0.9], [1.0, 1.0]])
    found = non_negative(features, [1.0, 0.5, 0.1, -0.2])
    assert found[1] == 0.0
    assert 0.1 < found[0] < 1.0


def test_one_machine_of_each_host_is_measured() -> None:
    layout = Layout.of(["a", "a", "b", "b", "c"])
    assert layout.hosts == (0, 0, 1, 1, 2)
    assert layout.machines == (0, 2, 4)


# Samples and sketches


def test_every_op_with_a_kernel_is_of_a_kind_that_is_timed() -> None:
    """`custom` is the user's own; what is pointwise is timed by some."""
    timed = set()
    for sample in SAMPLES:
        name = sample.attrs.str("vjp_of") if sample.op == "vjp" else sample.op
        timed.add(OPS[name].kinds.of(sample.attrs))
    computed = set(OPS) - LEAVES - COMMUNICATION - {"vjp", "custom", "pool2d"}
    assert {OPS[name].kinds.of(NO_ATTRS) for name in computed} <= timed
    assert {f"pool {kind}" for kind in ("max", "average", "l2")} <= timed


def test_a_sketch_does_a_thing_so_many_times_and_travels_as_text() -> None:
    sketch = Sketch(2)
    x = sketch.parameter(0, TensorType((4, 3)))
    y = sketch.node(0, "relu", (x,))
    sketch.run(0, (y,), 5)
    moved = sketch.move(0, 1, y)
    sketch.arrive(1, moved)
    sketch.end_with(sketch.total(1, moved))
    plan = sketch.plan()
    runs = [i for i in plan.programs[0].instructions if isinstance(i, Run)]
    assert len(runs) == 5
    assert [t.type for t in plan.transfers] == [TensorType((4, 3))]
    assert parse_plan(print_plan(plan)) == plan


def test_a_sketch_computes_what_it_says() -> None:
    """Parameters lie between 0.5 and 1.5, so that the sum of 12 is between 6 and 18."""
    sketch = Sketch(1)
    x = sketch.parameter(0, TensorType((4, 3)))
    y = sketch.node(0, "affine", (x,), Attrs(scale=2.0, shift=0.0))
    sketch.run(0, (y,), 3)
    sketch.end_with(sketch.total(0, y))
    backend = make_backend("local")
    try:
        backend.start(Job({"it": sketch.plan()}))
        backend.load(None)
        loss = backend.step(Step("it", feeds={}, want=frozenset({"loss"}))).losses["loss"]
    finally:
        backend.stop()
    assert 12.0 < loss < 36.0


# The whole, on simulated machines


@dataclass
class Simulated:
    """A backend whose steps take no time but on its own clock, and there what a simulation of the
    plan on a cluster takes."""

    cluster: Cluster
    now_s: float = 0.0
    plans: dict[str, Plan] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)

    def start(self, job: Job) -> None:
        self.plans = dict(job.plans)

    def load(self, state: State | None) -> None:
        pass

    def step(self, step: Step) -> StepResult:
        if step.plan not in self.took_s:
            plan = self.plans[step.plan]
            found = simulate(plan.graph, plan.transfers, plan.programs, self.cluster)
            self.took_s[step.plan] = found.step_s
        self.now_s += self.took_s[step.plan]
        return StepResult({"loss": 0.0})

    def collect(self) -> State:
        return State()

    def stop(self) -> None:
        pass


KINDS = {
    "matmul": Rates(50e9, 30e9, 10e-6),
    "local": Rates(20e9, 8e9, 50e-6),
    "pointwise": Rates(10e9, 20e9),  # what a loop takes to start is part of the dispatch
    "reduction": Rates(5e9, 25e9, 3e-6),
}
SPEC = MachineSpec(
    memory_bytes_s=6e9,
    dispatch_s=9e-6,
    kinds=tuple((kind, "float32", rates) for kind, rates in KINDS.items()),
)
LINK = Link(bytes_s=0.7e9, latency_s=120e-6, message_s=70e-6, byte_s=0.5e-9)
OPS_TIMED = tuple(s for s in SAMPLES if s.op in ("contract", "local2d", "relu", "exp", "sum"))


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Simulated:
    cluster = Cluster((SPEC,) * 2, LINK, (0, 0), (2,), LINK, control_s=180e-6)
    backend = Simulated(cluster)
    clock = SimpleNamespace(perf_counter=lambda: backend.now_s)
    monkeypatch.setattr(stopwatch, "time", clock)
    return backend


def calibrated(backend: Backend) -> tuple[Measured, Cluster]:
    layout = Layout((0, 0), 2)
    told: list[float] = []
    measured = measure(backend, layout, told.append, ops=OPS_TIMED, rounds=2)
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] <= 1
    return measured, cluster_of(measured, layout, 2.0**30)


def test_calibrating_a_simulated_cluster_finds_its_figures(simulated: Simulated) -> None:
    """Forecast and calibration share one model: what one puts in the other gets out."""
    _, found = calibrated(simulated)
    spec = found.machines[0]
    assert spec.dispatch_s == pytest.approx(SPEC.dispatch_s, rel=0.01)
    kinds = {kind: rates for kind, dtype, rates in spec.kinds if dtype == "float32"}
    for kind in ("matmul", "local", "reduction"):
        assert kinds[kind].flop_s == pytest.approx(KINDS[kind].flop_s, rel=0.02), kind
        assert kinds[kind].memory_bytes_s == pytest.approx(KINDS[kind].memory_bytes_s, rel=0.02)
    assert (found.hosts, found.host_cores) == ((0, 0), (2,))


def test_what_is_measured_becomes_a_cluster_file_and_a_table(simulated: Simulated) -> None:
    measured, found = calibrated(simulated)
    assert parse_cluster(cluster_toml(found)) == found
    text = measured_table(measured, found, Layout((0, 0)))
    for kind in KINDS:
        assert f"\n{kind} " in text
    assert "within a host: " in text
    assert "a step takes " in text


def test_only_steps_of_some_milliseconds_are_compared(simulated: Simulated) -> None:
    """An op of microseconds is run hundreds of times, one of ten milliseconds once and twice."""
    calibrated(simulated)
    most: dict[str, int] = {}
    for name in simulated.took_s:
        what, _, times = name.partition(" x")
        most[what] = max(most.get(what, 0), int(times or 0))
    assert most["0 dispatch"] == 1024
    assert most["0 memory"] == 2


# In steps


def rehearsed(plan: Plan, cluster: Cluster) -> Rehearsal:
    """What a cluster would show of a plan."""
    found = simulate(plan.graph, plan.transfers, plan.programs, cluster, timeline=True)
    seen: dict[type, dict[tuple[int, int, int], float]] = {Run: {}, Send: {}, Recv: {}, Update: {}}
    for span in found.timeline:
        if span.instruction is None or span.kind == "wait":
            continue
        i = plan.programs[span.machine].instructions[span.instruction]
        number = i.segment if isinstance(i, Run) else getattr(i, "transfer", 0)
        seen[type(i)][span.machine, number, getattr(i, "microbatch", 0)] = span.seconds
    link = cluster.local
    ways = {
        part: link.latency_s + plan.transfers[part[1]].type.size_bytes / link.bytes_s
        for part in seen[Recv]
    }
    besides_s = cluster.driver_s + plan.partitions * cluster.control_s
    parts = seen[Run], seen[Update], seen[Send], seen[Recv]
    return Rehearsal(plan, *parts, ways, found.step_s, besides_s)


@pytest.mark.parametrize("crowding", [0.0, 0.35])
def test_rehearsals_of_a_simulated_cluster_tell_its_figures(crowding: float) -> None:
    """Its work is slower in steps than alone: what one puts in the other gets out."""
    alone = Cluster((SPEC,) * 2, hosts=(0, 0), host_cores=(2,), pinned=True)
    put = Context(90e-6, 1.3, crowding, LINK, None, 900e-6, 70e-6)
    true = in_context(alone, put)
    seen = tuple(rehearsed(p, true.first(p.partitions)) for p in rehearsal_plans(2))
    got = in_context(alone, context_of(seen, alone))
    assert got.crowding == pytest.approx(crowding, abs=0.1)
    assert got.driver_s == pytest.approx(900e-6, rel=0.01)
    assert got.control_s == pytest.approx(70e-6, rel=0.01)
    if not crowding:  # else parts of a machine's time are its neighbour's doing
        assert got.local.latency_s == pytest.approx(LINK.latency_s, rel=0.01)
        assert got.local.message_s == pytest.approx(LINK.message_s, rel=0.01)
        assert got.machines[0].dispatch_s == pytest.approx(90e-6, rel=0.05)
    for rehearsal in seen:
        plan = rehearsal.plan
        here = got.first(plan.partitions)
        again = simulate(plan.graph, plan.transfers, plan.programs, here)
        assert again.step_s == pytest.approx(rehearsal.step_s, rel=0.05)


def test_where_nothing_crosses_links_stay_as_they_were() -> None:
    alone = Cluster((SPEC,))
    seen = tuple(rehearsed(p, alone) for p in rehearsal_plans(1))
    found = context_of(seen, alone)
    assert (found.local, found.link) == (None, None)
    assert in_context(alone, found).link == alone.link


# The command line


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--key", "job.key"], "--hosts, which is not given"),
        (["--hosts", "hosts.toml"], "--hosts needs --key"),
        (["--hosts", "h.toml", "--key", "k", "-n", "2"], "--partitions is for workers on this"),
        (["--hosts", "h.toml", "--key", "k", "--pin"], "--pin is for workers on this host"),
        (["--hosts", "h.toml", "--key", "k"], "h.toml"),
        (["-n", "0"], "-n"),
        (["-o", "nowhere/cluster.toml"], "there is no folder"),
        (["net.py"], "net.py"),
    ],
)
def test_wrong_input_is_said_before_anything_is_measured(
    cli: Cli, args: list[str], says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("calibrate", *args)
    assert outcome.code == 2
    assert says in outcome.err
    assert not outcome.out


@pytest.mark.slow
def test_workers_that_do_not_answer_are_reported(tmp_path: Path, cli: Cli) -> None:
    cli("key", tmp_path / "job.key")
    hosts = tmp_path / "hosts.toml"
    hosts.write_text('[[host]]\naddress = "tcp://127.0.0.1:9"\n')
    backend = make_backend("zmq", hosts=hosts, key=tmp_path / "job.key", start_s=1.0)
    try:
        with pytest.raises(ClusterLostError, match="was not ready"):
            measure(backend, Layout((0,)), lambda done: None, ops=SAMPLES[:1], rounds=1)
    finally:
        backend.stop()


def test_an_op_and_its_derivatives_are_samples() -> None:
    types = (TensorType((4, 3)), TensorType((3, 2)))
    product = Sample("contract", Attrs(contracted=1), types)
    forward, by_x, by_w = product.all()
    assert forward == product
    assert by_x.types == (TensorType((3, 2)), TensorType((4, 2)))
    assert by_w.types == (TensorType((4, 3)), TensorType((4, 2)))


def test_a_sample_is_priced_as_the_node_that_it_is() -> None:
    sketch = Sketch(1)
    inputs = [sketch.parameter(0, t, k) for k, t in enumerate((TensorType((4, 3)),) * 2)]
    sum_ = sketch.node(0, "add", inputs)
    sketch.run(0, (sum_,))
    sketch.end_with(sketch.total(0, sum_))
    graph = sketch.plan().graph
    assert node_work(graph, graph[sum_]) == ("pointwise", 12, 3 * 48)
