"""Downpour SGD on the local backend, from `dbg.Trainer`."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replica_tools import arrays, network, train, wholes

import dbgraph as dbg
from dbgraph.actor import Address, Envelope
from dbgraph.backends.theatre_local import LocalTheatre
from dbgraph.compile import make_plan
from dbgraph.metrics import read_log
from dbgraph.ps.layout import Layout
from dbgraph.ps.snapshot import record_of

RULES = [
    pytest.param("sgd:learning_rate=0.1", marks=pytest.mark.slow),
    pytest.param("momentum:learning_rate=0.1", marks=pytest.mark.slow),
    "adagrad:learning_rate=0.1",
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("partitions", "shards"), [(1, 3), pytest.param(2, 2, marks=pytest.mark.slow)]
)
def test_one_replica_is_the_plain_trainer_bit_for_bit(
    rule: str, partitions: int, shards: int
) -> None:
    net = network(dropout=0.25)
    plain = train(net, optimizer=rule, partitions=partitions)
    found = train(
        net, optimizer=rule, partitions=partitions, shards=shards, algorithm=dbg.Downpour()
    )
    expected, got = wholes(plain.final), wholes(found.final)
    assert expected.keys() == got.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value, err_msg=str(key))
    assert found.losses == plain.losses
    assert found.step == plain.step == 12


@pytest.mark.parametrize("partitions", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_several_replicas_use_every_batch_once_and_learn(partitions: int) -> None:
    data = dbg.Data(arrays(160), arrays(40, seed=1))
    before = threading.active_count()
    found = train(
        data=data, algorithm="downpour", replicas=3, shards=2, partitions=partitions, steps=200,
        optimizer="adagrad:learning_rate=0.1",
    )  # fmt: skip
    assert threading.active_count() == before
    assert found.step == len(found.losses) == 200
    assert found.accuracy is not None
    assert found.accuracy > 0.8


def test_a_partition_talks_only_to_the_shards_that_own_what_it_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, steps, shards = network(hidden=64), 5, 5
    plan = make_plan(net, partitions=2, mode="training")
    layout = Layout.of(plan, shards)
    held = [plan.leaves("parameter", p) for p in range(2)]
    lines: Counter[tuple[Address, Address, str]] = Counter()
    sent_bytes: Counter[tuple[Address, Address, str]] = Counter()
    send = LocalTheatre.send

    def counted(
        self: LocalTheatre, sender: Address, envelopes: Iterable[Envelope], recorder: Any
    ) -> None:
        envelopes = list(envelopes)
        for one in envelopes:
            key = sender, one.to, type(one.message).__name__
            lines[key] += 1
            sent_bytes[key] += sum(array.nbytes for array in one.arrays)
        send(self, sender, envelopes, recorder)

    monkeypatch.setattr(LocalTheatre, "send", counted)
    train(net, plan=plan, shards=shards, algorithm="downpour", steps=steps)
    traffic = layout.traffic(held)
    kinds = "replica", "shard"
    used = {(a.partition, b.number) for a, b, _ in lines if (a.kind, b.kind) == kinds}
    assert used == set(traffic)
    assert len(used) <= 2 + shards - 1
    for (p, s), size in traffic.items():
        partition, shard = Address("replica", 0, p), Address("shard", s)
        assert lines[partition, shard, "Push"] == steps
        assert sent_bytes[partition, shard, "Push"] == steps * size
        fetches = lines[partition, shard, "Fetch"]
        assert steps <= fetches <= steps + 1  # the last one is for a step that is not taken
        assert sent_bytes[shard, partition, "Fetched"] == fetches * size


@pytest.mark.parametrize(
    "rule",
    ["momentum:learning_rate=0.1@cosine:steps=12", pytest.param("adagrad", marks=pytest.mark.slow)],
)
def test_resuming_is_as_if_it_had_not_stopped(rule: str, tmp_path: Path) -> None:
    """Slots and schedules come along, onto other numbers of shards; and to a plain run."""
    whole = train(optimizer=rule, algorithm="downpour")
    folder = tmp_path / "run"
    train(optimizer=rule, algorithm="downpour", shards=3, steps=5, checkpoint=folder)
    second = train(
        optimizer=rule, algorithm="downpour", shards=2, steps=9, checkpoint=folder, resume=True
    )
    assert second.step == 9
    third = train(optimizer=rule, checkpoint=folder, resume=True)
    for key, value in wholes(whole.final).items():
        np.testing.assert_array_equal(wholes(third.final)[key], value)


def test_resuming_with_more_replicas_uses_every_batch_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(checkpoint=folder, steps=7)
    train(checkpoint=folder, steps=20, resume=True, algorithm="downpour", replicas=3)
    found = train(
        checkpoint=folder, steps=31, resume=True, algorithm="downpour", replicas=2, partitions=2
    )
    assert found.step == 31
    assert len(found.losses) == 11
    record = record_of(found.final)
    assert record is not None
    assert record.ledger.used == ((0, 31),)


@pytest.mark.parametrize("algorithm", ["downpour", "sandblaster", "sync"])
def test_replicas_come_and_go_while_it_runs(algorithm: str, tmp_path: Path) -> None:
    """The last one stays."""
    log = tmp_path / "log"
    trainer = dbg.Trainer(
        network(), arrays(), algorithm=algorithm, steps=40, progress="none", log=log
    )
    trainer.add_replicas(2)
    trainer.remove_replica(0)
    trainer.remove_replica(1)
    trainer.remove_replica(2)
    found = trainer.train()
    assert found.step == len(found.losses) == 40
    standing = [record for record in read_log(str(log)) if record["kind"] == "standing"][-1]
    worked = {row["replica"]: row["examples"] > 0 for row in standing["replicas"]}
    assert worked == {0: False, 1: False, 2: True}


@pytest.mark.slow
def test_compression_saves_bytes_and_learns() -> None:
    options = dbg.Downpour(2, 2, push_compression="int8", fetch_compression="bfloat16")
    found = train(
        data=dbg.Data(arrays(160), arrays(40, seed=1)),
        algorithm=options,
        replicas=2,
        steps=200,
        optimizer="adagrad:learning_rate=0.1",
    )
    assert found.accuracy is not None
    assert found.accuracy > 0.8
