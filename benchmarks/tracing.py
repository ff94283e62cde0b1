"""What a trace costs: steps of the same plan with notes and without, in turn.

    python benchmarks/tracing.py [--quick] [--json FILE]

The same processes note what they do in a few steps, and in the next ones not (see `_toggled`):
sets of processes of their own would differ by more than what is looked for. "on ×" is the median,
over rounds, of noted steps to those before them, with its 95 % interval by the bootstrap; "off
again ×" that of the steps after them: what noise does. The aim is at most 1.02. Beside it stand
what that leaves for an event, 2 % of a step over the events of its busiest process, and what
handing notes in takes of that process's time: that is done once a second, so that medians of steps
do not see it.

examples/digits.py: 1 partition in this process; 2 and 4 partitions in processes of their own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _measure import median_ratio, print_table, seconds, write_json
from _toggled import BLOCK, is_noted

import dbgraph as dbg
from dbgraph.backends.base import make_backend
from dbgraph.data import Batches
from dbgraph.job import Job, Step
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Program, Run, Update
from dbgraph.trace.assemble import assemble
from dbgraph.trace.collect import Collector
from dbgraph.trace.events import Recorder
from dbgraph.trace.program import ProgramLog

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import digits

AIM = 1.02
WARM = 5
SAMPLES = 2000


@dataclass(frozen=True)
class Case:
    backend: str
    partitions: int

    @property
    def name(self) -> str:
        return f"digits, {self.partitions} on {self.backend}"


class Running:
    """A backend with a plan, and the batches that it has done."""

    def __init__(self, case: Case, plan: Plan, collector: Collector) -> None:
        source = digits.data().train
        self._batches = Batches(len(source), plan.batch, 0)
        self._number = 0
        options = {"machine": "_toggled"} if case.backend == "zmq" else {}
        self._backend: Any = make_backend(case.backend, **options)
        rule = dbg.Rule.of("momentum", learning_rate=0.05, momentum=0.9)
        self._backend.start(Job({"train": plan}, rule, {"train": source}, collector))
        self._backend.load(None)
        self._notes = self._backend._notes
        self._logs = [m.log for m in self._backend._machines] if case.backend == "local" else []

    def block_s(self) -> float:
        """Seconds of a step, over the next block of them."""
        self._toggle(is_noted(self._number))
        return statistics.fmean(seconds(self._step) for _ in range(BLOCK))

    def _toggle(self, noted: bool) -> None:
        """The driver's notes, and in its process those of a local backend's machines."""
        self._backend._notes = self._notes if noted else None
        for log, machine in zip(self._logs, getattr(self._backend, "_machines", ()), strict=False):
            machine.log = log if noted else None

    def _step(self) -> None:
        examples = np.asarray(self._batches.examples(self._number))
        self._backend.step(Step("train", self._number, examples, want=frozenset({"loss"})))
        self._number += 1

    def stop(self) -> None:
        self._toggle(True)
        self._backend.stop()


@dataclass
class _Played:
    """It has run its program."""

    program: Program
    position: int


def take_ns(runs: int = 300) -> float:
    """Nanoseconds of taking one row of those that wait to be handed in."""
    took = []
    instructions = (Run(0), Update()) * 5
    played = _Played(Program(0, (), instructions), len(instructions))
    for _ in range(5):
        recorder = Recorder()
        log = ProgramLog(recorder)
        for run in range(runs):
            recorder.begin(run + 1, "train")
            log.begin(played)
            for position in range(len(instructions)):
                log.launched(position, None)
            log.settle()
        took.append(seconds(recorder.take) / (runs * len(instructions)))
    return statistics.median(took) * 1e9


def measure(case: Case, rounds: int, budget_s: float) -> dict[str, object]:
    plan = dbg.make_plan(digits.network(), partitions=case.partitions)
    collector = Collector()
    times: dict[str, list[float]] = {"off": [], "on": [], "off again": []}
    running = Running(case, plan, collector)
    try:
        for _ in range(WARM * len(times)):
            running.block_s()
        deadline = time.perf_counter() + budget_s
        while len(times["on"]) < rounds and time.perf_counter() < deadline:
            for found in times.values():
                found.append(running.block_s())
    finally:
        running.stop()
    return {"case": case.name, "seconds_per_step": times, **summary(plan, collector, times)}


def summary(
    plan: Plan, collector: Collector, times: dict[str, list[float]]
) -> dict[str, float | int | list[float]]:
    trace = assemble(collector, {"train": plan}, "")
    steps = len({event.step for _, event in trace if event.kind == "order"})
    busiest = max(len(process.events) for process in trace.processes) / steps
    off_s = statistics.median(times["off"])
    return {
        "rounds": len(times["on"]),
        "median_ms_off": off_s * 1e3,
        "median_ms_on": statistics.median(times["on"]) * 1e3,
        "ratio": median_ratio(times["on"], times["off"]),
        "ratio_95": interval(times["on"], times["off"]),
        "ratio_off_again": median_ratio(times["off again"], times["off"]),
        "ratio_off_again_95": interval(times["off again"], times["off"]),
        "events_per_step_of_the_busiest": busiest,
        "an_event_may_cost_us": (AIM - 1) * off_s / busiest * 1e6,
        "handing_in_percent": busiest * take_ns() * 1e-9 / off_s * 100,
        "aim": AIM,
    }


def interval(times: Sequence[float], base: Sequence[float]) -> list[float]:
    """Of the median of the rounds' ratios."""
    ratios = np.asarray(times) / np.asarray(base)
    random = np.random.default_rng(0)
    drawn = [np.median(random.choice(ratios, len(ratios))) for _ in range(SAMPLES)]
    return np.percentile(drawn, (2.5, 97.5)).tolist()


def row(found: dict[str, Any]) -> tuple[str, ...]:
    """Of the table."""

    def ratio(name: str) -> str:
        low, high = found[f"{name}_95"]
        return f"{found[name]:.3f} ({low:.3f} to {high:.3f})"

    return (
        found["case"],
        f"{found['rounds']:,}",
        f"{found['median_ms_off']:.3f}",
        ratio("ratio"),
        ratio("ratio_off_again"),
        f"{found['events_per_step_of_the_busiest']:.0f}",
        f"{found['an_event_may_cost_us']:.1f}",
        f"{found['handing_in_percent']:.2f} %",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, 2 partitions at most")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    args = parser.parse_args()
    cases = [Case("local", 1), Case("zmq", 2), Case("zmq", 4)]
    rounds, budget_s = (8, 1.0) if args.quick else (5000, 27.0)
    results = [measure(case, rounds, budget_s) for case in cases[: 2 if args.quick else None]]
    columns = ("steps of", "rounds", "off ms", "on ×", "off again ×")
    columns += ("events", "each may take µs", "handing in")
    title = f"A step with notes for a trace, and without; aim × {AIM}"
    print_table(title, columns, [row(found) for found in results])
    if args.json:
        write_json(args.json, {"benchmark": "tracing", "results": results})


if __name__ == "__main__":
    main()
