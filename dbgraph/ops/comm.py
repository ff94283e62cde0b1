"""Communication: made by the pass `communicate`; a backend moves the value."""

from __future__ import annotations

from dbgraph.ir.region import Region
from dbgraph.ir.types import Attrs, TensorType, Types
from dbgraph.ops import check
from dbgraph.ops.leaf import no_flops
from dbgraph.ops.schema import OpDef, require


def _reads_same(attrs: Attrs, types: Types, region: Region) -> tuple[Region, ...]:
    return (region,)


def _no_axes(attrs: Attrs, types: Types) -> tuple[int, ...]:
    return ()


def _moving(name: str, key: str, doc: str) -> OpDef:
    def infer(attrs: Attrs, types: Types) -> TensorType:
        check.takes(name, types, 1)
        partition = check.integer(name, attrs, key)
        require(partition >= 0, f"{name}: {key} must be a partition, 0 or more; it is {partition}")
        return types[0]

    return OpDef(
        name,
        doc,
        infer=infer,
        reads=_reads_same,
        cut_axes=_no_axes,
        flops=no_flops,
        differentiable=False,
    )


SEND = _moving("send", "to", "send(x …) to → …: x leaves for the partition `to`.")
RECV = _moving("recv", "source", "recv(send …) source → …: what partition `source` sent.")
