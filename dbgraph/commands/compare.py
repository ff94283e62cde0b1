"""`compile --compare A,B`: candidates side by side, of which the best is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dbgraph.errors import NoCutError, UsageError
from dbgraph.suggest import did_you_mean

if TYPE_CHECKING:
    from dbgraph.compile import Options
    from dbgraph.dsl.network import Network
    from dbgraph.plan.declared import Declared
    from dbgraph.plan.plan import Plan
    from dbgraph.show.compare import Candidate


def names_in(text: str) -> list[str]:
    """The strategies of `--compare tiles,stages`. Raises UsageError."""
    from dbgraph.compile import NAMES

    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in NAMES:
            near = did_you_mean(name, NAMES) or f"known: {', '.join(NAMES)}"
            raise UsageError(f"--compare: there is no strategy {name!r}", hint=near)
    if not names:
        raise UsageError("--compare needs strategies", hint=f"known: {', '.join(NAMES)}")
    return names


def compare(
    network: Network | Declared, options: Options, names: Sequence[str]
) -> tuple[Plan, list[Candidate]]:
    """The plan with the shortest step, and what each came to. Cuts that are given, edited or as
    they were, are a candidate too. Raises the error of the first where none can be applied."""
    from dbgraph.compile import forecast, make_plans
    from dbgraph.show.compare import Candidate

    tried = {name: replace(options, given=None, strategy=name) for name in names}
    if options.given is not None:
        own = "edited" if options.strategy == "edited" else "as it is"
        tried = {own: options, **tried}
    found: list[Candidate] = []
    errors: list[NoCutError] = []
    best: tuple[float, Plan] | None = None
    for name, one in tried.items():
        try:
            plan = make_plans(network, one)[one.modes[0]]
        except NoCutError as error:
            errors.append(error)
            found.append(Candidate(name, error=error.rule))
            continue
        cost = forecast(plan, options.cluster)
        messages = sum(t.times(plan.microbatches) for t in plan.transfers)
        found.append(Candidate(name, plan.microbatches, messages, cost))
        if best is None or cost.step_s < best[0]:
            best = cost.step_s, plan
    if best is None:
        raise errors[0]
    return best[1], found
