"""The interpreter of one partition's program: pure, values in, instructions out.

What it is asked for and told, by what comes next in its program:

| next instruction | `next()` returns           | and it goes on when          |
|------------------|----------------------------|------------------------------|
| RECV, not there  | Waiting                    | `deliver` brings the value   |
| RECV, there      | (goes on to the next one)  |                              |
| SEND             | Outgoing, with the value   | at once: a send never waits  |
| RUN              | the instruction            | `store` gives its outputs    |
| UPDATE           | the instruction            | `store` is called            |
| none             | Finished                   | `begin` starts the next step |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dbgraph.errors import RunError
from dbgraph.plan.plan import Plan
from dbgraph.plan.program import Recv, Run, Send, Update

Key = tuple[str, int]
"""A value and its microbatch."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Please send this value."""

    transfer: int
    microbatch: int
    value: Any


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing to do until this value is there."""

    transfer: int
    microbatch: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The program is done."""


Action = Run | Update | Outgoing | Waiting | Finished
_FINISHED = Finished()


class Worker:
    """Executes one program; holds the values of the step."""

    def __init__(self, plan: Plan, partition: int) -> None:
        self.plan = plan
        self.partition = partition
        self.program = plan.programs[partition]
        self.position = len(self.program.instructions)
        self.values: dict[Key, Any] = {}
        recvs = (i for i in self.program.instructions if isinstance(i, Recv))
        received = (plan.transfers[i.transfer] for i in recvs)
        self._invariant = frozenset(t.recv for t in received if t.invariant)
        self._frees = self._last_reads()

    def begin(self, leaves: Mapping[Key, Any]) -> None:
        """Starts a step with the values of the partition's inputs and clock."""
        self.values = dict(leaves)
        self.position = 0

    def next(self) -> Action:
        """What to do now; a RUN or UPDATE is returned again until `store` ends it."""
        instructions = self.program.instructions
        while self.position < len(instructions):
            instruction = instructions[self.position]
            if isinstance(instruction, Recv):
                recv = self.plan.transfers[instruction.transfer].recv
                if (recv, instruction.microbatch) not in self.values:
                    return Waiting(instruction.transfer, instruction.microbatch)
                self._advance()
            elif isinstance(instruction, Send):
                value = self.plan.transfers[instruction.transfer].value
                found = self.value(value, instruction.microbatch)
                self._advance()
                return Outgoing(instruction.transfer, instruction.microbatch, found)
            else:
                return instruction
        return _FINISHED

    def value(self, name: str, microbatch: int) -> Any:
        """What a microbatch reads: its own value, or the one that came once for all."""
        return self.values[self._key(name, microbatch)]

    def store(self, outputs: Iterable[tuple[str, Any]], microbatch: int = 0) -> None:
        """Ends the RUN or UPDATE that `next` returned."""
        for name, value in outputs:
            self.values[name, microbatch] = value
        self._advance()

    def deliver(self, transfer: int, microbatch: int, value: Any) -> None:
        """A received value; it may come long before its RECV. Raises RunError for one that is
        not this partition's, or that came already."""
        if not 0 <= transfer < len(self.plan.transfers):
            raise RunError(f"partition {self.partition}: there is no transfer {transfer}")
        expected = self.plan.transfers[transfer]
        key = (expected.recv, microbatch)
        times = expected.times(self.plan.microbatches)
        if expected.to != self.partition or not 0 <= microbatch < times:
            raise RunError(f"partition {self.partition}: transfer {transfer} is not for it")
        if key in self.values:
            raise RunError(f"partition {self.partition}: {expected.recv} came twice")
        self.values[key] = value

    def describe(self, waiting: Waiting) -> str:
        """`hidden3→hidden4, microbatch 0, from partition 1`."""
        t = self.plan.transfers[waiting.transfer]
        graph = self.plan.graph
        readers = dict.fromkeys(n.layer or n.name for n in graph.consumers[t.recv])
        of = graph[t.value].layer or t.value
        to = ", ".join(readers)
        return f"{of}→{to}, microbatch {waiting.microbatch}, from partition {t.source}"

    def _key(self, name: str, microbatch: int) -> Key:
        return (name, 0 if name in self._invariant else microbatch)

    def _advance(self) -> None:
        for key in self._frees.get(self.position, ()):
            self.values.pop(key, None)
        self.position += 1

    def _last_reads(self) -> Mapping[int, tuple[Key, ...]]:
        """position → the values that nothing reads after it; results live to the end."""
        last: dict[Key, int] = {}
        for position, instruction in enumerate(self.program.instructions):
            if isinstance(instruction, Run):
                segment = self.program.segments[instruction.segment]
                for name in (*segment.inputs, *segment.outputs):
                    last[self._key(name, instruction.microbatch)] = position
            elif isinstance(instruction, Send):
                value = self.plan.transfers[instruction.transfer].value
                last[self._key(value, instruction.microbatch)] = position
        found: dict[int, list[Key]] = defaultdict(list)
        for key, position in last.items():
            if key[0] not in self.plan.graph.result_values:
                found[position].append(key)
        return {position: tuple(keys) for position, keys in found.items()}
