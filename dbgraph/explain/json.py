"""What `dbgraph explain --json` prints.

Without a layer, an edge or a transfer:
plan           name, fingerprint (of the network), mode, strategy, partitions, batch, microbatches
forecast       step_s, busiest (a partition), traffic_bytes (between machines, in one step)
busiest        where its step goes: what, layer, seconds, partitions
critical_path  the same, of the chain of work and messages that makes the step no shorter
edges          from, to (layers), why, axes, forward_bytes, backward_bytes, messages

With one: plan, forecast, and
transfers      transfer, value (a node of the network), part (of its partial results, or null),
               region (of one microbatch), gradient (true on the way back), readers (nodes), layers
               (of value and reader), lines (of the user's file), source and to (partitions),
               bytes (of one), times (in a step), why, axes, needs and holds (regions of the value,
               on the reader's machine)
layer          of a layer alone: name, cut (lines of the plan's file), others: null, or node, now
               and best, each with cut, price_s (of the node alone), step_s, traffic_bytes; the
               last two are null where the plan is too large to simulate each
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dbgraph.explain.crossing import Crossing, Edge, Ends, crossings, edges
from dbgraph.explain.loads import Load, Loads
from dbgraph.explain.others import others
from dbgraph.explain.words import cut_lines
from dbgraph.show.digest import Digest

_HEAD = ("name", "fingerprint", "mode", "strategy", "partitions", "batch", "microbatches")


def plan_json(digest: Digest) -> dict[str, Any]:
    loads = Loads(digest.plan, digest.cluster)
    return {
        **_head(digest),
        "busiest": [_load(load) for load in loads.of_machine(digest.forecast.busiest)],
        "critical_path": [_load(load) for load in loads.critical()],
        "edges": [_edge(edge) for edge in edges(crossings(digest.plan))],
    }


def layer_json(digest: Digest, layer: str) -> dict[str, Any]:
    plan = digest.plan
    found = others(plan, layer, digest.cluster)
    return {
        **_head(digest),
        "transfers": [_transfer(one) for one in crossings(plan) if layer in one.ends],
        "layer": {
            "name": layer,
            "cut": cut_lines(plan, layer),
            "others": None if found is None else asdict(found),
        },
    }


def edge_json(digest: Digest, ends: Ends) -> dict[str, Any]:
    found = [_transfer(one) for one in crossings(digest.plan) if one.ends == ends]
    return {**_head(digest), "transfers": found}


def transfer_json(digest: Digest, index: int) -> dict[str, Any]:
    return {**_head(digest), "transfers": [_transfer(crossings(digest.plan)[index])]}


def _head(digest: Digest) -> dict[str, Any]:
    return {
        "plan": {key: getattr(digest.plan, key) for key in _HEAD},
        "forecast": {
            "step_s": digest.forecast.step_s,
            "busiest": digest.forecast.busiest,
            "traffic_bytes": digest.traffic_bytes,
        },
    }


def _load(load: Load) -> dict[str, Any]:
    return {
        "what": load.what,
        "layer": load.layer,
        "seconds": load.seconds,
        "partitions": list(load.machines),
    }


def _edge(edge: Edge) -> dict[str, Any]:
    return {
        "from": edge.ends[0],
        "to": edge.ends[1],
        "why": edge.kind,
        "axes": list(edge.axes),
        "forward_bytes": edge.forward.bytes_,
        "backward_bytes": edge.backward.bytes_,
        "messages": edge.messages,
    }


def _transfer(one: Crossing) -> dict[str, Any]:
    cargo, reason, t = one.cargo, one.reason, one.cargo.transfer
    return {
        "transfer": f"t{t.index}",
        "value": cargo.value,
        "part": cargo.part,
        "region": str(cargo.region),
        "gradient": cargo.backward,
        "readers": list(cargo.readers),
        "layers": list(one.ends),
        "lines": [str(source) if source else None for source in one.sources],
        "source": t.source,
        "to": t.to,
        "bytes": t.type.size_bytes,
        "times": one.times,
        "why": reason.kind,
        "axes": list(reason.axes),
        "needs": str(reason.needs),
        "holds": None if reason.holds is None else str(reason.holds),
    }
