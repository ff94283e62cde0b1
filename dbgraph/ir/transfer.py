"""The two nodes of a transfer: all of them follows from the value and where it goes."""

from __future__ import annotations

from functools import cache

from dbgraph.ir.graph import Node
from dbgraph.ir.types import Attrs


def send_and_recv(value: Node, to: int) -> tuple[Node, Node]:
    """The send, where the value stands, and its recv on partition `to`."""
    source = value.partition
    assert source is not None
    send = _moving(value, f"{value.name}>{to}", "send", value.name, _attrs("to", to), source)
    recv = _moving(value, f"{value.name}@{to}", "recv", send.name, _attrs("source", source), to)
    return send, recv


def _moving(value: Node, name: str, op: str, of: str, attrs: Attrs, partition: int) -> Node:
    return Node(
        name, op, (of,), value.type, attrs, value.layer, value.source, value.pin, None, partition
    )


@cache
def _attrs(key: str, partition: int) -> Attrs:
    """Shared by all sends to, or recvs from, one partition."""
    return Attrs({key: partition})
