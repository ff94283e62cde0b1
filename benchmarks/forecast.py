"""Forecasts against what really happens: step time and peak memory of plans over the zmq backend.

    python benchmarks/forecast.py [--quick] [--json FILE]

Calibrates this machine (as `dbgraph calibrate --pin` does), compiles networks like the paper's
speech and image networks and the digits for 1 to 4 partitions, and sets beside each forecast

- the median time of a training step, as the trainer waits for it: from the driver's order until
  it has the loss of all partitions; inputs are read and parameters updated (momentum) on the way;
- the peak memory of the fullest worker, by `_live.py`, in a run of its own.

Workers are pinned to one core each; four partitions share what cores there are. No figure of a
plan that is measured here goes into a forecast: calibration times single ops, and steps of two
networks, of other shapes. In each round the machine is calibrated, and all plans are run in turn,
since its speed drifts; a forecast is the mean over the rounds' calibrations, a measurement the
median over all steps. How far two rounds differ is printed too: a forecast can't be nearer. The
aims: mean error at most 10 %, rank correlation at least 0.95; memory within 10 %.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import count
from typing import Any

import numpy as np
from _measure import print_table, seconds, write_json

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.backends.base import make_backend
from dbgraph.calibrate.host import calibrate_here
from dbgraph.cluster import Cluster
from dbgraph.clusterfile import cluster_toml
from dbgraph.job import Job, Step
from dbgraph.plan.plan import Plan
from dbgraph.simulate import Forecast, simulate

AIM_ERROR, AIM_RANK, AIM_MEMORY = 0.10, 0.95, 0.10
RULE = dbg.Rule.of("momentum", learning_rate=0.001)
Arrays = Mapping[str, np.ndarray]
MB = 1e6


def speech(hidden: int, states: int, batch: int) -> dbg.Network:
    """A window of frames through sigmoid layers to a softmax (Dean et al. 2012, section 5)."""
    with dbg.Network("speech", batch=batch) as net:
        h = dbg.input("frames", (440,))
        label = dbg.input("label", (), dtype="int32")
        for _ in range(3):
            h = L.Dense(hidden, activation="sigmoid")(h)
        dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(states)(h), label))
    return net


def image(side: int, maps: int, batch: int) -> dbg.Network:
    """Two stages of filters on 10 × 10 patches, L2 pooling and contrast normalisation."""
    with dbg.Network("image", batch=batch) as net:
        h = dbg.input("frames", (side, side, 3))
        label = dbg.input("label", (), dtype="int32")
        for _ in range(2):
            h = L.LocallyConnected2D(maps, patch=(10, 10))(h)
            h = L.Pool2D("l2", size=(4, 4), strides=(1, 1))(h)
            h = L.LocalContrastNorm(size=(5, 5))(h)
        h = L.Pool2D("max", size=(4, 4))(h)
        dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(10)(h), label))
    return net


def digits(maps: int, units: int, batch: int) -> dbg.Network:
    """The network of examples/digits.py."""
    with dbg.Network("digits", batch=batch) as net:
        h = dbg.input("frames", (8, 8, 1))
        label = dbg.input("label", (), dtype="int32")
        h = L.LocallyConnected2D(maps, patch=(3, 3), padding="same", activation="relu")(h)
        h = L.Pool2D("l2", size=(2, 2))(h)
        h = L.LocalContrastNorm(size=(3, 3))(h)
        h = L.Dropout(0.3)(h)
        h = L.Dense(units, activation="relu")(h)
        h = L.Dropout(0.5)(h)
        dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(10)(h), label))
    return net


CUTS = (
    *((1, "stages", 1), (2, "tiles", 1), (2, "stages", 1), (2, "stages", 4)),
    *((3, "tiles", 1), (3, "stages", 2), (4, "tiles", 1), (4, "stages", 4)),
)
"""(partitions, strategy, microbatches)"""
QUICK_CUTS = ((1, "stages", 1), (2, "tiles", 1), (2, "stages", 2))


@dataclass
class Case:
    """One plan, with what was forecast and measured.

    Attributes:
        rounds_s: of each round its steps.
        peak_bytes: of the fullest worker, measured.
    """

    net: dbg.Network
    partitions: int
    strategy: str
    microbatches: int
    rounds_s: list[list[float]] = field(default_factory=list)
    peak_bytes: float = 0.0

    @property
    def name(self) -> str:
        parts = f" × {self.microbatches}" if self.microbatches > 1 else ""
        return f"{self.net.name} {self.partitions} {self.strategy}{parts}"

    @cached_property
    def plan(self) -> Plan:
        return dbg.make_plan(
            self.net, self.partitions, strategy=self.strategy, microbatches=self.microbatches
        )

    def forecast(self, cluster: Cluster) -> Forecast:
        plan = self.plan
        return simulate(plan.graph, plan.transfers, plan.programs, cluster)

    @property
    def steps_s(self) -> list[float]:
        return [seconds for steps in self.rounds_s for seconds in steps]

    @property
    def measured_s(self) -> float:
        return statistics.median(self.steps_s)

    @property
    def drift(self) -> float:
        """How far the rounds' medians are from the whole's, in the mean."""
        medians = [statistics.median(steps) for steps in self.rounds_s]
        return statistics.mean(abs(one / self.measured_s - 1) for one in medians)


def mean_forecast(case: Case, clusters: Sequence[Cluster]) -> Forecast:
    found = [case.forecast(cluster.first(case.partitions)) for cluster in clusters]
    return replace(found[0], step_s=statistics.mean(forecast.step_s for forecast in found))


def peak_bytes(forecast: Forecast) -> float:
    """Of the fullest worker; momentum holds one more value for each parameter."""
    return max(machine.peak_bytes + machine.parameter_bytes for machine in forecast.machines)


def examples(net: dbg.Network) -> Arrays:
    """Two batches of noise."""
    rng = np.random.default_rng(0)
    found = {}
    for node in net.graph:
        if node.op == "input":
            shape = (2 * net.batch, *node.type.shape[1:])
            noise = rng.standard_normal(shape, dtype=np.float32)
            integers = rng.integers(0, 10, shape, dtype=np.int32)
            found[node.attrs.str("of")] = noise if node.type.is_float else integers
    return found


@contextmanager
def running(case: Case, **options: Any) -> Iterator[Callable[[], Mapping[str, float]]]:
    """A case's workers; gives what runs a step and returns its losses."""
    backend = make_backend("zmq", pin=True, **options)
    source = dbg.Data(partial(examples, case.net)).train
    order, numbers = np.arange(case.net.batch), count()

    def step() -> Mapping[str, float]:
        wanted = Step("train", next(numbers), order, want=frozenset({"loss"}))
        return backend.step(wanted).losses

    try:
        backend.start(Job({"train": case.plan}, RULE, {"train": source}))
        backend.load(None)
        yield step
    finally:
        backend.stop()


def time_steps(case: Case, budget_s: float) -> None:
    with running(case) as step:
        for _ in range(3):
            step()
        steps_s = []
        end = time.perf_counter() + budget_s
        while time.perf_counter() < end:
            steps_s.append(seconds(step))
        case.rounds_s.append(steps_s)


def weigh(case: Case) -> None:
    with running(case, machine="_live") as step:
        step()
        losses = step()
    peaks = (losses[f"peak bytes of partition {p}"] for p in range(case.partitions))
    case.peak_bytes = max(peaks)


def ranks(values: np.ndarray) -> np.ndarray:
    """From 0; equal values share the mean of theirs."""
    order = np.sort(values)
    return (np.searchsorted(order, values) + np.searchsorted(order, values, "right") - 1) / 2


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's."""
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def show(cases: Sequence[Case], forecasts: Sequence[Forecast]) -> None:
    rows = []
    for case, found in zip(cases, forecasts, strict=True):
        figures = (found.step_s, case.measured_s), (peak_bytes(found), case.peak_bytes)
        (f_s, m_s), (f_bytes, m_bytes) = figures
        low, high = np.quantile(case.steps_s, (0.1, 0.9))
        rows.append(
            (
                case.name,
                f"{1e3 * f_s:.2f}",
                f"{1e3 * m_s:.2f}",
                f"{f_s / m_s - 1:+.0%}",
                f"{1e3 * low:.1f} to {1e3 * high:.1f}",
                f"{f_bytes / MB:.1f}",
                f"{m_bytes / MB:.1f}",
                f"{f_bytes / m_bytes - 1:+.0%}",
            )
        )
    head = (
        "plan",
        "forecast ms",
        "median ms",
        "off by",
        "10 to 90 %",
        "forecast MB",
        "MB",
        "off by",
    )
    print_table(f"{len(cases)} plans; aim {AIM_ERROR:.0%} in the mean", head, rows)


def summary(cases: Sequence[Case], forecasts: Sequence[Forecast]) -> dict[str, float]:
    forecast_s = np.array([found.step_s for found in forecasts])
    measured_s = np.array([case.measured_s for case in cases])
    errors = np.abs(forecast_s / measured_s - 1)
    memory = np.abs(
        [peak_bytes(f) / c.peak_bytes - 1 for f, c in zip(forecasts, cases, strict=True)]
    )
    return {
        "mean_error": float(errors.mean()),
        "worst_error": float(errors.max()),
        "rank_correlation": rank_correlation(forecast_s, measured_s),
        "mean_memory_error": float(memory.mean()),
        "worst_memory_error": float(memory.max()),
        "drift": statistics.mean(case.drift for case in cases),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer plans, fewer steps")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    args = parser.parse_args()
    rounds, budget_s = (1, 0.5) if args.quick else (3, 1.5)
    nets, cuts = (speech(768, 2048, 128), image(36, 8, 48), digits(16, 128, 960)), CUTS
    if args.quick:
        nets, cuts = (speech(256, 512, 64), digits(16, 64, 240)), QUICK_CUTS
    cases = [Case(net, *cut) for net in nets for cut in cuts]
    most = max(case.partitions for case in cases)
    clusters = []
    for round_ in range(rounds):
        story(f"round {round_ + 1} of {rounds}: calibrating")
        clusters.append(calibrate_here(most, True, lambda done: None, 3 if args.quick else 5)[1])
        for case in cases:
            story(f"round {round_ + 1} of {rounds}: {case.name}")
            time_steps(case, budget_s)
    for case in cases:
        weigh(case)
    forecasts = [mean_forecast(case, clusters) for case in cases]
    show(cases, forecasts)
    found = summary(cases, forecasts)
    print(
        f"Mean error {found['mean_error']:.1%} (aim {AIM_ERROR:.0%}), worst "
        f"{found['worst_error']:.0%}; rank correlation {found['rank_correlation']:.3f} (aim "
        f"{AIM_RANK}). Memory: mean error {found['mean_memory_error']:.1%} (aim "
        f"{AIM_MEMORY:.0%}), worst {found['worst_memory_error']:.0%}. Rounds differ from their "
        f"common median by {found['drift']:.1%}."
    )
    if args.json:
        plans = [
            {
                "plan": case.name,
                "forecast_s": forecast.step_s,
                "seconds": case.steps_s,
                "forecast_peak_bytes": peak_bytes(forecast),
                "peak_bytes": case.peak_bytes,
            }
            for case, forecast in zip(cases, forecasts, strict=True)
        ]
        result = {
            **found,
            "plans": plans,
            "clusters": [cluster_toml(cluster) for cluster in clusters],
        }
        write_json(args.json, {"benchmark": "forecast", **result})


def story(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
