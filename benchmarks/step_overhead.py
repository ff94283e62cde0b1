"""What dbgraph adds to a training step: one partition against the same step by hand in JAX.

    python benchmarks/step_overhead.py [--quick] [--json FILE]

By hand: one jitted function of parameters, momentum and batch, its parameters and momentum
donated, momentum by optax. Both take the batch as NumPy arrays and read the loss back after every
step. Both start from the same parameters, and their losses must stay equal. The networks are
examples/speech.py and examples/digits.py (by hand with dbgraph's own local2d, pool2d and dropout).

A round is a few steps of one, then of the other, in turn; "×" is the median of the rounds' ratios
to the step by hand. The aim is at most 1.05.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _measure import median_ratio, print_table, rounds_seconds, write_json

import dbgraph as dbg
from dbgraph.backends.local import LocalBackend
from dbgraph.ir.types import Attrs
from dbgraph.job import Job, Step
from dbgraph.kernels.local2d import local2d
from dbgraph.kernels.pointwise import dropout
from dbgraph.kernels.window import pool2d

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import digits
import speech

AIM = 1.05
RATE, MOMENTUM = 0.05, 0.9
FLAT, AROUND = ((0, 0), (0, 0)), ((1, 1), (1, 1))
Arrays = Mapping[str, Any]
Loss = Callable[[Arrays, Arrays, jax.Array], jax.Array]


@dataclass(frozen=True)
class Case:
    """
    Attributes:
        loss: by hand, of (parameters, batch, clock); parameters by dbgraph's names.
        steps: in a round.
    """

    name: str
    network: dbg.Network
    loss: Loss
    batch: Mapping[str, np.ndarray]
    steps: int


def cross_entropy(scores: jax.Array, label: jax.Array) -> jax.Array:
    picked = jnp.take_along_axis(scores, label[:, None], axis=1)[:, 0]
    return jnp.mean(jax.nn.logsumexp(scores, axis=1) - picked)


def speech_loss(p: Arrays, batch: Arrays, clock: jax.Array) -> jax.Array:
    h = batch["frames"]
    for k in range(1, 5):
        h = jax.nn.sigmoid(h @ p[f"hidden{k}/weights"] + p[f"hidden{k}/biases"])
    return cross_entropy(h @ p["softmax/weights"] + p["softmax/biases"], batch["state"])


def digits_loss(drops: list[Attrs]) -> Loss:
    """
    Args:
        drops: the attributes of the two dropouts: their rates and seeds.
    """

    def dropped(k: int, x: jax.Array, clock: jax.Array) -> jax.Array:
        return dropout(drops[k], x, clock, jnp.zeros(x.ndim, jnp.int32))

    def local_mean(x: jax.Array) -> jax.Array:
        mean = jnp.mean(x, axis=3, keepdims=True)
        return pool2d(mean, kind="average", size=(3, 3), strides=(1, 1), padding=AROUND)

    def loss(p: Arrays, batch: Arrays, clock: jax.Array) -> jax.Array:
        w, b = p["locallyconnected2d1/weights"], p["locallyconnected2d1/biases"]
        h = jax.nn.relu(local2d(batch["image"], w, strides=(1, 1), padding=AROUND) + b)
        h = pool2d(h, kind="l2", size=(2, 2), strides=(2, 2), padding=FLAT)
        h = h - local_mean(h)
        h = h / jnp.sqrt(jnp.maximum(local_mean(h * h), 0.01**2))
        h = dropped(0, h, clock)
        h = jnp.tensordot(h, p["dense1/weights"], 3) + p["dense1/biases"]
        h = dropped(1, jax.nn.relu(h), clock)
        return cross_entropy(h @ p["dense2/weights"] + p["dense2/biases"], batch["label"])

    return loss


def speech_case(steps: int) -> Case:
    batch = _first(speech.data(), speech.BATCH)
    return Case("speech, batch 128", speech.network(), speech_loss, batch, steps)


def digits_case(steps: int) -> Case:
    net = digits.network()
    drops = [node.attrs for node in net.graph if node.op == "dropout"]
    batch = _first(digits.data(), net.batch)
    return Case("digits, batch 128", net, digits_loss(drops), batch, steps)


def _first(data: dbg.Data, count: int) -> dict[str, np.ndarray]:
    from dbgraph.ir.region import Region

    examples = np.arange(count)
    return {
        name: data.train.read(name, examples, Region.whole(shape))
        for name, (shape, _) in data.train.inputs().items()
    }


class ThroughDbgraph:
    """The step by dbgraph, all on one partition."""

    def __init__(self, case: Case) -> None:
        plan = dbg.make_plan(case.network, partitions=1)
        rule = dbg.Rule.of("momentum", learning_rate=RATE, momentum=MOMENTUM)
        self.batch, self.number = case.batch, 0
        self.backend = LocalBackend()
        self.backend.start(Job({"train": plan}, rule))
        self.backend.load(None)

    def parameters(self) -> dict[str, np.ndarray]:
        state = self.backend.collect()
        return {name: state.whole(name) for slot, name in state.tensors if slot == ""}

    def step(self) -> float:
        step = Step("train", self.number, feeds=self.batch, want=frozenset({"loss"}))
        self.number += 1
        return self.backend.step(step).losses["loss"]


class ByHand:
    """The step as one would write it without dbgraph."""

    def __init__(self, case: Case, parameters: Arrays) -> None:
        rule = optax.sgd(RATE, MOMENTUM)
        self.parameters = jax.tree.map(jnp.array, parameters)
        self.momentum = rule.init(self.parameters)
        self.batch, self.number = case.batch, 0

        def train(p: Any, state: Any, batch: Arrays, clock: jax.Array) -> Any:
            loss, gradients = jax.value_and_grad(case.loss)(p, batch, clock)
            updates, state = rule.update(gradients, state, p)
            return optax.apply_updates(p, updates), state, loss

        self.train = jax.jit(train, donate_argnums=(0, 1))

    def step(self) -> float:
        clock = np.asarray((self.number, 0), np.int32)
        self.number += 1
        self.parameters, self.momentum, loss = self.train(
            self.parameters, self.momentum, self.batch, clock
        )
        return float(loss)


def check_equal(case: Case, ours: ThroughDbgraph, by_hand: ByHand) -> None:
    """Raises ValueError if both do not train alike."""
    for _ in range(3):
        a, b = ours.step(), by_hand.step()
        if abs(a - b) > 1e-4 * abs(b):
            raise ValueError(f"{case.name}: dbgraph's loss is {a}, by hand it is {b}")


def measure(case: Case, rounds: int, budget_s: float) -> dict[str, list[float]]:
    """Seconds per step of both, one figure per round."""
    ours = ThroughDbgraph(case)
    by_hand = ByHand(case, ours.parameters())
    check_equal(case, ours, by_hand)

    def several(step: Callable[[], float]) -> Callable[[], object]:
        return lambda: [step() for _ in range(case.steps)]

    fns = {"dbgraph": several(ours.step), "by hand": several(by_hand.step)}
    times = rounds_seconds(fns, rounds, budget_s)
    return {name: [t / case.steps for t in found] for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, digits alone")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    args = parser.parse_args()
    cases = [digits_case(10)] if args.quick else [digits_case(10), speech_case(1)]
    rounds, budget_s = (20, 5.0) if args.quick else (300, 60.0)
    results = []
    for case in cases:
        times = measure(case, rounds, budget_s)
        results.append(
            {
                "network": case.name,
                "seconds_per_step": times,
                "median_ms": {n: 1e3 * statistics.median(t) for n, t in times.items()},
                "ratio": median_ratio(times["dbgraph"], times["by hand"]),
                "aim": AIM,
            }
        )
    rows = [
        (
            str(r["network"]),
            *(f"{r['median_ms'][n]:.3f}" for n in ("dbgraph", "by hand")),  # type: ignore[index]
            f"{r['ratio']:.3f}",
        )
        for r in results
    ]
    title = f"A training step on one partition; aim × {AIM}"
    print_table(title, ("network", "dbgraph ms", "by hand ms", "×"), rows)
    if args.json:
        write_json(args.json, {"benchmark": "step_overhead", "results": results})


if __name__ == "__main__":
    main()
