"""What is wrong with a plan, and where a page marks it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from dbgraph.plan.edited import edited_node
from dbgraph.plan.plan import Plan
from dbgraph.plan.verify import Failure
from dbgraph.show.digest import layer_of
from dbgraph.show.page.shell import Problem
from dbgraph.simulate import Forecast

_MOST = 50
_NAME = re.compile(r"%?([^\s%]+)")
_Place = tuple[str, int]
_NOWHERE: _Place = ("", -1)


@dataclass(frozen=True)
class Problems:
    """
    Args:
        layers: name → number on the page.
    """

    plan: Plan
    layers: Mapping[str, int]

    def of(self, broken: Sequence[Failure], forecast: Forecast) -> tuple[Problem, ...]:
        """The rules that it breaks (not more than 50), and who waits for ever."""
        rules = [self._failure(failure) for failure in broken[:_MOST]]
        return (*self._edited(), *rules, *self._deadlocks(forecast))

    def _failure(self, failure: Failure) -> Problem:
        error = failure.error
        text = f"{error.at}: {error.rule}" if error.at else error.rule
        return Problem(text, *self._place(failure), error.hint)

    def _place(self, failure: Failure) -> _Place:
        """The most exact that is known."""
        if failure.partition is not None and failure.position is not None:
            return "instruction", self._instruction(failure.partition, failure.position)
        name = failure.node or next(self._named(failure.error.rule), "")
        place = self._node(name)
        if place == _NOWHERE and failure.partition is not None:
            return "machine", failure.partition
        return place

    def _named(self, rule: str) -> Iterator[str]:
        """The nodes that a rule names."""
        for match in _NAME.finditer(rule):
            name = match[1].rstrip(":,;.")
            if name in self.plan.graph.by_name or name in self.plan.network.by_name:
                yield name

    def _node(self, name: str) -> _Place:
        """The transfer that moves it, or its layer."""
        for transfer in self.plan.transfers:
            if name == transfer.recv:
                return "transfer", transfer.index
        node = self.plan.graph.by_name.get(name) or self.plan.network.by_name.get(name)
        if node is None or layer_of(node) not in self.layers:
            return _NOWHERE
        return "layer", self.layers[layer_of(node)]

    def _edited(self) -> Iterator[Problem]:
        """Whether its cuts were edited since it was made."""
        if name := edited_node(self.plan):
            text = f"{name} has other tiles in the graph than in the cuts, which were edited"
            hint = "make the plan anew: dbgraph compile --from PLAN -o PLAN"
            yield Problem(text, *self._node(name), hint)

    def _deadlocks(self, forecast: Forecast) -> Iterator[Problem]:
        for one in forecast.blocked:
            value = self.plan.transfers[one.transfer].value
            yield Problem(
                f"partition {one.partition} waits for ever at its instruction {one.position + 1}, "
                f"for {value} from partition {one.source}",
                "instruction",
                self._instruction(one.partition, one.position),
            )

    def _instruction(self, partition: int, position: int) -> int:
        """Instructions have one number each, program after program."""
        lengths = [len(program.instructions) for program in self.plan.programs]
        return [0, *accumulate(lengths)][partition] + position
