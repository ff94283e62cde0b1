"""Which parameters a loss that is no number was computed with, over the partitions of a replica."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from replica_tools import arrays, network

import dbgraph as dbg
from dbgraph.actor import Address
from dbgraph.actors.inquiry import Inquiry
from dbgraph.actors.messages import Revealed
from dbgraph.actors.partition import Partition
from dbgraph.errors import RunError
from dbgraph.job import Step
from dbgraph.train.blame import blame_replica

STEP = Step("train", 3, examples=np.arange(8))


class Idle:
    """A machine that computes nothing."""

    log = None

    def read(self, step: Step) -> dict[str, np.ndarray]:
        return {}

    def begin(self, step: Step, feeds: Mapping[str, np.ndarray]) -> None:
        pass

    def set_parameters(self, values: Mapping[str, np.ndarray]) -> None:
        pass


def test_a_partition_knows_the_parameters_of_this_run_and_the_last() -> None:
    partition = Partition(Idle(), Address("replica", 0, 1), keep=2)  # type: ignore[arg-type]
    assert partition.parameters((1, 0)) == {}
    given: list[dict[str, Any]] = [{"w": np.zeros(n)} for n in range(3)]
    for step, parameters in enumerate(given):
        partition.set(parameters)
        for run in (2 * step, 2 * step + 1):  # two runs with the same parameters
            partition.begin((1, run), 0, np.arange(8))
    held = [partition.parameters((1, run)) for run in range(6)]
    assert held == [{}, {}, given[1], given[1], given[2], given[2]]


def test_when_all_have_answered_the_blame_is_raised() -> None:
    asked: list[Any] = []

    def blame(parameters: Mapping[str, np.ndarray], step: Step, rule: str) -> RunError:
        asked.append((dict(parameters), step))
        return RunError(rule)

    inquiry = Inquiry((1, 7), STEP, "the loss is nan", 2, blame)
    one, other = np.ones(2), np.ones(3)
    inquiry.told(Revealed((1, 7), ("w@0",)), (one,))
    inquiry.told(Revealed((1, 6), ("w@1",)), (other,))
    with pytest.raises(RunError, match="the loss is nan"):
        inquiry.told(Revealed((1, 7), ("w@1",)), (other,))
    assert asked == [({"w@0": one, "w@1": other}, STEP)]


def test_where_parameters_are_gone_it_says_that_it_is_not_known() -> None:
    trainer = dbg.Trainer(
        network(), arrays(), algorithm="downpour", partitions=2, strategy="tiles", progress="none"
    )
    held = {leaf.node: np.zeros(leaf.region.shape) for leaf in trainer.plan.leaves("parameter", 0)}
    error = blame_replica(trainer._setup, held, STEP, "the loss is nan")
    assert error.rule == "the loss is nan"
    assert error.hint == "where it began is not known: partition 1 is steps ahead"
