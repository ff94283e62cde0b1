"""Replicas push of an embedding's gradient only the rows of the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from replica_tools import train, wholes

import dbgraph as dbg
from dbgraph import layers as L
from dbgraph.ir.region import Region
from dbgraph.ps import routes
from dbgraph.ps.rows import rows_of, tables
from dbgraph.train.history import Result

WORDS, UNITS, BATCH = 200, 4, 4
RULES = {
    "sgd": "sgd:learning_rate=0.1",
    "adagrad": "adagrad:learning_rate=0.1",
}


def network(l2: float = 0.0, tied: bool = False) -> dbg.Network:
    with dbg.Network("words", batch=BATCH, seed=1) as net:
        words = dbg.input("words", (3,), dtype="int32")
        label = dbg.input("label", (), dtype="int32")
        table = L.Embedding(WORDS, UNITS, l2=l2, name="table")
        h = table(words)
        h = h + table(words) if tied else h
        dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(5, name="scores")(h), label))
    return net


def examples() -> dict[str, np.ndarray]:
    """Of the table most rows are never asked for, and some several times in a batch."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 50, (40, 3)).astype(np.int32)
    words[:, 0] = 7
    return {"words": words, "label": rng.integers(0, 5, 40).astype(np.int32)}


def trained(monkeypatch: pytest.MonkeyPatch, dense: bool, **options: Any) -> tuple[Result, int]:
    """(the run, bytes that its shards were sent)."""
    from dbgraph.actors.shard import Shard

    shards: list[Shard] = []
    before = Shard.load

    def load(shard: Shard, state: Any) -> None:
        shards.append(shard)
        before(shard, state)

    with monkeypatch.context() as patch:
        patch.setattr(Shard, "load", load)
        if dense:
            patch.setattr(routes, "tables", lambda *_: frozenset())
        options = {"optimizer": RULES["sgd"], "algorithm": dbg.Downpour(), **options}
        result = train(network(), examples(), replicas=1, **options)
    return result, sum(shard.counters.pushed_bytes for shard in shards)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_rows_alone_do_the_same_bit_for_bit_with_fewer_bytes(
    monkeypatch: pytest.MonkeyPatch, rule: str, n: int
) -> None:
    options = {
        "optimizer": RULES[rule],
        "algorithm": dbg.Downpour(n_push=n),
        "partitions": 2,
        "shards": 3,
    }
    rows, fewer = trained(monkeypatch, dense=False, **options)
    dense, more = trained(monkeypatch, dense=True, **options)
    found, expected = wholes(rows.final), wholes(dense.final)
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key].tobytes() == value.tobytes(), key
    assert fewer < more / 2


def test_sandblaster_stages_rows_and_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"algorithm": dbg.Sandblaster(portion=8), "optimizer": None, "steps": 3}
    rows, _ = trained(monkeypatch, dense=False, **options)
    dense, _ = trained(monkeypatch, dense=True, **options)
    expected = wholes(dense.final)
    for key, value in wholes(rows.final).items():
        if key[0] == "":
            np.testing.assert_array_equal(value, expected[key])


def test_only_what_nothing_but_embeddings_reads_is_a_table() -> None:
    assert tables(dbg.make_plan(network(), partitions=1), 0) == {"table/weights"}
    assert tables(dbg.make_plan(network(tied=True), partitions=1), 0) == {"table/weights"}
    assert tables(dbg.make_plan(network(l2=0.1), partitions=1), 0) == frozenset()


def test_rows_that_are_not_zero_are_found_also_those_that_are_no_numbers() -> None:
    gradient = np.zeros((6, 2), np.float32)
    gradient[1, 1], gradient[4, 0] = np.nan, -2.0
    found = rows_of(gradient, Region(((10, 16), (3, 5))))
    assert found.indices.tolist() == [11, 14]
    np.testing.assert_array_equal(found.values, gradient[[1, 4]])
