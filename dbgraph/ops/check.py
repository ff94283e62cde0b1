"""Checks that the rules of several ops share; each raises OpError with the rule and the values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dbgraph.ir.types import DTYPE_BYTES, Attrs, TensorType, Types
from dbgraph.ops.schema import OpError, require


def is_integer(dtype: str) -> bool:
    """Whether a dtype counts or names things; bool does neither."""
    return dtype.startswith(("int", "uint"))


def plural(count: int, noun: str) -> str:
    """`1 input`, `2 inputs`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def takes(op: str, types: Types, count: int) -> None:
    """The op has exactly `count` inputs."""
    require(len(types) == count, f"{op} takes {plural(count, 'input')}; it was given {len(types)}")


def takes_some(op: str, types: Types) -> None:
    """The op has at least one input."""
    require(bool(types), f"{op} takes at least one input; it was given none")


def floats(op: str, what: str, type_: TensorType) -> None:
    """The op calculates with fractions."""
    require(type_.is_float, f"{op}: {what} must be floating point, not {type_}; cast it")


def numbers(op: str, what: str, type_: TensorType) -> None:
    """The op calculates, with floats or integers."""
    require(type_.dtype != "bool", f"{op}: {what} must be numbers, not {type_}; cast it")


def integers(op: str, what: str, type_: TensorType) -> None:
    """The input names rows or classes."""
    require(is_integer(type_.dtype), f"{op}: {what} must be integers, not {type_}")


def same_dtype(op: str, types: Types) -> None:
    """No input is promoted in silence."""
    found = tuple(dict.fromkeys(t.dtype for t in types))
    require(
        len(found) <= 1, f"{op}: the inputs' dtypes differ ({', '.join(found)}); cast one of them"
    )


def integer(op: str, attrs: Attrs, key: str) -> int:
    """An attribute that must be an int."""
    value = attrs.get(key)
    if type(value) is not int:
        raise OpError(f"{op}: {key} must be an integer; it is {value!r}")
    return value


def number(op: str, attrs: Attrs, key: str) -> float:
    """An attribute that must be a finite int or float."""
    value = attrs.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise OpError(f"{op}: {key} must be a finite number; it is {value!r}")
    return value


def ints(op: str, attrs: Attrs, key: str) -> tuple[int, ...]:
    """An attribute that must be a tuple of ints."""
    value = attrs.get(key)
    if not is_ints(value):
        raise OpError(f"{op}: {key} must be a tuple of integers; it is {value!r}")
    return value  # type: ignore[return-value]  # just checked


def is_ints(value: object, length: int | None = None) -> bool:
    """Whether the value is a tuple of ints, of that length where one is named."""
    return (
        isinstance(value, tuple)
        and _INT.issuperset(map(type, value))
        and (length is None or len(value) == length)
    )


_INT = frozenset({int})  # and not bool, which is a type of its own


def dtype(op: str, attrs: Attrs) -> str:
    """The attribute `dtype`, one of those that dbgraph knows."""
    value = attrs.get("dtype")
    if not isinstance(value, str) or value not in DTYPE_BYTES:
        raise OpError(f"{op}: {value!r} is no dtype; known are {', '.join(DTYPE_BYTES)}")
    return value


def shape(op: str, attrs: Attrs, key: str = "shape") -> tuple[int, ...]:
    """An attribute that must be a shape whose lengths are all at least 1."""
    found = ints(op, attrs, key)
    require(all(n > 0 for n in found), f"{op}: every length of {key} {found} must be at least 1")
    return found


def axis(op: str, value: int, rank: int, key: str = "axis") -> int:
    """An axis of a tensor of that rank, counted from 0."""
    require(0 <= value < rank, f"{op}: {key} {value} must be at least 0 and below the rank, {rank}")
    return value


def axes(op: str, attrs: Attrs, rank: int) -> tuple[int, ...]:
    """The attribute `axes`: at least one, rising, each of them in the tensor."""
    found = ints(op, attrs, "axes")
    ok = bool(found) and list(found) == sorted(set(found)) and found[0] >= 0 and found[-1] < rank
    require(ok, f"{op}: axes {found} must be rising, each at least 0 and below the rank, {rank}")
    return found


def lengths(values: Sequence[int]) -> str:
    """`8 x 8 x 1` for messages."""
    return " x ".join(map(str, values)) or "scalar"
