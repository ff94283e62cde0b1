"""Synchronous SGD with replicas on the local backend."""

from __future__ import annotations

import numpy as np
import pytest
from replica_tools import BATCH, arrays, network, train, wholes

import dbgraph as dbg


@pytest.mark.parametrize(("replicas", "shards", "partitions"), [(2, 1, 1), (3, 2, 1), (2, 2, 2)])
def test_replicas_equal_large_batches(replicas: int, shards: int, partitions: int) -> None:
    data = arrays(BATCH * 6, dtype="float64")
    rule = "momentum:learning_rate=0.1"
    large = train(network(BATCH * replicas, dtype="float64"), data, optimizer=rule)
    found = train(
        network(dtype="float64"), data, optimizer=rule, algorithm="sync", replicas=replicas,
        shards=shards, partitions=partitions,
    )  # fmt: skip
    assert found.step == 12
    np.testing.assert_allclose(found.losses, large.losses, rtol=1e-10)
    for key, value in wholes(large.final).items():
        np.testing.assert_allclose(wholes(found.final)[key], value, rtol=1e-8)


def test_backups_are_not_waited_for() -> None:
    found = train(algorithm=dbg.Sync(backups=1), replicas=3, steps=30)
    assert found.step == len(found.losses) == 30
