"""Replicas that are killed at any moment, in any order of events: nothing is lost, nothing counts
twice. Real actors, one thread, a drawn script."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from replica_tools import arrays, network, train
from scripted_theatre import ScriptedTheatre

import dbgraph as dbg
from dbgraph.ps.snapshot import record_of
from dbgraph.train.history import Result

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))]


def scripted(
    monkeypatch: pytest.MonkeyPatch, seed: int, kills: list[int], **options: Any
) -> tuple[Result, ScriptedTheatre]:
    theatre = ScriptedTheatre(seed, kills)
    monkeypatch.setattr("dbgraph.train.replicas.make_theatre", lambda name, **_: theatre)
    return train(replicas=3, shards=2, partitions=2, **options), theatre


@pytest.mark.parametrize("seed", SEEDS)
def test_downpour_uses_every_batch_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options = dbg.Downpour(n_fetch=1 + seed % 2, n_push=1 + seed // 2, share=2)
    kills = [200 + 97 * seed % 250, 500 + 61 * seed % 250]
    found, theatre = scripted(monkeypatch, seed, kills, algorithm=options, steps=60)
    assert len(theatre.killed) == 2
    record = record_of(found.final)
    assert record is not None
    assert record.ledger.used == ((0, 60),)
    assert found.step == 60


@pytest.mark.parametrize("seed", SEEDS)
def test_sandblaster_counts_every_portion_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {
        "net": network(dtype="float64"),
        "data": arrays(43, dtype="float64"),
        "algorithm": dbg.Sandblaster(portion=5, flush_every=2),
        "steps": 6,
    }
    alone = train(**options)
    found, theatre = scripted(
        monkeypatch, seed, [400 + 111 * seed % 900, 1500 + 77 * seed % 700], **options
    )
    assert len(theatre.killed) == 2
    np.testing.assert_allclose(found.losses, alone.losses, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_sync_goes_on_with_those_that_are_left(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found, theatre = scripted(
        monkeypatch, seed, [100 + 83 * seed % 300, 500 + 59 * seed % 400],
        algorithm=dbg.Sync(backups=1), steps=20, optimizer="sgd:learning_rate=0.1",
    )  # fmt: skip
    assert len(theatre.killed) == 2
    assert found.step == 20
    record = record_of(found.final)
    assert record is not None
    used = sum(stop - start for start, stop in record.ledger.used)
    assert 20 <= used <= 40  # two batches a step, and one where a single replica was left
