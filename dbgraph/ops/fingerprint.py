"""A short name for what a user's function does, so that another one is not taken for it."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType

_DEEPEST = 8
"""Objects in objects in objects: what lies deeper is not looked at."""


def fingerprint(fn: Callable[..., object]) -> str:
    """Sixteen hexadecimal digits that change with the function.

    With its source, indentation aside; the defaults of its arguments; the values that it closes
    over, arrays among them. Functions that it calls by a module's name, and variables of its
    module, are not part of it. A lambda and a function inside a function can't be imported by
    name, and two may share a line: there the byte code counts too, which another version of
    Python may compile otherwise.
    """
    digest = hashlib.sha256()
    for part in _Parts().of(fn, 0):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:16]


class _Parts:
    """What tells a value from others, piece by piece; each object once."""

    def __init__(self) -> None:
        self._seen: dict[int, object] = {}  # kept alive, so that no id is given out again

    def of(self, value: object, depth: int) -> Iterator[bytes]:
        yield type(value).__qualname__.encode()
        if value is None or isinstance(value, bool | int | float | complex | str | bytes):
            yield repr(value).encode()
        elif isinstance(value, type | ModuleType):
            yield value.__name__.encode()
        elif hasattr(value, "__array__"):
            yield from _array_parts(value)
        elif id(value) not in self._seen and depth < _DEEPEST:
            self._seen[id(value)] = value
            yield from self._of_object(value, depth)

    def _of_all(self, values: Iterable[object], depth: int) -> Iterator[bytes]:
        for value in values:
            yield from self.of(value, depth + 1)

    def _of_object(self, value: object, depth: int) -> Iterator[bytes]:
        if isinstance(value, CodeType):
            parts = (value.co_code, value.co_names, *value.co_consts)
            yield from self._of_all(parts, depth)
        elif isinstance(value, dict):
            yield from self._of_all(value.items(), depth)
        elif isinstance(value, set | frozenset):
            yield repr(sorted(map(repr, value))).encode()
        elif isinstance(value, tuple | list):
            yield from self._of_all(value, depth)
        elif isinstance(value, FunctionType):
            yield from self._of_function(value, depth)
        elif isinstance(value, MethodType):
            yield from self._of_all((value.__func__, value.__self__), depth)
        elif isinstance(value, partial):
            yield from self._of_all((value.func, value.args, value.keywords), depth)
        else:  # a built-in by its name, jax.jit's by what it wraps, others by class and state
            yield str(getattr(value, "__qualname__", "")).encode()
            yield _source(type(value)) or b""
            state = (getattr(value, "__wrapped__", None), getattr(value, "__dict__", None))
            yield from self._of_all(state, depth)

    def _of_function(self, fn: FunctionType, depth: int) -> Iterator[bytes]:
        source = _source(fn)
        yield source or b""
        if source is None or "<" in fn.__qualname__:
            yield from self.of(fn.__code__, depth + 1)
        yield from self._of_all((fn.__defaults__, fn.__kwdefaults__), depth)
        for cell in fn.__closure__ or ():
            try:
                yield from self.of(cell.cell_contents, depth + 1)
            except ValueError:  # a name that is not bound yet
                yield b"unbound"


def _array_parts(value: object) -> Iterator[bytes]:
    import numpy as np  # the command line need not load it for this

    array = np.asarray(value)
    yield f"{array.dtype}{array.shape}".encode()
    yield array.tobytes()


def _source(thing: Callable[..., object]) -> bytes | None:
    try:
        return textwrap.dedent(inspect.getsource(thing)).strip().encode()
    except (OSError, TypeError):
        return None
