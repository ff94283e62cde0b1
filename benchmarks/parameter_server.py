"""What the parameter server carries: pushes, Adagrad and fetches per second, as bytes.

    python benchmarks/parameter_server.py [--quick] [--json FILE] [--shards N …] [--clients N …]

The parameters are those of examples/speech.py, 42 M float32. Every shard and every client is a
process of the zmq backend; the shards are dbgraph's own, and so are the clients, under Downpour
SGD with n_fetch = n_push = 1, but they have their gradients already. "GB/s" is what all clients
push and fetch together, per second. Beside it, for the same bytes between as many processes:

- raw TCP over loopback, into memory that is there, and nothing computed. The aim is at least 0.5
  of its rate;
- torch's RPC, with Adagrad on the server, where torch is installed. The aim is 3 times its rate.

And the update rule alone, in this process, against copying memory with as many threads as there
are cores: bytes read and written, of which Adagrad has 20 a parameter. The aim is at least 0.8.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from _exchange import Exchange, by_tcp, by_torch, has_torch
from _measure import print_table, rounds_seconds, write_json
from _served import Casting, Timekeeper

import dbgraph as dbg
from dbgraph.backends.theatre import Cast
from dbgraph.backends.theatre_zmq import ZmqTheatre
from dbgraph.ir.region import Region
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan
from dbgraph.ps.blocks import Blocks
from dbgraph.ps.initial import initial_state
from dbgraph.ps.layout import Layout, Owned
from dbgraph.ps.options import Downpour
from dbgraph.wire.parcel import empty_aligned

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import speech

AIMS = {"× raw TCP": 0.5, "× torch RPC": 3.0, "update / copy": 0.8}
RULE = Rule.of("adagrad", learning_rate=0.01)
UPDATE_BYTES = 20
"""Of a parameter: it, its sum and its gradient are read, the first two written."""


def plan(quick: bool) -> Plan:
    net = speech.network() if not quick else small()
    return dbg.make_plan(net, partitions=1)


def small() -> dbg.Network:
    from dbgraph import layers as L

    with dbg.Network("small", batch=8) as net:
        x = dbg.input("x", (1024,))
        y = dbg.input("y", (), dtype="int32")
        h = L.Dense(1024, activation="sigmoid")(x)
        dbg.loss(L.SoftmaxCrossEntropy()(L.Dense(1024)(h), y))
    return net


def served(plan: Plan, shards: int, clients: int, budget_s: float) -> list[float]:
    """Seconds of each step that all clients have made."""
    casting = Casting(plan, Layout.of(plan, shards), Downpour(), RULE)
    keeper = Timekeeper(shards, clients, budget_s, budget_s)
    ZmqTheatre().run(Cast(shards, tuple(range(clients)), 1, 0, casting), keeper)
    return keeper.seconds


def measure(plan: Plan, shards: int, clients: int, budget_s: float) -> dict[str, Any]:
    """One row: seconds and rates by each means."""
    size_bytes = sum(kind.size_bytes for kind in plan.parameter_types.values())
    exchange = Exchange(shards, clients, size_bytes // 4, rounds=5)
    seconds = {
        "dbgraph": served(plan, shards, clients, budget_s),
        "raw TCP": by_tcp(exchange),
        **({"torch RPC": by_torch(exchange)} if has_torch() else {}),
    }
    moved_bytes = 2 * clients * size_bytes
    rates = {name: moved_bytes / statistics.median(taken) for name, taken in seconds.items()}
    return {"shards": shards, "clients": clients, "seconds": seconds, "bytes_per_s": rates}


def updating(plan: Plan) -> dict[str, float]:
    """Bytes per second, read and written: of a shard that updates with the whole network's
    gradient, and of all cores copying as much memory; the two by turns."""
    types = dict(plan.parameter_types)
    owned = [Owned(name, Region.whole(kind.shape)) for name, kind in types.items()]
    blocks = Blocks(types, owned, set(types), RULE)
    blocks.load(initial_state(plan, owned))
    changes = [(one, _ones(one.region.shape)) for one in owned]
    numbers = sum(one.region.size for one in owned)
    cores = len(os.sched_getaffinity(0))
    source = np.ones(numbers // 2 // cores * cores)
    target = np.zeros_like(source)
    parts = list(zip(np.split(target, cores), np.split(source, cores), strict=True))
    with ThreadPoolExecutor(cores) as pool:

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(*part), parts))

        seconds = rounds_seconds({"copy": copy, "update": lambda: blocks.update(changes)}, 15)
    moved_bytes = {"copy": 2 * source.nbytes, "update": UPDATE_BYTES * numbers}
    return {name: moved_bytes[name] / statistics.median(taken) for name, taken in seconds.items()}


def _ones(shape: tuple[int, ...]) -> np.ndarray:
    array = empty_aligned(shape, np.dtype(np.float32))
    array.fill(1e-3)
    return array


def row(found: dict[str, Any]) -> tuple[str, ...]:
    rates = found["bytes_per_s"]
    ours = rates["dbgraph"]
    cells = [f"{found['shards']} shards, {found['clients']} clients", f"{ours / 1e9:.2f}"]
    for name in ("raw TCP", "torch RPC"):
        measured = name in rates
        cells += [f"{rates[name] / 1e9:.2f}", f"{ours / rates[name]:.2f}"] if measured else ["", ""]
    return tuple(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 M parameters, few processes")
    parser.add_argument("--json", metavar="FILE", help="write the figures here as well")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4])
    args = parser.parse_args()
    counts = [(s, c) for s in args.shards for c in args.clients]
    made, budget_s = plan(args.quick), 0.2 if args.quick else 1.5
    size_bytes = sum(kind.size_bytes for kind in made.parameter_types.values())
    alone = updating(made)
    copy_rate, update_rate = alone["copy"], alone["update"]
    found = [measure(made, *pair, budget_s) for pair in (counts[:1] if args.quick else counts)]
    title = f"Push, Adagrad, fetch of {size_bytes / 4e6:.1f} M float32"
    columns = ("", "GB/s", "raw TCP", "×, aim 0.5", "torch RPC", "×, aim 3")
    print_table(title, columns, [row(one) for one in found])
    print(
        f"Copying memory: {copy_rate / 1e9:.1f} GB/s, read and written. Adagrad alone: "
        f"{update_rate / 1e9:.1f} GB/s, {update_rate / copy_rate:.2f} of that; aim 0.8."
    )
    if args.json:
        result = {
            "rows": found,
            "copy_bytes_per_s": copy_rate,
            "update_bytes_per_s": update_rate,
            "aims": AIMS,
        }
        write_json(args.json, {"benchmark": "parameter_server", **result})


if __name__ == "__main__":
    main()
