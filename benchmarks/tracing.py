"""What a trace costs: steps of the same plan with notes and without, in turn.

    python benchmarks/tracing.py [--quick] [--json FILE]

Three backends run the same plan on the same data, one with a collector and two without: what the
two differ by is what the machine's noise does. A round is a few steps of each, which of them
first changing from round to round; "×" is the median of the rounds' ratios to the first without.
The aim is at most 1.02. Beforehand it is computed what that
leaves for an event: 2 % of a step over the events of its busiest process; beside it stands what
noting one takes.

examples/digits.py: 1 partition in this process; 2 and 4 partitions in processes of their own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from _measure import median_ratio, print_table, seconds, write_json

import dbgraph as dbg
from dbgraph.backends.base import Backend, make_backend
from dbgraph.data import Batches
from dbgraph.job import Job, Step
from dbgraph.plan.plan import Plan
from dbgraph.trace.assemble import assemble
from dbgraph.trace.collect import Collector
from dbgraph.trace.events import SEND, Recorder

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import digits

AIM = 1.02
WARM = 20
FIGURES = ("median_ms_off", "median_ms_on", "ratio", "ratio_off_again")


@dataclass(frozen=True)
class Case:
    backend: str
    partitions: int
    steps: int

    @property
    def name(self) -> str:
        return f"digits, {self.partitions} on {self.backend}"


class Running:
    """A backend with a plan, and the batches that it has done."""

    def __init__(self, backend: str, plan: Plan, collector: Collector | None) -> None:
        source = digits.data().train
        self._batches = Batches(len(source), plan.batch, 0)
        self._number = 0
        self._backend: Backend = make_backend(backend)
        rule = dbg.Rule.of("momentum", learning_rate=0.05, momentum=0.9)
        self._backend.start(Job({"train": plan}, rule, {"train": source}, collector))
        self._backend.load(None)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            examples = np.asarray(self._batches.examples(self._number))
            want = frozenset({"loss"})
            self._backend.step(Step("train", self._number, examples=examples, want=want))
            self._number += 1

    def stop(self) -> None:
        self._backend.stop()


def note_ns(times: int = 200_000) -> float:
    """Nanoseconds of noting one event, its two looks at the clock included."""
    recorder = Recorder()

    def some() -> None:
        clock, rows = recorder.clock, recorder.rows
        for _ in range(times):
            rows.append((SEND, 1, clock(), clock(), 0, 7, 3, 0, 0, 0))
        recorder.take()

    some()
    return statistics.median(seconds(some) for _ in range(3)) / times * 1e9


def measure(case: Case, rounds: int, budget_s: float) -> dict[str, object]:
    plan = dbg.make_plan(digits.network(), partitions=case.partitions)
    collector = Collector()
    sides = {
        "off": Running(case.backend, plan, None),
        "on": Running(case.backend, plan, collector),
        "off again": Running(case.backend, plan, None),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    try:
        for side in sides.values():
            side.run(WARM)
        turns = list(sides)
        deadline = time.perf_counter() + budget_s
        while len(times["on"]) < rounds and time.perf_counter() < deadline:
            for name in turns:
                took_s = seconds(partial(sides[name].run, case.steps))
                times[name].append(took_s / case.steps)
            turns.append(turns.pop(0))
    finally:
        for side in sides.values():
            side.stop()
    return {"case": case.name, "seconds_per_step": times, **summary(plan, collector, times)}


def summary(
    plan: Plan, collector: Collector, times: dict[str, list[float]]
) -> dict[str, float | int]:
    trace = assemble(collector, {"train": plan}, "")
    steps = max(event.run for _, event in trace)
    busiest = max(len(process.events) for process in trace.processes) / steps
    off_s = statistics.median(times["off"])
    return {
        "rounds": len(times["on"]),
        "median_ms_off": off_s * 1e3,
        "median_ms_on": statistics.median(times["on"]) * 1e3,
        "ratio": median_ratio(times["on"], times["off"]),
        "ratio_off_again": median_ratio(times["off again"], times["off"]),
        "events_per_step_of_the_busiest": busiest,
        "an_event_may_cost_us": (AIM - 1) * off_s / busiest * 1e6,
        "aim": AIM,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    args = parser.parse_args()
    cases = [Case("local", 1, 5), Case("zmq", 2, 3), Case("zmq", 4, 3)]
    rounds, budget_s = (5, 3.0) if args.quick else (2000, 27.0)
    one_ns = note_ns()
    results = [measure(case, rounds, budget_s) for case in cases]
    rows = [
        (
            str(r["case"]),
            *(f"{r[name]:.3f}" for name in FIGURES),
            f"{r['events_per_step_of_the_busiest']:.0f}",
            f"{r['an_event_may_cost_us']:.1f}",
            f"{one_ns / 1e3:.2f}",
        )
        for r in results
    ]
    columns = ("steps of", "off ms", "on ms", "×", "off again ×")
    columns += ("events", "each may take µs", "takes µs")
    print_table(f"A step with notes for a trace, and without; aim × {AIM}", columns, rows)
    if args.json:
        data = {"benchmark": "tracing", "note_ns": one_ns, "results": results}
        write_json(args.json, data)


if __name__ == "__main__":
    main()
