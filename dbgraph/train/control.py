"""What another terminal may ask of a run: how its machines are (`dbgraph doctor`), and for more or
fewer replicas (`dbgraph replicas`).

It is answered by a thread of its own: while the run's own threads compute, or hang.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec

from dbgraph.actors.audience import Wish
from dbgraph.backends.control import Answer, Request, controllable
from dbgraph.backends.states import Telling
from dbgraph.errors import UsageError
from dbgraph.train.journal import Wishes
from dbgraph.train.log import RunLog
from dbgraph.train.setup import Setup, title
from dbgraph.train.standing import Standing

Answers = Mapping[str, Callable[[Request], Answer]]
"""By what is asked, what answers; it may raise UsageError."""


def control(
    folder: str | os.PathLike[str] | None, answers: Answers
) -> AbstractContextManager[None]:
    """While the block lasts, the run can be asked by whoever knows its folder; where it has none
    it can't."""
    if folder is None:
        return nullcontext()
    Path(folder).mkdir(parents=True, exist_ok=True)
    return controllable(Path(folder), lambda request: _answer(request, answers))


def _answer(request: Request, answers: Answers) -> Answer:
    asked = str(request.get("ask"))
    if asked not in answers:
        known = ", ".join(sorted(answers))
        raise UsageError(f"the run can't be asked for {asked!r}", hint=f"it answers: {known}")
    return answers[asked](request)


def machine_answers(setup: Setup, log: RunLog, running: Callable[[], object]) -> Answers:
    """How the machines are.

    Args:
        running: gives the backend or theatre; of one that does not tell there are no machines.
    """

    def state(_: Request) -> Answer:
        runs = running()
        machines = runs.machines() if isinstance(runs, Telling) else []
        return {
            "title": title(setup),
            "step": log.step,
            "steps": setup.steps,
            "since_s": round(time.monotonic() - log.stepped_s, 3),
            "sign_s": runs.sign_s if isinstance(runs, Telling) else 0.0,
            "machines": msgspec.to_builtins(machines),
        }

    return {"state": state}


def replica_answers(wishes: Wishes, standing: Standing) -> Answers:
    """How replicas are doing, and what is to become of them."""

    def show(_: Request) -> Answer:
        now = time.monotonic()
        return {"lines": standing.lines(now), **standing.records(now)}

    def add(request: Request) -> Answer:
        match request:
            case {"count": int(count)} if count > 0:
                wishes.put(Wish(add=count))
                return {}
        raise _strange(request)

    def remove(request: Request) -> Answer:
        match request:
            case {"numbers": [*numbers]} if numbers:
                _check(numbers, standing)
                wishes.put(Wish(remove=tuple(numbers)))
                return {}
        raise _strange(request)

    return {"show": show, "add": add, "remove": remove}


def _strange(request: Request) -> UsageError:
    return UsageError(f"the run does not understand {request}", hint="is it of this version?")


def _check(numbers: list[int], standing: Standing) -> None:
    known = sorted(standing.replicas)
    strange = [number for number in numbers if number not in standing.replicas]
    if strange:
        there = ", ".join(map(str, known))
        raise UsageError(f"there is no replica {strange[0]}", hint=f"there were or are: {there}")
