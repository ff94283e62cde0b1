"""The checkpoints that `train` writes while replicas push: exactly the pushes that they name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from linear_tools import BATCH, EXAMPLES, INPUTS, RULE, UNITS, counted, inputs, linear
from replica_tools import train
from scripted_theatre import ScriptedTheatre

import dbgraph as dbg
from dbgraph import checkpoint
from dbgraph.actor import Actor, Address
from dbgraph.backends.theatre import Cast
from dbgraph.ps.ledger import numbers
from dbgraph.ps.messages import Applied, Cut, Mark, Push
from dbgraph.ps.snapshot import Record, record_of
from dbgraph.sampler import Batches
from dbgraph.state import State

STEPS = 40


def checkpoints(folder: Path) -> Iterator[tuple[State, Record]]:
    for path in sorted(folder.glob("step-*")):
        state, _ = checkpoint.load(str(path))
        record = record_of(state)
        assert record is not None
        yield state, record


# Every push is seen on its way


class Seeing(ScriptedTheatre):
    """Keeps every push that arrives, and in which order things arrive at shards."""

    def __init__(self, seed: int, kills: list[int]) -> None:
        super().__init__(seed, kills)
        self.pushes: dict[tuple[int, tuple[int, int, int, int]], Any] = {}
        self.order: list[tuple[int, type]] = []
        self.layout: Any = None

    def run(self, cast: Cast, coordinator: Actor) -> None:
        self.layout = cast.make.layout  # type: ignore[attr-defined]
        super().run(cast, coordinator)

    def _arrive(self, sender: Address, to: Address) -> None:
        message, arrays = self._lines[sender, to][0]
        if to.kind == "shard" and isinstance(message, Push | Mark | Cut):
            self.order.append((to.number, type(message)))
        if isinstance(message, Push):
            name = message.replica, message.partition, message.epoch, message.sequence
            self.pushes[to.number, name] = message.parts, arrays
        super()._arrive(sender, to)

    @property
    def went_on(self) -> int:
        """Pushes that came to a shard between its Mark and its Cut."""
        marked: set[int] = set()
        count = 0
        for shard, kind in self.order:
            if kind is Mark:
                marked.add(shard)
            elif kind is Cut:
                marked.discard(shard)
            else:
                count += shard in marked
        return count


def sums_of(theatre: Seeing, shard: int, rows: tuple[Applied, ...]) -> dict[str, np.ndarray]:
    """The sum of the pushes that a shard names, by parameter."""
    sums = {"sums/weights": np.zeros((INPUTS, UNITS)), "sums/biases": np.zeros(UNITS)}
    for one in rows:
        for sequence in range(1, one.sequence + 1):
            name = one.replica, one.partition, one.epoch, sequence
            parts, arrays = theatre.pushes[shard, name]
            for part, array in zip(parts, arrays, strict=True):
                sums[part.name][tuple(slice(*pair) for pair in part.bounds)] += array
    return sums


@pytest.mark.parametrize(
    ("seed", "shards", "partitions", "n_push"),
    [(0, 2, 1, 1), (2, 2, 2, 1), (3, 3, 1, 2), pytest.param(1, 3, 2, 2, marks=pytest.mark.slow)],
)
def test_a_checkpoint_holds_the_sum_of_exactly_the_pushes_that_it_names(
    seed: int,
    shards: int,
    partitions: int,
    n_push: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theatre = Seeing(seed, [120 + 20 * seed, 300])
    monkeypatch.setattr("dbgraph.train.replicas.make_theatre", lambda name, **_: theatre)
    found = train(
        linear(), inputs(), replicas=4, shards=shards, partitions=partitions, steps=STEPS,
        algorithm=dbg.Downpour(n_push=n_push, share=2), optimizer=RULE,
        checkpoint=tmp_path, checkpoint_every=2, keep=1000,
    )  # fmt: skip
    assert found.step == STEPS
    assert theatre.killed
    assert theatre.went_on, "training goes on while a snapshot is made"
    states = [*checkpoints(tmp_path)]
    assert len(states) >= 8
    for state, record in states:
        assert state.step == len([*numbers(record.ledger.used)])
        for shard, owned in enumerate(theatre.layout.shards):
            sums = sums_of(theatre, shard, record.shards[shard])
            for one in owned:
                value = state.region(one.parameter, one.region)
                expected = -sums[one.parameter][one.region.slices()]
                np.testing.assert_array_equal(value, expected)


# In real threads and processes: by the batches that a checkpoint says it has used


@pytest.mark.parametrize("backend", ["local", pytest.param("zmq", marks=pytest.mark.slow)])
def test_a_checkpoint_holds_exactly_the_batches_that_it_says(backend: str, tmp_path: Path) -> None:
    trainer = dbg.Trainer(
        linear(), inputs(), replicas=3, shards=2, partitions=2, steps=200, backend=backend,
        algorithm=dbg.Downpour(share=3), optimizer=RULE, progress="none",
        checkpoint=tmp_path, checkpoint_every=5, keep=1000,
    )  # fmt: skip
    trainer.train()
    batches = Batches(EXAMPLES, BATCH, trainer.plan.seed)
    states = [*checkpoints(tmp_path)]
    assert len(states) >= 5
    for state, record in states:
        used = [*numbers(record.ledger.used)]
        assert len(used) == state.step
        for name, expected in counted(map(batches.examples, used)).items():
            np.testing.assert_array_equal(state.whole(name), expected, err_msg=name)
    in_between = [record for _, record in states if len(record.ledger.used) > 1]
    assert in_between, "no snapshot was taken while a batch was out that came before others"
