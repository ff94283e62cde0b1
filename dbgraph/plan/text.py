"""The plan's file: versioned text that people can read, diff and edit. It holds no code, and
opening it runs none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dbgraph.errors import DbgraphError, PlanError
from dbgraph.ir.graph import Graph
from dbgraph.ir.text import graph_lines, parse_lines
from dbgraph.ir.verify import verify
from dbgraph.ops import COMMUNICATION
from dbgraph.plan.choice import Choices
from dbgraph.plan.cuts import line_of, parse_cuts, print_cuts
from dbgraph.plan.derive import segments_of, transfers_of
from dbgraph.plan.edited import edited_node
from dbgraph.plan.plan import MODES, ORDERS, Plan
from dbgraph.plan.program import Instruction, Program, parse_instruction
from dbgraph.plan.seal import END

VERSION = 3
_READ = ("2", "3")  # in version 2 each send and each recv has its own line, as they still may
_FIRST = "dbgraph plan"
_FIELDS: dict[str, Callable[[str], object]] = {
    "name": str,
    "fingerprint": str,
    "mode": str,
    "partitions": int,
    "batch": int,
    "microbatches": int,
    "order": str,
    "seed": int,
    "strategy": str,
}
_ALLOWED = {"mode": MODES, "order": ORDERS}


def print_plan(plan: Plan) -> str:
    """The text of a plan; `parse_plan` is its inverse."""
    return "".join(plan_lines(plan))


def plan_lines(plan: Plan) -> Iterator[str]:
    """The same text in pieces, for a plan that is too large to hold as a text as well."""
    yield f"{_FIRST} {VERSION}\n"
    yield from (f"{name} {getattr(plan, name)}\n" for name in _FIELDS)
    yield from _block("network", graph_lines(plan.network))
    cuts = print_cuts(plan.cuts, plan.network, plan.batch)
    yield from _block("cuts", [f"{cuts}\n"] if cuts else [])
    yield from _block("graph", graph_lines(plan.graph))
    for program in plan.programs:
        yield from _block(f"program {program.partition}", _program_lines(program))
    yield f"{END}\n"


def _block(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield f"{title} {{\n"
    yield from lines
    yield "}\n"


def _program_lines(program: Program) -> Iterator[str]:
    """Segments with their nodes, then the instructions in order."""
    for i, segment in enumerate(program.segments):
        yield f"segment s{i}: {' '.join(segment.nodes)}\n"
    for instruction in program.instructions:
        yield f"{instruction}\n"


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Writes the file whole or not at all. Raises OSError."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(plan_lines(plan))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


_BY_HAND = "only the lines under `cuts` may be edited by hand; undo it, or compile anew"


def open_plan(path: str | os.PathLike[str], *, edited: bool = False) -> Plan:
    """Reads a plan's file. Raises PlanError with the file and the line.

    Args:
        edited: whether its cuts may be others than those that its graph was made of: it is about
            to be made anew.
    """
    text = _read(path)
    with _in_file(path):
        plan = parse_plan(text)
    if not edited and (node := edited_node(plan)):
        line = line_of(text, node)
        raise PlanError(
            f"{path}: line {line}: {node} has other tiles in the graph than in the cuts, which "
            "were edited",
            hint=f"make the plan anew: dbgraph compile --from {path} -o {path}",
        )
    return plan


def open_cuts(path: str | os.PathLike[str]) -> Plan:
    """Reads a plan's head, network and cuts alone, of which it can be made anew: its graph is
    empty, and it has no programs. Raises PlanError with the file and the line."""
    text = _read(path)
    with _in_file(path):
        head, network, cuts = _decided(_Lines(text.split("\n")))
        return Plan(**head, network=network, cuts=cuts, graph=Graph(()), transfers=(), programs=())


def _read(path: str | os.PathLike[str]) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is no plan: it is not text") from error


@contextmanager
def _in_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """An error of parsing, as the file's."""
    try:
        yield
    except DbgraphError as error:
        at = f"{error.at}: " if error.at else ""
        raise PlanError(f"{path}: {at}{error.rule}", hint=error.hint or _BY_HAND) from error


@dataclass
class _Lines:
    """The text's lines with their numbers."""

    lines: list[str]
    at: int = 0

    def next(self, expected: str) -> str:
        if self.at >= len(self.lines):
            raise PlanError(f"the plan is truncated: line {self.at + 1} should hold {expected}")
        self.at += 1
        return self.lines[self.at - 1]

    def block(self, title: str) -> tuple[int, list[str]]:
        """(number of the first line, lines) up to the closing brace."""
        line = self.next(f"{title!r}")
        if line != f"{title} {{":
            raise PlanError(f"line {self.at}: expected {title + ' {'!r}, found {line!r}")
        first = self.at
        try:
            self.at = self.lines.index("}", first)
        except ValueError:
            self.at = len(self.lines)
        self.next(f"the end of {title!r}")
        return first, self.lines[first : self.at - 1]


def parse_plan(text: str) -> Plan:
    """A plan of its text. Raises PlanError with the line; it runs nothing."""
    lines = _Lines(text.removesuffix("\n").split("\n"))
    head, network, cuts = _decided(lines)
    graph = _graph(lines, "graph")
    programs = _programs(lines, graph, head["partitions"])
    if lines.next("'end'").split(" ")[0] != END:
        raise PlanError(f"line {lines.at}: expected 'end', found {lines.lines[lines.at - 1]!r}")
    return Plan(
        **head,
        network=network,
        cuts=cuts,
        graph=graph,
        transfers=transfers_of(graph),
        programs=programs,
    )


def _decided(lines: _Lines) -> tuple[dict[str, Any], Graph, Choices]:
    """What all the rest of a plan is made of: its fields, each of its type in _FIELDS, the network
    and the cuts."""
    _check_version(lines.next(f"{_FIRST} {VERSION}"))
    head: dict[str, Any] = dict(_read_field(lines, name) for name in _FIELDS)
    network = _graph(lines, "network")
    return head, network, _cuts(lines, network, head["batch"])


def _check_version(line: str) -> None:
    if not line.startswith(_FIRST + " "):
        raise PlanError(f"this is no plan: line 1 should be '{_FIRST} {VERSION}'")
    version = line.removeprefix(_FIRST).strip()
    if version not in _READ:
        raise PlanError(
            f"the plan has version {version}; this dbgraph reads {' and '.join(_READ)}",
            hint="compile it again, or use the dbgraph that wrote it",
        )


def _read_field(lines: _Lines, name: str) -> tuple[str, object]:
    line = lines.next(f"'{name} …'")
    word, _, value = line.partition(" ")
    if word != name:
        raise PlanError(f"line {lines.at}: expected '{name} …', found {line!r}")
    try:
        parsed = _FIELDS[name](value)
    except ValueError:
        raise PlanError(f"line {lines.at}: {name} must be a whole number, not {value!r}") from None
    if name in ("partitions", "batch", "microbatches") and isinstance(parsed, int) and parsed < 1:
        raise PlanError(f"line {lines.at}: {name} must be at least 1, not {parsed}")
    allowed = _ALLOWED.get(name)
    if allowed is not None and value not in allowed:
        rule = f"{name} must be one of {', '.join(allowed)}, not {value!r}"
        raise PlanError(f"line {lines.at}: {rule}")
    return name, parsed


def _graph(lines: _Lines, title: str) -> Graph:
    first, body = lines.block(title)
    graph = parse_lines(body, first_line=first + 1)
    _check_edges(graph, title)
    return graph


def _cuts(lines: _Lines, network: Graph, batch: int) -> Choices:
    first, body = lines.block("cuts")
    if any("inner " in line for line in body):
        verify(network, "network")  # the names of reduced axes are the ops' own
    return parse_cuts(body, network, batch, first_line=first + 1)


def _check_edges(graph: Graph, title: str) -> None:
    """What the rest of the reading needs; all other rules are `verify`'s."""
    if graph.misread:
        reader, rule = graph.misread
        raise PlanError(f"{title}: %{reader.name} {rule}", at=reader.source)
    nodes = graph.nodes
    for node, read in zip(nodes, graph.sources, strict=True):
        if node.op in COMMUNICATION:
            sent = len(read) == 1 and (nodes[read[0]].op == "send") == (node.op == "recv")
            if not sent or node.partition is None:
                raise PlanError(
                    f"{title}: %{node.name}: a send takes a value, a recv a send, and both stand "
                    "on a partition",
                    at=node.source,
                )


def _programs(lines: _Lines, graph: Graph, count: int) -> tuple[Program, ...]:
    read = [_program(lines, graph, partition) for partition in range(count)]
    segments = iter(segments_of(graph, [group for together, _ in read for group in together]))
    return tuple(
        Program(partition, tuple(islice(segments, len(together))), instructions)
        for partition, (together, instructions) in enumerate(read)
    )


def _program(
    lines: _Lines, graph: Graph, partition: int
) -> tuple[list[list[int]], tuple[Instruction, ...]]:
    """The positions of each segment's nodes, and the instructions."""
    first, body = lines.block(f"program {partition}")
    together: list[list[int]] = []
    instructions: list[Instruction] = []
    for number, line in enumerate(body, first + 1):
        try:
            if line.startswith("segment "):
                together.append(_segment(graph, line, len(together)))
            else:
                instructions.append(parse_instruction(line))
        except ValueError as error:
            raise PlanError(f"line {number}: {error}") from None
    return together, tuple(instructions)


def _segment(graph: Graph, line: str, index: int) -> list[int]:
    """The positions of its nodes."""
    head, colon, names = line.partition(": ")
    if not colon or head != f"segment s{index}":
        raise ValueError(f"expected 'segment s{index}: NODE …', found {line[:60]!r}")
    nodes = names.split(" ")
    for name in nodes:
        if name not in graph.positions:
            raise ValueError(f"segment s{index} names {name!r}, which the graph does not hold")
    return [graph.positions[name] for name in nodes]


def lines_of(programs: tuple[Program, ...]) -> Iterator[str]:
    """Each program with its title, for people."""
    for program in programs:
        yield "".join(_block(f"program {program.partition}", _program_lines(program))).rstrip()
