"""Traces opened by Perfetto's own trace processor, the engine of ui.perfetto.dev.

Nobody installs it along with dbgraph: `TRACE_PROCESSOR` names a folder that holds it, as
`trace_processor.mjs` says, and there has to be Node.js.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from zmq_tools import running, step, toy_plan

from dbgraph.job import Job
from dbgraph.trace.assemble import assemble
from dbgraph.trace.collect import Collector
from dbgraph.trace.model import Event, PlanMark, Process, Trace
from dbgraph.trace.pftrace import save_trace

pytestmark = pytest.mark.slow

_DRIVER = Path(__file__).parent / "trace_processor.mjs"
_WRONG = (
    "select name, value from stats where value > 0 and (severity != 'info' or name like '%skip%')"
)
_SLICES = "select category, name, ts, dur from slice where category is not null order by ts, depth"
_FLOWS = """
    select s.name, r.name from flow join slice s on s.id = slice_out join slice r on r.id = slice_in
"""
_PROCESSES = "select name from process where name is not null order by pid"
_HEADER = "select t.name from track t join slice s on s.track_id = t.id where s.category is null"


def _asked(path: Path, *queries: str) -> list[list[Any]]:
    """The rows that each query finds in a trace."""
    folder, node = os.environ.get("TRACE_PROCESSOR"), shutil.which("node")
    if folder is None or node is None:
        pytest.skip("no trace processor: install Node.js, and set TRACE_PROCESSOR (see this file)")
    lines = "\n".join(" ".join(query.split()) for query in queries)
    command = [node, str(_DRIVER), folder, str(path)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_message_is_a_flow_from_its_send_to_its_receive(tmp_path: Path) -> None:
    path = tmp_path / "two.pftrace"
    save_trace(_two_processes(), path)
    wrong, slices, flows, names, header = _asked(path, _WRONG, _SLICES, _FLOWS, _PROCESSES, _HEADER)
    assert wrong == []
    assert slices == [
        ["run", "hidden", 0, 100],
        ["receive", "hidden from 0", 10, 190],
        ["send", "hidden to 1", 100, 20],
        ["arrived", "arrived", 180, 20],
    ]
    assert flows == [["hidden to 1", "arrived"]]
    assert names == [["partition 0"], ["partition 1"]]
    assert header == [["dbgraph"]]


def test_a_run_of_processes_is_read_whole(tmp_path: Path) -> None:
    trace, path = _run_of_a_plan(), tmp_path / "run.pftrace"
    save_trace(trace, path)
    counts = "select category, count(*) from slice where category is not null group by category"
    wrong, slices, flows = _asked(path, _WRONG, counts, "select count(*) from flow")
    assert wrong == []
    found = dict(slices)
    receives = sum(1 for _, event in trace if event.kind == "receive")
    assert found.pop("arrived") == receives
    assert sum(found.values()) == sum(1 for _ in trace)
    # Time does not go backwards there: what seems to come before it was sent has no arrow.
    forward = [sent.start_ns <= _comes(received) for sent, received in trace.messages.values()]
    assert flows == [[sum(forward)]]


def _comes(received: Event) -> int:
    if received.kind != "receive":
        return received.start_ns
    return max(received.start_ns, min(received.stop_ns, received.arrived_ns or 0))


def _two_processes() -> Trace:
    """One sends a value that the other waits for."""
    about = (None, "train", 1, 0, 3, 0)
    sends = (
        Event("run", "hidden", 0, 100, plan="train", run=1, step=0, layers="hidden"),
        Event("send", "hidden to 1", 100, 120, *about, "partition 1", 64),
    )
    waits = (Event("receive", "hidden from 0", 10, 200, 180, *about[1:], "partition 0", 64),)
    processes = (Process("partition 0", events=sends), Process("partition 1", events=waits))
    return Trace("zmq", {"train": PlanMark("toy", "f", "training", 2, "d")}, processes)


def _run_of_a_plan() -> Trace:
    plan, collector = toy_plan(2), Collector()
    job = Job({"train": plan}, collector=collector)
    with running(job, machine="dbgraph.machine") as backend:
        backend.load(None)
        for number in range(3):
            backend.step(step(number))
    return assemble(collector, {"train": plan}, "zmq")
