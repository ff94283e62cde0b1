"""Accuracy against time and against gradients, like Figure 4 of Dean et al. 2012.

    python benchmarks/figure4.py [--quick] [--json FILE] [--plot FILE.svg]

Four methods train the digits (examples/digits.py, without dropout), and frames of generated
speech (the windows of examples/speech.py, with fewer states and units), on the local backend:

- SGD: one replica and no parameter server;
- Downpour SGD with a fixed learning rate, and Downpour SGD with Adagrad: 4 replicas, 2 shards;
- Sandblaster L-BFGS: 4 replicas, 2 shards, the whole training set as its batch.

Held-out accuracy is taken again and again; under SGD the clock stands while it is, under the
others an evaluator takes it meanwhile, and its time is theirs too. "machine-seconds" are those of
replicas and shards together, as the paper counts them.

What this can't show: the paper's replicas had 80 to 10,000 cores. Here all share those of one
machine, so more replicas bring no more arithmetic, and their time to an accuracy is at best that
of SGD. What it can: how many gradients each method needs, stale ones and all.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _measure import print_table, write_json

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.data import Source
from dbgraph.ir.region import Region
from dbgraph.train.history import Evaluation
from dbgraph.train.progress import Silent

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import digits
import speech

REPLICAS, SHARDS = 4, 2
STATES = 40
SANDBLASTER = "Sandblaster"


@dataclass(frozen=True)
class Task:
    """
    Attributes:
        accuracy: whose time is looked for.
        rates: learning rates by method.
        epochs: of the gradient methods; Sandblaster has as many iterations.
        every: steps between two evaluations of theirs.
    """

    name: str
    network: Callable[[], dbg.Network]
    data: Callable[[], dbg.Data]
    accuracy: float
    rates: Mapping[str, float]
    epochs: int
    every: int


@dataclass
class Curve(Silent):
    """A run's points: seconds, examples whose gradients were computed, accuracy.

    Args:
        examples: how many there were after so many steps.
        pauses: whether training waits while the model is evaluated.
    """

    examples: Callable[[int], int]
    pauses: bool
    points: list[tuple[float, int, float]] = field(default_factory=list)
    _began_s: float | None = None
    _stepped_s: float = 0.0

    def step(self, done: int, loss: float, accuracy: float | None) -> None:
        self._stepped_s = time.perf_counter()
        if self._began_s is None:
            self._began_s = self._stepped_s  # what comes before is starting and compiling

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        assert self._began_s is not None
        now_s = time.perf_counter()
        if self.pauses:
            self._began_s += now_s - self._stepped_s
        assert evaluation.accuracy is not None
        examples = self.examples(evaluation.step)
        self.points.append((now_s - self._began_s, examples, evaluation.accuracy))

    def reaches(self, accuracy: float) -> tuple[float, int] | None:
        """(seconds, examples) of the first point that has it."""
        found = (p for p in self.points if p[2] >= accuracy)
        return next(((seconds, examples) for seconds, examples, _ in found), None)


class Counting:
    """A source that counts the examples whose labels are read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._label = next(n for n, (shape, _) in source.inputs().items() if not shape)
        self.examples = 0

    def __len__(self) -> int:
        return len(self._source)

    def inputs(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        return self._source.inputs()

    def read(self, name: str, examples: np.ndarray, region: Region) -> np.ndarray:
        self.examples += len(examples) if name == self._label else 0
        return self._source.read(name, examples, region)


class Sounds(speech.Frames):
    """Frames of speech with fewer states."""

    def __init__(self, length: int, seed: int) -> None:
        self.state = speech._states(length + speech.FRAMES - 1, seed) % STATES
        self.energy = speech._energies(self.state, seed)
        self.length = length


def sounds_network() -> dbg.Network:
    with dbg.Network("sounds", batch=128) as net:
        h = dbg.input("frames", (speech.FRAMES * speech.BANDS,))
        state = dbg.input("state", (), dtype="int32")
        for _ in range(2):
            h = L.Dense(256, activation="sigmoid")(h)
        scores = L.Dense(STATES)(h)
        dbg.loss(L.SoftmaxCrossEntropy()(scores, state))
        dbg.output("likeliest", L.ArgMax()(scores))
    return net


def sounds() -> dbg.Data:
    return dbg.Data(train=Sounds(16_384, seed=1), test=Sounds(2_048, seed=2))


def tasks(quick: bool) -> list[Task]:
    rates = {"SGD": 0.1, "Downpour": 0.1, "Adagrad": 0.02}
    few = Task("digits", digits.plain, digits.data, 0.90, rates, 3, 4)
    if quick:
        return [few]
    louder = {"SGD": 0.5, "Downpour": 0.5, "Adagrad": 0.02}
    return [
        Task("digits", digits.plain, digits.data, 0.95, rates, 40, 11),
        Task("speech-like", sounds_network, sounds, 0.90, louder, 20, 64),
    ]


def methods(task: Task) -> dict[str, dict[str, Any]]:
    """Options of the trainer, by the method's name."""
    served = {"replicas": REPLICAS, "shards": SHARDS}
    steps = {"epochs": task.epochs, "evaluate_every": task.every}
    rates = task.rates
    return {
        "SGD": {"optimizer": f"sgd:learning_rate={rates['SGD']}", **steps},
        "Downpour SGD": {
            "algorithm": dbg.Downpour(),
            "optimizer": f"sgd:learning_rate={rates['Downpour']}",
            **served,
            **steps,
        },
        "with Adagrad": {
            "algorithm": dbg.Downpour(),
            "optimizer": f"adagrad:learning_rate={rates['Adagrad']}",
            **served,
            **steps,
        },
        SANDBLASTER: {
            "algorithm": dbg.Sandblaster(),
            **served,
            "steps": 2 * task.epochs,
            "evaluate_every": 2,
        },
    }


def measure(task: Task) -> dict[str, Curve]:
    return {name: trained(task, name, options) for name, options in methods(task).items()}


def trained(task: Task, name: str, options: Mapping[str, Any]) -> Curve:
    net, data = task.network(), task.data()
    counting = Counting(data.train)

    def examples(step: int) -> int:
        """A step of Sandblaster is an iteration, of one evaluation or more."""
        return counting.examples if name == SANDBLASTER else step * net.batch

    curve = Curve(examples, pauses="algorithm" not in options)
    dbg.Trainer(net, dbg.Data(counting, data.test), progress=curve, **options).train()
    return curve


def rows(task: Task, curves: Mapping[str, Curve]) -> list[tuple[str, ...]]:
    base = curves["SGD"].reaches(task.accuracy)
    found = []
    for name, curve in curves.items():
        machines = 1 if name == "SGD" else REPLICAS + SHARDS
        best = f"{max(accuracy for *_, accuracy in curve.points):.3f}"
        reached = curve.reaches(task.accuracy)
        if reached is None:
            found.append((name, "", "", "", "", best))
            continue
        seconds, examples = reached
        ratio = f"{examples / base[1]:.2f}" if base else ""
        taken = f"{seconds:.2f}", f"{machines * seconds:.2f}"
        found.append((name, f"{examples:,}", ratio, *taken, best))
    return found


def draw(found: Mapping[str, Mapping[str, Curve]], path: str) -> None:
    """Accuracy over seconds, and over examples, for each task. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), 2, squeeze=False)
    for (name, curves), (by_time, by_examples) in zip(found.items(), axes, strict=True):
        for (method, curve), colour in zip(curves.items(), COLOURS, strict=True):
            seconds, examples, accuracy = zip(*curve.points, strict=True)
            by_time.plot(seconds, accuracy, label=method, color=colour)
            by_examples.plot(examples, accuracy, label=method, color=colour)
        by_time.set(title=name, xlabel="seconds", ylabel="held-out accuracy")
        by_examples.set(title=name, xlabel="examples whose gradients were computed", xscale="log")
        by_time.legend(loc="lower right")
    figure.savefig(path)


COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73")
"""Of Okabe and Ito: people who are colour-blind can tell them apart."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="digits alone, few epochs")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    parser.add_argument("--plot", metavar="FILE", help="draw the curves; needs matplotlib")
    args = parser.parse_args()
    chosen = tasks(args.quick)
    found = {task.name: measure(task) for task in chosen}
    columns = ("", "examples", "× SGD's", "seconds", "machine-s", "best")
    for task in chosen:
        title = f"{task.name}: to {100 * task.accuracy:.0f} % held-out accuracy"
        print_table(title, columns, rows(task, found[task.name]))
    if args.plot:
        draw(found, args.plot)
    if args.json:
        points = {
            name: {method: curve.points for method, curve in curves.items()}
            for name, curves in found.items()
        }
        wanted = {task.name: task.accuracy for task in chosen}
        result = {"points": points, "accuracy": wanted}
        write_json(args.json, {"benchmark": "figure4", **result})


if __name__ == "__main__":
    main()
