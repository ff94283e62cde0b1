"""Options of rules and schedules: names and numbers, checked, with one text form.

`momentum:learning_rate=0.05,momentum=0.9`: a name, then options in the order of their table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from dbgraph.errors import UsageError
from dbgraph.suggest import did_you_mean

Value = int | float | tuple[int, ...]


@dataclass(frozen=True)
class Option:
    """What an option may be.

    Attributes:
        default: None where it must be given.
        low, below: low <= value < below.
        kind: "number", "count" (an int) or "counts" (ints, written 1000/2000, rising).
    """

    default: Value | None = None
    low: float = 0.0
    below: float = math.inf
    kind: str = "number"


@dataclass(frozen=True)
class Named:
    """A rule or a schedule, as users may name it: one line of doc, and its options."""

    doc: str
    options: Mapping[str, Option]


Table = Mapping[str, Named]


def complete(what: str, table: Table, name: str, given: Mapping[str, Value]) -> dict[str, Value]:
    """The options with the defaults, in the table's order.

    Raises UsageError for a name that is not in the table, an unknown or missing option, and a
    value outside its range.
    """
    if name not in table:
        known = ", ".join(table)
        raise UsageError(
            f"no {what} {name!r}", hint=did_you_mean(name, table) or f"there are: {known}"
        )
    options = table[name].options
    for key in given:
        if key not in options:
            known = ", ".join(options) or "nothing"
            hint = did_you_mean(key, options) or f"it takes: {known}"
            raise UsageError(f"{what} {name!r} has no option {key!r}", hint=hint)
    for key, option in options.items():
        if key not in given and option.default is None:
            raise UsageError(f"{what} {name!r} needs {key}", hint=f"write {name}:{key}=…")
    return {
        key: _checked(f"{what} {name!r}: {key}", option, given.get(key, option.default))
        for key, option in options.items()
    }


def _checked(where: str, option: Option, value: object) -> Value:
    if option.kind == "counts":
        parts = value if isinstance(value, tuple | list) else (value,)
        counts = tuple(int(_number(where, option, part, whole=True)) for part in parts)
        if not counts or list(counts) != sorted(set(counts)):
            raise UsageError(f"{where}={_text(counts)}: expected rising steps such as 1000/2000")
        return counts
    return _number(where, option, value, whole=option.kind == "count")


def _number(where: str, option: Option, value: object, whole: bool) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{where}={value}: expected a number")
    if whole and value != int(value):
        raise UsageError(f"{where}={value}: expected a whole number")
    if not option.low <= value < option.below:
        limit = f" and below {option.below:g}" if option.below < math.inf else ""
        raise UsageError(f"{where}={value}: must be at least {option.low:g}{limit}")
    return int(value) if whole else float(value)


def to_text(name: str, options: Mapping[str, Value]) -> str:
    listed = ",".join(f"{key}={_text(value)}" for key, value in options.items())
    return f"{name}:{listed}" if listed else name


def _text(value: Value) -> str:
    return "/".join(map(str, value)) if isinstance(value, tuple) else repr(value)


def from_text(text: str) -> tuple[str, dict[str, Value]]:
    """The inverse of `to_text`. Raises UsageError."""
    name, colon, listed = text.partition(":")
    options: dict[str, Value] = {}
    for part in listed.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key:
            raise UsageError(f"{text!r}: expected NAME:OPTION=NUMBER,… but found {part!r}")
        if key in options:
            raise UsageError(f"{text!r} gives {key} twice")
        options[key] = _value(text, key, value)
    return name.strip(), options


def _value(text: str, key: str, value: str) -> Value:
    try:
        if "/" in value:
            return tuple(int(part) for part in value.split("/"))
        return int(value) if value.lstrip("+-").isdecimal() else float(value)
    except ValueError:
        raise UsageError(f"{text!r}: {key}={value} is no number") from None
