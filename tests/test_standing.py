"""What the live table says of replicas and shards."""

from __future__ import annotations

from dbgraph.actors.messages import ShardStatus
from dbgraph.train.standing import Standing


def test_a_line_for_each_replica_and_shard() -> None:
    standing = Standing()
    standing.heard(0, "training", 3, now=10.0)
    standing.heard(1, "starting", None, now=7.0)
    for now, examples in ((8.0, 100), (10.0, 400)):
        standing.computed(0, examples, now)
    for now, times in ((8.0, 1), (10.0, 3)):
        done = 100 * times
        status = ShardStatus(done, done, pushed_bytes=done << 10, fetched_bytes=done << 10,
                             saved_bytes=0, duplicates=0, staleness=((0, done),))  # fmt: skip
        standing.served(0, status, now)
    assert standing.lines(10.5) == [
        "  replica 0: training, 200 examples/s, staleness 3, heard 0.5 s ago",
        "  replica 1: starting, 0 examples/s, heard 3.5 s ago",
        "  shard 0: 100 updates/s, 200 KiB/s",
    ]
