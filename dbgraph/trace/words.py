"""What the parts of a plan's programs are called in a trace."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import xxhash

from dbgraph.ir.graph import Node
from dbgraph.plan.plan import Plan
from dbgraph.trace.model import PlanMark, Words

_PARTITION = re.compile(r"partition (\d+)$")
_MOST = 6  # layers, and kinds of operations, that are named


def mark_of(plan: Plan) -> PlanMark:
    """What tells the plan from others: its programs. Other seeds and folders change nothing."""
    said = [plan.fingerprint, str(plan.batch), str(plan.microbatches)]
    for program in plan.programs:
        said += (" ".join(segment.nodes) for segment in program.segments)
        said += map(str, program.instructions)
    said += (f"{t.value} {t.source} {t.to}" for t in plan.transfers)
    digest = xxhash.xxh3_64_hexdigest("\n".join(said).encode())
    return PlanMark(plan.name, plan.fingerprint, plan.mode, plan.partitions, digest)


def partition_of(process: str) -> int | None:
    """The partition whose program a process runs; None for others."""
    found = _PARTITION.search(process)
    return int(found[1]) if found else None


class PlanWords:
    """Args:
    plan: of which programs were run.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.segment = cache(self._segment)
        self.transfer = cache(self._transfer)

    def _segment(self, partition: int, number: int) -> Words:
        graph = self._plan.graph
        nodes = [graph[name] for name in self._plan.programs[partition].segments[number].nodes]
        layers = list(dict.fromkeys(node.layer for node in nodes if node.layer))
        back = ", backward" if all("'" in node.name for node in nodes) else ""
        ends = " … ".join(dict.fromkeys((layers[0], layers[-1]))) if layers else f"segment {number}"
        ops = dict.fromkeys(node.op for node in nodes)
        return Words(ends + back, _listed(layers), _listed(ops), _source(nodes))

    def _transfer(self, process: str, number: int, sends: bool) -> Words:
        t = self._plan.transfers[number]
        node = self._plan.graph[t.value]
        other = t.to if sends else t.source
        way = f"to {other}" if sends else f"from {other}"
        back = ", backward" if "'" in t.value else ""
        peer = _PARTITION.sub(f"partition {other}", process)
        name = f"{node.layer or t.value} {way}{back}"
        return Words(name, node.layer, node.op, _source([node]), peer, t.type.size_bytes)


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:_MOST]) + (", …" if len(found) > _MOST else "")


def _source(nodes: Iterable[Node]) -> str:
    return next((str(node.source) for node in nodes if node.source), "")
