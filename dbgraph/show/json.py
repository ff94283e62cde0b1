"""A plan for other programs.

plan        name, fingerprint (of the network), mode, strategy, partitions, batch, microbatches,
            seed
inputs      by name: shape (the batch first), dtype
outputs     by name: shape, dtype
forecast    step_s, busiest (a partition), traffic_bytes (between machines, in one step), deadlock
            (true or false)
partitions  for each: partition, tiles, parameters (elements), parameter_bytes, memory_bytes (at
            the peak), flop, in_bytes, out_bytes, busy_s; all in one step
layers      for each, in the network's order: name, op (the costliest), shape, dtype, cut (axis →
            pieces; {} where it is whole), inner (the same for reduced axes), partitions,
            parameters, flop (forward), forward_bytes and backward_bytes (what it sends to other
            partitions in a step)
links       from, to, bytes in one step; pairs that exchange nothing are left out

With `--partition P` the list `partitions` has this one alone, `links` its own, and there are
`program` (its instructions, as text), `tiles` (node, op, layer, region) and `held` (parameter,
region).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dbgraph.ir.types import TensorType
from dbgraph.show.digest import Digest, LayerCut, LayerRow

_HEAD = ("name", "fingerprint", "mode", "strategy", "partitions", "batch", "microbatches", "seed")


def plan_json(digest: Digest, partition: int | None = None) -> dict[str, Any]:
    """The table above, of literals that `json.dumps` takes."""
    plan, forecast = digest.plan, digest.forecast
    return {
        "plan": {key: getattr(plan, key) for key in _HEAD},
        "inputs": _types(plan.input_types),
        "outputs": _types(plan.outputs),
        "forecast": {
            "step_s": forecast.step_s,
            "busiest": forecast.busiest,
            "traffic_bytes": digest.traffic_bytes,
            "deadlock": bool(forecast.blocked),
        },
        "partitions": [
            asdict(row) for row in digest.partitions if partition in (None, row.partition)
        ],
        "layers": [_layer(row) for row in digest.layers],
        "links": [
            {"from": a, "to": b, "bytes": size}
            for (a, b), size in sorted(forecast.link_bytes.items())
            if partition in (None, a, b)
        ],
        **(_one(digest, partition) if partition is not None else {}),
    }


def _types(types: Mapping[str, TensorType]) -> dict[str, Any]:
    return {name: {"shape": list(t.shape), "dtype": t.dtype} for name, t in types.items()}


def _layer(row: LayerRow) -> dict[str, Any]:
    found = asdict(row)
    del found["cuts"]
    main = row.cuts[0] if row.cuts else LayerCut((), ())
    return {
        **found,
        "shape": list(row.shape),
        "partitions": list(row.partitions),
        "cut": dict(main.outer),
        "inner": dict(main.inner),
    }


def _one(digest: Digest, partition: int) -> dict[str, Any]:
    plan = digest.plan
    return {
        "program": [str(i) for i in plan.programs[partition].instructions],
        "tiles": [
            {"node": t.node.name, "op": t.node.op, "layer": t.node.layer, "region": str(t.region)}
            for tiles in digest.tiles.values()
            for t in tiles
            if t.node.partition == partition
        ],
        "held": [
            {"parameter": leaf.of, "region": str(leaf.region)}
            for leaf in plan.leaves("parameter", partition)
        ],
    }
