"""Types of values, and the attributes of nodes."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple, TypeAlias

Attribute = None | bool | int | float | str | tuple["Attribute", ...]
"""What a node's attribute may be: a Python literal without lists, so that it is hashable and its
`repr` parses back."""

DTYPE_BYTES: Mapping[str, int] = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint64": 8,
    "uint32": 4,
    "uint16": 2,
    "uint8": 1,
    "bool": 1,
}
FLOATS = ("float64", "float32", "float16", "bfloat16")


class TensorType(NamedTuple):
    """Shape (with the batch axis, where the value has one) and dtype: `float32[128,10]`."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * DTYPE_BYTES[self.dtype]

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        return TensorType(shape, self.dtype)

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    @staticmethod
    def parse(text: str) -> TensorType:
        """The inverse of `str`. Raises ValueError."""
        dtype, bracket, rest = text.partition("[")
        if not bracket or not rest.endswith("]") or dtype not in DTYPE_BYTES:
            raise ValueError(f"{text!r} is no tensor type such as float32[128,10]")
        shape = tuple(int(n) for n in rest[:-1].split(",")) if rest != "]" else ()
        if any(n < 0 for n in shape):
            raise ValueError(f"{text!r} has a negative length")
        return TensorType(shape, dtype)


Types = tuple[TensorType, ...]
Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Attributes = tuple[Attribute, ...]
_Int: TypeAlias = int
_Float: TypeAlias = float
_Key: TypeAlias = str


class Attrs(Mapping[str, Attribute]):
    """Frozen, hashable attributes with typed access.

    >>> Attrs(strides=(1, 1)).ints("strides")
    (1, 1)
    """

    __slots__ = ("_hash", "_items")

    def __init__(self, items: Mapping[str, Attribute] | None = None, /, **more: Attribute) -> None:
        merged: dict[str, Attribute] = {**(items or {}), **more}
        self._items = merged
        self._hash: int | None = None

    def __getitem__(self, key: str) -> Attribute:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._items.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Attrs) and self._items == other._items

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{k}={v!r}" for k, v in self._items.items()) + "}"

    def having(self, **more: Attribute) -> Attrs:
        """These attributes with some replaced or added."""
        return Attrs(self._items, **more)

    # Named as the types that they give, which they hide inside this class: hence `_Key` etc.

    def int(self, key: _Key) -> _Int:
        value = self._items[key]
        assert isinstance(value, int)
        return value

    def float(self, key: _Key) -> _Float:
        value = self._items[key]
        assert isinstance(value, int | float)
        return value

    def str(self, key: _Key) -> _Key:
        value = self._items[key]
        assert isinstance(value, str)
        return value

    def ints(self, key: _Key) -> Ints:
        value = self._items[key]
        assert isinstance(value, tuple)
        return value  # type: ignore[return-value]  # the op's own rule wrote it

    def pairs(self, key: _Key) -> Pairs:
        value = self._items[key]
        assert isinstance(value, tuple)
        return value  # type: ignore[return-value]  # the op's own rule wrote it

    def tuple(self, key: _Key) -> Attributes:
        value = self._items[key]
        assert isinstance(value, tuple)
        return value


NO_ATTRS = Attrs()


def parse_attribute(text: str) -> Attribute:
    """A Python literal as an attribute. Raises ValueError; evaluates no code."""
    value = _by_json(text)
    if value is not None:
        return value
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"{text!r} is no literal") from error
    return _checked(value)


_AS_JSON = str.maketrans("()'", '[]"')


def _by_json(text: str) -> Attribute:
    """Most literals are nearly JSON, which is read ten times as fast; None for one that is not
    exactly what `repr` writes."""
    try:
        value = _checked(_tuples(json.loads(text.replace(",)", ")").translate(_AS_JSON))))
    except (ValueError, RecursionError):
        return None
    return value if repr(value) == text else None


def _tuples(value: object) -> object:
    return tuple([_tuples(v) for v in value]) if isinstance(value, list) else value


def _checked(value: object) -> Attribute:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple):
        return tuple(_checked(v) for v in value)
    raise ValueError(f"{value!r} is no attribute (None, bool, int, float, str or a tuple of them)")
