"""Traces of real runs: every instruction once, every message at both ends, however a run ends."""

from __future__ import annotations

import os
import signal
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cli_tools import Cli
from replica_tools import arrays, network, train
from zmq_tools import running, step, toy_plan

import dbgraph as dbg
from dbgraph.cluster import Cluster
from dbgraph.errors import ClusterLostError
from dbgraph.job import Job
from dbgraph.plan.program import Recv, Run, Send
from dbgraph.plan.text import save_plan
from dbgraph.trace.against import compare
from dbgraph.trace.assemble import assemble
from dbgraph.trace.collect import Collector
from dbgraph.trace.model import LANES, Trace
from dbgraph.trace.pftrace import open_trace
from dbgraph.trace.timeline import timeline

STEPS = 6


def _check(trace: Trace) -> None:
    """What holds in every trace of a run that ended well."""
    for process in trace.processes:
        assert process.clock.uncertainty_ns >= 0
        for lane in LANES:
            events = [event for event in process.events if event.lane == lane]
            assert all(event.start_ns <= event.stop_ns for event in events)
            for before, after in pairwise(events):
                assert before.stop_ns <= after.start_ns, (process.name, before, after)
    doubt = {process.name: process.clock.uncertainty_ns for process in trace.processes}
    sends = [e for _, e in trace if e.kind == "send"]
    receives = [e for _, e in trace if e.kind == "receive"]
    pairs = [key for key in trace.messages if key[2]]
    assert len(sends) == len(receives) == len(pairs) > 0
    for (source, to, *_), (sent, received) in trace.messages.items():
        assert received.arrived_ns is not None
        assert received.arrived_ns + doubt[source] + doubt[to] >= sent.start_ns
        assert received.stop_ns >= received.arrived_ns


def _instructions(trace: Trace, plan: dbg.Plan, name: str) -> Counter[tuple[str, int]]:
    """(replica, run) → how many partitions ran all of the program, each instruction once."""
    found: dict[tuple[str, str, int], Counter[tuple[str, int, int]]] = {}
    for process, event in trace:
        if event.lane == "program" and event.plan == name:
            replica, _, partition = process.name.rpartition("partition ")
            key = replica, partition, event.run
            about = event.kind, event.number, event.microbatch
            found.setdefault(key, Counter())[about] += 1
    whole: Counter[tuple[str, int]] = Counter()
    for (replica, partition, run), counts in found.items():
        assert counts == _expected(plan, int(partition))
        whole[replica, run] += 1
    return whole


def _expected(plan: dbg.Plan, partition: int) -> Counter[tuple[str, int, int]]:
    found: Counter[tuple[str, int, int]] = Counter()
    for one in plan.programs[partition].instructions:
        match one:
            case Run(segment, microbatch):
                found["run", segment, microbatch] += 1
            case Send(transfer, microbatch):
                found["send", transfer, microbatch] += 1
            case Recv(transfer, microbatch):
                found["receive", transfer, microbatch] += 1
            case _:
                found["update", 0, 0] += 1
    return found


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "zmq"])
@pytest.mark.parametrize("microbatches", [1, 2])
def test_one_plan(backend: str, microbatches: int, tmp_path: Path) -> None:
    path = tmp_path / "run.pftrace"
    trainer = dbg.Trainer(
        network(),
        dbg.Data(arrays(), arrays(16, 1)),
        partitions=2,
        strategy="tiles",
        microbatches=microbatches,
        backend=backend,
        steps=STEPS,
        trace=path,
        progress="none",
    )
    trainer.train()
    trace, plan = open_trace(path), trainer.plan
    _check(trace)
    assert [p.name for p in trace.processes] == ["driver", "partition 0", "partition 1"]
    runs = _instructions(trace, plan, "train")
    assert len(runs) == STEPS
    assert set(runs.values()) == {2}
    orders = [e for _, e in trace if e.kind == "order" and e.plan == "train"]
    assert [order.step for order in orders] == list(range(STEPS))
    assert {e.plan for _, e in trace if e.kind == "run"} == {"train", "evaluate"}
    found = compare(plan, trace, Cluster.equal(2))
    assert (found.steps, found.replicas) == (STEPS - found.left_out, 1)
    assert found.step.measured_s > 0.0
    # Of two runs whose ends are seen at once the second may seem to take no time (`trace.program`).
    assert all(gap.measured_s >= 0.0 for gap in (*found.segments, *found.links))
    assert sum(gap.measured_s for gap in found.segments) > 0.0
    assert len(timeline(trace).arrows) == len([e for _, e in trace if e.kind == "send"])


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["downpour", "sync", "sandblaster"])
def test_replicas_with_shards_in_threads(algorithm: str, tmp_path: Path) -> None:
    _replicas("local", algorithm, tmp_path)


@pytest.mark.slow
def test_replicas_with_shards_in_processes(tmp_path: Path) -> None:
    trace = _replicas("zmq", "downpour", tmp_path)
    compared = [p.clock for p in trace.processes if p.name != "coordinator"]
    assert all(clock.samples >= 4 and clock.shared for clock in compared)
    assert "of the driver's" in trace.note


def _replicas(backend: str, algorithm: str, folder: Path) -> Trace:
    path, plan_path = folder / "run.pftrace", folder / "toy.plan"
    plan = dbg.make_plan(network(), partitions=2, strategy="tiles")
    save_plan(plan, plan_path)
    train(
        plan=plan_path,
        algorithm=algorithm,
        replicas=2,
        shards=2,
        backend=backend,
        trace=path,
    )
    trace = open_trace(path)
    _check(trace)
    names = [process.name for process in trace.processes]
    assert names == [
        "coordinator",
        *(f"replica {r}, partition {p}" for r in range(2) for p in range(2)),
        "shard 0",
        "shard 1",
    ]
    runs = _instructions(trace, plan, "train")
    assert runs
    assert set(runs.values()) == {2}
    servers = [e for p, e in trace if p.name.startswith("shard") and e.kind == "handle"]
    assert {"Restore", "Cut"} <= {event.name for event in servers}
    assert {"server", "orders", "compute"} <= {b.kind for b in timeline(trace).blocks}
    return trace


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_is_written_as_far_as_it_is_known() -> None:
    collector, plan = Collector(), toy_plan(2)
    with running(Job({"train": plan}, collector=collector), machine="dbgraph.machine") as backend:
        backend.load(None)
        for number in range(3):
            backend.step(step(number))
        os.kill(backend.processes[1], signal.SIGKILL)
        with pytest.raises(ClusterLostError):
            backend.step(step(3))  # both partitions wait for each other in every step
    trace = assemble(collector, {"train": plan}, "zmq", "partition 1 is lost")
    kinds = {p.name: {e.kind for e in p.events} for p in trace.processes}
    assert {"run", "send", "receive"} <= kinds["partition 0"]
    assert len([e for _, e in trace if e.kind == "order"]) >= 3
    assert "ended early" in trace.note


@pytest.mark.slow
def test_a_trainer_that_fails_leaves_its_trace(tmp_path: Path) -> None:
    path = tmp_path / "run.pftrace"
    bad = arrays()
    bad["x"][20:] = float("nan")
    with pytest.raises(dbg.DbgraphError):
        train(data=bad, partitions=2, strategy="tiles", trace=path, steps=12)
    trace = open_trace(path)
    assert trace.ended
    assert any(event.kind == "run" for _, event in trace)


@pytest.mark.slow
def test_run_writes_a_trace_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli, plan, path = Cli(capsys), tmp_path / "p.plan", tmp_path / "run.pftrace"
    save_plan(dbg.make_plan(network(), partitions=2, strategy="tiles", mode="inference"), plan)
    np.savez(tmp_path / "x.npz", x=arrays(64)["x"])
    code, _, said = cli("run", plan, "--inputs", tmp_path / "x.npz", "--trace", path)
    assert code == 0
    assert f"wrote {path}" in said
    _check(open_trace(path))
    code, out, _ = cli("simulate", plan, "--against", path, "--json")
    assert code == 0
    assert '"measured_s"' in out
