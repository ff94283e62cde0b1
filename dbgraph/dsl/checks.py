"""The user's arguments, checked where they are given.

Each function returns the argument in its one form, or raises NetworkError with the rule, the
value and the user's line.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import SupportsIndex

from dbgraph.errors import NetworkError
from dbgraph.ir.types import DTYPE_BYTES, FLOATS
from dbgraph.source import Source, caller

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def fail(rule: str, hint: str = "", at: Source | None = None) -> NetworkError:
    """The error for the caller to raise; at the user's line unless another is to blame."""
    return NetworkError(rule, at=at or caller(), hint=hint)


def suggest(given: object, known: Iterable[str]) -> str:
    """`did you mean …`, and what there is."""
    names = list(known)
    close = get_close_matches(str(given), names, n=1)
    there = "there is " + ", ".join(names)
    return f"did you mean {close[0]!r}? {there}" if close else there


def name(value: object, what: str) -> str:
    if isinstance(value, str) and NAME.fullmatch(value):
        return value
    raise fail(
        f"{what} must be a letter or _, then letters, digits, _ . or -; {value!r} is not",
        "for example 'hidden1'",
    )


def index(value: object, what: str, least: int = 1) -> int:
    """An integer (a NumPy one too, no bool) of at least `least`."""
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        number = operator.index(value)
        if number >= least:
            return number
        raise fail(f"{what} must be at least {least}, not {number}")
    raise fail(f"{what} must be an integer, not {value!r}")


def number(value: object, what: str) -> float:
    """A finite real number."""
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise fail(f"{what} must be a number, not {value!r}")
    try:
        result = float(value)
    except (TypeError, ValueError) as error:
        raise fail(f"{what} must be a number, not {value!r}") from error
    if result - result != 0:
        raise fail(f"{what} must be finite, not {value!r}")
    return result


def at_least_zero(value: object, what: str) -> float:
    result = number(value, what)
    if result < 0:
        raise fail(f"{what} must not be negative, but is {result:g}")
    return result


def shape(value: object, what: str) -> tuple[int, ...]:
    """The lengths of a shape, each at least 1; one integer stands for one axis."""
    if isinstance(value, SupportsIndex):
        value = (value,)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise fail(f"{what} must be a tuple of integers such as (8, 8, 1), not {value!r}")
    return tuple(index(n, f"each length of {what}") for n in value)


def pair(value: object, what: str, least: int = 1) -> tuple[int, int]:
    """(rows, cols); one integer stands for both."""
    if isinstance(value, SupportsIndex):
        value = (value, value)
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise fail(f"{what} must be an integer or a pair (rows, cols), not {value!r}")
    return index(value[0], f"{what} in rows", least), index(value[1], f"{what} in cols", least)


def dtype(value: object, what: str) -> str:
    """The name of a dtype; NumPy's and JAX's own objects are understood by their names."""
    text = value if isinstance(value, str) else getattr(value, "name", None)
    text = text or getattr(value, "__name__", None)
    if isinstance(text, str) and text in DTYPE_BYTES:
        return text
    raise fail(f"{what} is {value!r}, which is no dtype", suggest(text or value, DTYPE_BYTES))


def float_dtype(value: object, what: str) -> str:
    text = dtype(value, what)
    if text not in FLOATS:
        raise fail(f"{what} must be a float, not {text}", f"one of {', '.join(FLOATS)}")
    return text


def cut(value: object) -> dict[str, int]:
    """`cut={"rows": 2}`: axis names to numbers of pieces."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise fail(f'cut must map axes to pieces, such as {{"rows": 2}}, not {value!r}')
    found: dict[str, int] = {}
    for axis, pieces in value.items():
        if not isinstance(axis, str):
            raise fail(f"an axis of cut must be a name such as 'rows', not {axis!r}")
        found[axis] = index(pieces, f"the number of pieces of {axis!r}")
    return found


Padding = tuple[tuple[int, int], tuple[int, int]]


def padding(value: object, what: str) -> str | Padding:
    """ "valid", "same", or zeros on each side: ((above, below), (left, right))."""
    if isinstance(value, str):
        if value in ("valid", "same"):
            return value
        raise fail(f"{what} is {value!r}", suggest(value, ("valid", "same")))
    if isinstance(value, Sequence) and len(value) == 2:
        rows, cols = value
        return pair(rows, f"{what} above and below", 0), pair(cols, f"{what} left and right", 0)
    raise fail(f"{what} must be 'valid', 'same' or ((above, below), (left, right)), not {value!r}")
