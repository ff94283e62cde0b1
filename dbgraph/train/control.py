"""What another terminal may ask of a run with replicas (`dbgraph replicas`)."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from dbgraph.actors.audience import Wish
from dbgraph.backends.control import Answer, Request, controllable
from dbgraph.errors import UsageError
from dbgraph.train.journal import Wishes
from dbgraph.train.standing import Standing


def control(
    folder: str | os.PathLike[str] | None, wishes: Wishes, standing: Standing
) -> AbstractContextManager[None]:
    """While the block lasts, the run can be asked by `dbgraph replicas FOLDER`; where it has no
    folder it can't."""
    if folder is None:
        return nullcontext()
    Path(folder).mkdir(parents=True, exist_ok=True)
    return controllable(Path(folder), lambda request: _answer(request, wishes, standing))


def _answer(request: Request, wishes: Wishes, standing: Standing) -> Answer:
    """Raises UsageError for what can't be done."""
    match request:
        case {"ask": "show"}:
            now = time.monotonic()
            return {"lines": standing.lines(now), **standing.records(now)}
        case {"ask": "add", "count": int(count)} if count > 0:
            wishes.put(Wish(add=count))
        case {"ask": "remove", "numbers": [*numbers]} if numbers:
            _check(numbers, standing)
            wishes.put(Wish(remove=tuple(numbers)))
        case _:
            raise UsageError(
                f"the run does not understand {request}", hint="is it of this version?"
            )
    return {}


def _check(numbers: list[int], standing: Standing) -> None:
    known = sorted(standing.replicas)
    strange = [number for number in numbers if number not in standing.replicas]
    if strange:
        there = ", ".join(map(str, known))
        raise UsageError(f"there is no replica {strange[0]}", hint=f"there were or are: {there}")
