"""The plan's file: versioned text that people can read, diff and edit. It holds no code, and
opening it runs none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dbgraph.errors import DbgraphError, PlanError
from dbgraph.ir.graph import Graph
from dbgraph.ir.text import parse_graph, print_graph
from dbgraph.ops import COMMUNICATION
from dbgraph.plan.derive import segment_of, transfers_of
from dbgraph.plan.plan import MODES, Plan
from dbgraph.plan.program import Instruction, Program, Segment, parse_instruction

VERSION = 1
_FIRST = "dbgraph plan"
_FIELDS: dict[str, Callable[[str], object]] = {
    "name": str,
    "fingerprint": str,
    "mode": str,
    "partitions": int,
    "batch": int,
    "microbatches": int,
    "seed": int,
    "strategy": str,
}


def print_plan(plan: Plan) -> str:
    """The text of a plan; `parse_plan` is its inverse."""
    head = [f"{_FIRST} {VERSION}", *(f"{name} {getattr(plan, name)}" for name in _FIELDS)]
    parts = ["\n".join(head), _block("network", print_graph(plan.network))]
    parts.append(_block("graph", print_graph(plan.graph)))
    parts += [_block(f"program {p.partition}", print_program(p)) for p in plan.programs]
    return "\n".join([*parts, "end", ""])


def print_program(program: Program) -> str:
    """Segments with their nodes, then the instructions in order."""
    lines = [f"segment s{i}: {' '.join(s.nodes)}" for i, s in enumerate(program.segments)]
    return "\n".join([*lines, *map(str, program.instructions)])


def _block(title: str, body: str) -> str:
    return f"{title} {{\n{body.rstrip()}\n}}"


def save_plan(plan: Plan, path: str | os.PathLike[str]) -> None:
    """Writes the file whole or not at all. Raises OSError."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        partial.write_text(print_plan(plan), encoding="utf-8")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def open_plan(path: str | os.PathLike[str]) -> Plan:
    """Reads a plan's file. Raises PlanError with the file and the line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path} is no plan: it is not text") from error
    try:
        return parse_plan(text)
    except DbgraphError as error:
        raise PlanError(f"{path}: {error}") from error


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
        while self.next(f"the end of {title!r}") != "}":
            pass
        return first, self.lines[first : self.at - 1]


def parse_plan(text: str) -> Plan:
    """A plan of its text. Raises PlanError with the line; it runs nothing."""
    lines = _Lines(text.removesuffix("\n").split("\n"))
    _check_version(lines.next(f"{_FIRST} {VERSION}"))
    head = dict(_read_field(lines, name) for name in _FIELDS)
    network = _graph(lines, "network")
    graph = _graph(lines, "graph")
    count = head["partitions"]
    assert isinstance(count, int)
    programs = tuple(_program(lines, graph, p) for p in range(count))
    if lines.next("'end'") != "end":
        raise PlanError(f"line {lines.at}: expected 'end', found {lines.lines[lines.at - 1]!r}")
    return Plan(
        **head,  # type: ignore[arg-type]  # _FIELDS gives each its type
        network=network,
        graph=graph,
        transfers=transfers_of(graph),
        programs=programs,
    )


def _check_version(line: str) -> None:
    if not line.startswith(_FIRST + " "):
        raise PlanError(f"this is no plan: line 1 should be '{_FIRST} {VERSION}'")
    version = line.removeprefix(_FIRST).strip()
    if version != str(VERSION):
        raise PlanError(
            f"the plan has version {version}; this dbgraph reads version {VERSION}",
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
    if name == "mode" and parsed not in MODES:
        raise PlanError(f"line {lines.at}: mode must be one of {', '.join(MODES)}, not {value!r}")
    return name, parsed


def _graph(lines: _Lines, title: str) -> Graph:
    first, body = lines.block(title)
    graph = parse_graph("\n".join(body), first_line=first + 1)
    _check_edges(graph, title)
    return graph


def _check_edges(graph: Graph, title: str) -> None:
    """What the rest of the reading needs; all other rules are `verify`'s."""
    seen: set[str] = set()
    for node in graph:
        for name in node.inputs:
            if name not in seen:
                where = "after it" if name in graph.by_name else "nowhere"
                raise PlanError(
                    f"{title}: %{node.name} reads %{name}, which is defined {where}", at=node.source
                )
        seen.add(node.name)
        if node.op in COMMUNICATION:
            value = graph[node.inputs[0]] if len(node.inputs) == 1 else None
            sent = value is not None and (value.op == "send") == (node.op == "recv")
            if not sent or node.partition is None:
                raise PlanError(
                    f"{title}: %{node.name}: a send takes a value, a recv a send, and both stand "
                    "on a partition",
                    at=node.source,
                )


def _program(lines: _Lines, graph: Graph, partition: int) -> Program:
    first, body = lines.block(f"program {partition}")
    segments: list[Segment] = []
    instructions: list[Instruction] = []
    for number, line in enumerate(body, first + 1):
        try:
            if line.startswith("segment "):
                segments.append(_segment(graph, line, len(segments)))
            else:
                instructions.append(parse_instruction(line))
        except ValueError as error:
            raise PlanError(f"line {number}: {error}") from None
    return Program(partition, tuple(segments), tuple(instructions))


def _segment(graph: Graph, line: str, index: int) -> Segment:
    head, colon, names = line.partition(": ")
    if not colon or head != f"segment s{index}":
        raise ValueError(f"expected 'segment s{index}: NODE …', found {line[:60]!r}")
    nodes = tuple(names.split(" "))
    for name in nodes:
        if name not in graph.by_name:
            raise ValueError(f"segment s{index} names {name!r}, which the graph does not hold")
    return segment_of(graph, nodes)


def lines_of(programs: tuple[Program, ...]) -> Iterator[str]:
    """Each program with its title, for people."""
    for program in programs:
        yield _block(f"program {program.partition}", print_program(program))
