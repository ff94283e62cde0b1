"""A locally connected network on two processes of one core each, against one process of one core.

    python benchmarks/two_processes.py [--quick] [--json FILE]

Training steps (momentum) of two stages of locally connected filters on 10 × 10 patches, L2 pooling
and local contrast normalisation, in the manner of Dean et al. 2012. Both run on the zmq backend;
its workers are pinned, and XLA computes with as many threads as the cores that it sees. Every
worker makes its own part of the images. Both jobs are alive all the time and step in turn;
"speed-up" is the median of the rounds' ratios. The aim is at least 1.7.

A machine that has not two cores to itself can't give the figure; so it is measured here as well
what two processes can gain: a calculation that shares nothing, in one process and in two at once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from _measure import median_ratio, print_table, rounds_seconds, write_json

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.backends.base import Backend, make_backend
from dbgraph.compile import forecast
from dbgraph.job import Job, Step
from dbgraph.plan.plan import Plan

AIM = 1.7
CLASSES = 10


def network(side: int, maps: int, batch: int) -> dbg.Network:
    with dbg.Network("local", batch=batch) as net:
        h = dbg.input("image", (side, side, 3))
        label = dbg.input("label", (), dtype="int32")
        for _ in range(2):
            h = L.LocallyConnected2D(maps, patch=(10, 10))(h)
            h = L.Pool2D("l2", size=(4, 4), strides=(1, 1))(h)
            h = L.LocalContrastNorm(size=(5, 5))(h)
        h = L.Pool2D("max", size=(4, 4))(h)
        dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(CLASSES)(h), label))
    return net


def images(side: int, count: int) -> Mapping[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (count, side, side, 3)
    label = rng.integers(0, CLASSES, count).astype(np.int32)
    return {"image": rng.standard_normal(shape, dtype=np.float32), "label": label}


class Running:
    """A job on the zmq backend, ready to step."""

    def __init__(self, plan: Plan, side: int) -> None:
        self.plan, self.number = plan, 0
        self.backend: Backend = make_backend("zmq", pin=True)
        source = dbg.Data(partial(images, side, plan.batch)).train
        rule = dbg.Rule.of("momentum", learning_rate=0.001)
        self.backend.start(Job({"train": plan}, rule, {"train": source}))
        self.backend.load(None)

    def step(self) -> float:
        examples = np.arange(self.plan.batch)
        want = frozenset({"loss"})
        self.number += 1
        return self.backend.step(Step("train", self.number, examples, want=want)).losses["loss"]


def check_equal(one: Running, two: Running) -> None:
    """Raises ValueError if both do not train alike."""
    for _ in range(2):
        a, b = one.step(), two.step()
        if abs(a - b) > 1e-4 * abs(a):
            raise ValueError(f"the loss in one process is {a}, in two it is {b}")


def _multiply(core: int, repeats: int, start: Any, queue: Any) -> None:
    os.sched_setaffinity(0, {core})
    x = np.zeros(16_384, np.float32)  # fits into a core's cache, and NumPy adds in one thread
    start.wait()
    began = time.perf_counter()
    for _ in range(repeats):
        x += x
    queue.put(time.perf_counter() - began)


def possible_speed_up(repeats: int, rounds: int) -> float:
    """2 × the time of a calculation alone, over the time of two at once on two cores."""
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0))[:2]

    def slowest(used: list[int]) -> float:
        queue: Any = context.Queue()
        start = context.Barrier(len(used))
        workers = [
            context.Process(target=_multiply, args=(core, repeats, start, queue)) for core in used
        ]
        for worker in workers:
            worker.start()
        times: list[float] = [queue.get() for _ in workers]
        for worker in workers:
            worker.join()
        return max(times)

    return statistics.median(2 * slowest(cores[:1]) / slowest(cores) for _ in range(rounds))


def measure(plans: dict[str, Plan], side: int, rounds: int, budget_s: float) -> dict[str, Any]:
    jobs: dict[str, Running] = {}
    try:
        for name, plan in plans.items():
            jobs[name] = Running(plan, side)
        check_equal(*jobs.values())
        return rounds_seconds({n: job.step for n, job in jobs.items()}, rounds, budget_s)
    finally:
        for job in jobs.values():
            job.backend.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small network, few rounds")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    args = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        parser.exit(2, "two_processes needs two cores\n")
    side, maps, batch = (31, 4, 16) if args.quick else (57, 12, 64)
    rounds, budget_s = (5, 10.0) if args.quick else (40, 90.0)
    net = network(side, maps, batch)
    plans = {
        "1 process, 1 core": dbg.make_plan(net, 1),
        "2 processes, 1 core each": dbg.make_plan(net, 2, strategy="tiles"),
    }
    times = measure(plans, side, rounds, budget_s)
    one, two = times.values()
    speed_up = median_ratio(one, two)
    possible = possible_speed_up(*((20_000, 1) if args.quick else (200_000, 3)))
    crossing = sum(t.type.size_bytes for t in list(plans.values())[1].transfers)
    predicted = [forecast(plan).step_s for plan in plans.values()]
    rows = [
        (name, f"{1e3 * statistics.median(t):.1f}", f"{1e3 * min(t):.1f}", f"{x:.2f}")
        for (name, t), x in zip(times.items(), (1.0, speed_up), strict=True)
    ]
    parameters = sum(p.type.size for p in net.parameters.values())
    title = f"{parameters / 1e6:.1f} M parameters, batch {batch}; aim {AIM}"
    print_table(title, ("", "median ms", "least ms", "speed-up"), rows)
    print(
        f"{crossing / 1e6:.2f} MB cross per step in "
        f"{len(list(plans.values())[1].transfers)} messages. Forecast of the speed-up: "
        f"{predicted[0] / predicted[1]:.2f}. Two processes that share nothing gain {possible:.2f}."
    )
    if args.json:
        result = {
            "seconds": times,
            "speed_up": speed_up,
            "aim": AIM,
            "possible_speed_up": possible,
            "crossing_bytes": crossing,
            "forecast_s": predicted,
        }
        write_json(args.json, {"benchmark": "two_processes", **result})


if __name__ == "__main__":
    main()
