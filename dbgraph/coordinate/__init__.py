"""Coordinators of many replicas that train one model: pure state machines, messages in, messages
out, with the time passed in.

- `sandblaster`: an algorithm of `dbgraph.optim` over shards and replicas (batch methods);
- `sync`: synchronous SGD with backup workers.

Rules that whoever carries the messages must keep:
- a replica is admitted to the shards before `joined`, and closed there at `lost`;
- messages between two processes arrive once and in order;
- every Execute goes to all shards; a `Compute` is read before parameters are fetched for it.
"""
