"""What a shard answers."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import msgspec

from dbgraph.ps.compress import Arrays
from dbgraph.ps.messages import READER, Reason, Refused

Source = Hashable
"""Where a message came from and its answer goes: the backend's own name for it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Please send this."""

    to: Source
    message: Any
    arrays: Arrays = ()


def refuse(to: Source, message: Any, reason: Reason, detail: str = "") -> Reply:
    fields = msgspec.structs.asdict(message)
    refused = Refused(
        what=type(message).__name__,
        replica=fields.get("replica", READER),
        partition=fields.get("partition", 0),
        epoch=fields.get("epoch", 0),
        number=fields.get("sequence", fields.get("number", 0)),
        reason=reason,
        detail=detail,
    )
    return Reply(to, refused)
