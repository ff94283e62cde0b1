"""The networks of the paper: their sizes, their plans, and the data that they come with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dbgraph as dbg
from dbgraph.compile import forecast
from dbgraph.data import load_data
from dbgraph.ir.region import Region
from dbgraph.plan.verify import verify_plan
from dbgraph.userfile import load_function

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
SIZES = {
    "speech.py:network": (41_777_152, 41_777_152),
    "image.py:network_80m": (80_771_792, 80e6),
    "image.py:network_330m": (331_193_640, 330e6),
    "image.py:network_1700m": (1_699_087_440, 1.7e9),
}


def function(spec: str) -> Callable[[], Any]:
    return load_function(str(EXAMPLES / spec))


def source(spec: str) -> Any:
    return load_data(os.path.join(EXAMPLES, spec)).train


@pytest.mark.parametrize("spec", SIZES)
def test_a_network_has_the_papers_number_of_parameters(spec: str) -> None:
    count = sum(p.type.size for p in function(spec)().parameters.values())
    exact, papers = SIZES[spec]
    assert count == exact
    assert abs(count / papers - 1) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["image.py:network", "speech.py:network"])
def test_a_network_compiles_for_32_partitions_that_share_the_work(spec: str) -> None:
    network = function(spec)()
    plan = dbg.make_plan(network, 32)
    verify_plan(plan)
    cost = forecast(plan)
    assert not cost.blocked
    held = [machine.parameter_bytes for machine in cost.machines]
    assert sum(held) == 4 * sum(p.type.size for p in network.parameters.values())
    assert max(held) < 1.3 * min(held)
    busy = [machine.busy_s for machine in cost.machines]
    assert max(busy) < 1.3 * sum(busy) / len(busy)
    alone = forecast(dbg.make_plan(network, 1, strategy="tiles"))  # more than 8 GiB
    assert cost.step_s < alone.step_s / 8


@pytest.mark.slow
def test_the_largest_network_compiles_for_144_partitions() -> None:
    plan = dbg.make_plan(function("image.py:network")(), 144)
    assert plan.partitions == 144
    assert not forecast(plan).blocked


@pytest.mark.parametrize("spec", ["speech.py:data", "image.py:data"])
def test_data_fits_its_network_and_is_the_same_everywhere(spec: str) -> None:
    network = function(spec.replace(":data", ":network"))()
    one, other = source(spec), source(spec)
    inputs = {n.name: n.type for n in network.graph if n.op == "input"}
    assert {name: (t.shape[1:], t.dtype) for name, t in inputs.items()} == {
        name: (tuple(shape), dtype) for name, (shape, dtype) in one.inputs().items()
    }
    examples = np.asarray([0, 5, 17, len(one) - 1])
    for name, (shape, dtype) in one.inputs().items():
        whole = one.read(name, examples, Region.whole(shape))
        assert whole.dtype == dtype
        np.testing.assert_array_equal(whole, other.read(name, examples, Region.whole(shape)))
        part = Region(tuple((n // 3, n // 2 + 1) for n in shape))
        index = (slice(None), *part.slices())
        np.testing.assert_array_equal(one.read(name, examples, part), whole[index])


def test_frames_carry_their_state() -> None:
    """Frames of one state are nearer to each other than to those of the others."""
    data = source("speech.py:data")
    examples = np.arange(4000)
    frames = data.read("frames", examples, Region.of((200, 240)))  # the middle one
    state = data.read("state", examples, Region(()))
    common = np.bincount(state).argmax()
    inside, outside = frames[state == common], frames[state != common]
    centre = inside.mean(0)
    assert ((inside - centre) ** 2).sum(1).mean() < 0.5 * ((outside - centre) ** 2).sum(1).mean()


@pytest.mark.slow
def test_the_speech_network_trains_a_few_steps_on_two_partitions() -> None:
    trainer = dbg.Trainer(
        function("speech.py:network")(),
        load_data(os.path.join(EXAMPLES, "speech.py:data")),
        partitions=2,
        optimizer="momentum:learning_rate=0.05",
        steps=8,
    )
    result = trainer.train()
    assert result.step == 8
    assert result.losses[-1] < result.losses[0] - 0.5  # the first is about log 8192
