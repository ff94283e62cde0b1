"""Rehearsals: whole training steps of small networks, cut in several ways, each instruction timed.

An op that is timed alone is faster than the same op in a step: the processor has forgotten its
code and its data, and Python's as well, while it did something else. Nor does a ladder show what
a step costs besides its instructions. So some networks are trained for a while.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from dbgraph import layers as L
from dbgraph.backends.base import Backend
from dbgraph.calibrate.layout import Layout
from dbgraph.calibrate.stopwatch import Say
from dbgraph.compile import make_plan
from dbgraph.datasource import ArraySource
from dbgraph.dsl.network import Network, loss
from dbgraph.dsl.network import input as input_
from dbgraph.job import Job, Step
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan
from dbgraph.trace.assemble import assemble
from dbgraph.trace.collect import Collector
from dbgraph.trace.model import Trace
from dbgraph.trace.words import partition_of

STEPS, LEAST_S = 30, 0.5
"""A plan is trained for so many steps, and for so long: what else a host does comes and goes."""
_COLD = 5  # steps that compile, and fill caches
_RULE = Rule.of("momentum", learning_rate=1e-3)

Part = tuple[int, int, int]
"""(partition, segment or transfer, microbatch)."""


@dataclass(frozen=True)
class Rehearsal:
    """What was seen of a plan: medians over its steps, in seconds.

    Attributes:
        runs, updates: of each.
        sends, receives: what a message takes of the sender; and of the receiver, from when the
            program has come to it and its last byte is there.
        ways: from when a message was handed over until its last byte was there, where the
            receiver did nothing but wait for it.
        step_s: from the driver's orders to the last answer.
        besides_s: of that, what is not between the first instruction and the last.
    """

    plan: Plan
    runs: Mapping[Part, float]
    updates: Mapping[Part, float]
    sends: Mapping[Part, float]
    receives: Mapping[Part, float]
    ways: Mapping[Part, float]
    step_s: float
    besides_s: float


def rehearse(make: Callable[[], Backend], layout: Layout, say: Say) -> tuple[Rehearsal, ...]:
    """Trains all networks, cut for as many of the machines as there are.

    Raises what the backend raises.
    """
    plans = tuple(rehearsal_plans(len(layout.hosts)))
    found = []
    for done, plan in enumerate(plans):
        say(done / len(plans))
        collector = Collector()
        _steps_s(make(), plan, collector)
        step_s = median(_steps_s(make(), plan, None))  # noting takes time too
        found.append(rehearsal_of(plan, assemble(collector, {"train": plan}, ""), step_s))
    return tuple(found)


def rehearsal_plans(machines: int) -> Iterator[Plan]:
    """Those that are trained on so many machines."""
    cuts = [(1, "stages", 1)]
    for partitions in sorted({2, machines} - {1}):
        cuts += [(partitions, "tiles", 1), (partitions, "stages", 2)]
    for net in (_speech(), _image()):
        for partitions, strategy, microbatches in cuts:
            if partitions <= machines:
                yield make_plan(net, partitions, strategy=strategy, microbatches=microbatches)


def _speech() -> Network:
    """A window of frames through dense layers."""
    with Network("speech", batch=96) as net:
        h = input_("frames", (360,))
        label = input_("label", (), dtype="int32")
        for units in (640, 512):
            h = L.Dense(units, activation="sigmoid")(h)
        h = L.Dropout(0.2)(L.Dense(384, activation="tanh")(h))
        loss(L.SoftmaxCrossEntropy()(L.Dense(1200)(h), label))
    return net


def _image() -> Network:
    """Locally connected filters, and shared ones."""
    with Network("image", batch=36) as net:
        h = input_("frames", (30, 30, 3))
        label = input_("label", (), dtype="int32")
        h = L.LocallyConnected2D(6, patch=(8, 8))(h)
        h = L.Pool2D("l2", size=(3, 3), strides=(1, 1))(h)
        h = L.LocalContrastNorm(size=(5, 5))(h)
        h = L.Conv2D(12, patch=(5, 5), activation="relu")(h)
        h = L.Pool2D("max", size=(2, 2))(h)
        loss(L.SoftmaxCrossEntropy()(L.Dense(10)(h), label))
    return net


def _steps_s(backend: Backend, plan: Plan, collector: Collector | None) -> list[float]:
    """Seconds of each step, from order to answer."""
    examples = np.arange(plan.batch)
    seconds: list[float] = []
    try:
        backend.start(Job({"train": plan}, _RULE, {"train": _noise(plan)}, collector))
        backend.load(None)
        while len(seconds) < STEPS or sum(seconds[_COLD:]) < LEAST_S:
            begin_s = time.perf_counter()
            backend.step(Step("train", len(seconds), examples, want=frozenset({"loss"})))
            seconds.append(time.perf_counter() - begin_s)
    finally:
        backend.stop()
    return seconds[_COLD:]


def _noise(plan: Plan) -> ArraySource:
    """One batch."""
    random = np.random.default_rng(0)
    return ArraySource(
        {
            name: random.integers(0, 10, type_.shape).astype(type_.dtype)
            if type_.dtype.startswith("int")
            else random.standard_normal(type_.shape).astype(type_.dtype)
            for name, type_ in plan.input_types.items()
        }
    )


def rehearsal_of(plan: Plan, trace: Trace, step_s: float) -> Rehearsal:
    """What a trace of some steps of a plan tells.

    Args:
        trace: of a job that has this plan alone.
        step_s: of a step that nobody notes.
    """
    found: dict[str, dict[Part, list[float]]] = defaultdict(lambda: defaultdict(list))
    for process, event in trace:
        partition = partition_of(process.name)
        if partition is None or event.step < _COLD:
            continue
        part = partition, event.number, event.microbatch
        found[event.kind][part].append(event.seconds)
        if event.arrived_ns is not None:
            there_ns = max(event.start_ns, event.arrived_ns)
            found["taken"][part].append((event.stop_ns - there_ns) * 1e-9)
    for sent, received in trace.messages.values():
        if sent.step >= _COLD and received.start_ns <= sent.stop_ns and received.arrived_ns:
            part = partition_of(received.peer) or 0, sent.number, sent.microbatch
            way_s = max(received.arrived_ns - sent.stop_ns, 0) * 1e-9
            found["way"][part].append(way_s)
    middle = {what: {part: median(v) for part, v in of.items()} for what, of in found.items()}
    return Rehearsal(
        plan=plan,
        runs=middle.get("run", {}),
        updates=middle.get("update", {}),
        sends=middle.get("send", {}),
        receives=middle.get("taken", {}),
        ways=middle.get("way", {}),
        step_s=step_s,
        besides_s=median(_besides(trace)),
    )


def _besides(trace: Trace) -> Iterator[float]:
    """What each step takes beside the time from its first instruction to its last."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    orders: dict[int, float] = {}
    for _, event in trace:
        if event.lane == "program":
            first[event.step] = min(first.get(event.step, event.start_ns), event.start_ns)
            last[event.step] = max(last.get(event.step, event.stop_ns), event.stop_ns)
        elif event.kind == "order":
            orders[event.step] = event.seconds
    for step, seconds in orders.items():
        if step >= _COLD and step in first:
            yield max(seconds - (last[step] - first[step]) * 1e-9, 0.0)
