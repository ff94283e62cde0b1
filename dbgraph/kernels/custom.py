"""The user's own functions, found when the plan runs.

A plan names a function by (module, name, fingerprint). `FUNCTIONS` holds those that were
declared in this process, or handed over by the driver; others are imported by their module, or
from their file, and taken only if their fingerprint is the plan's.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp

from dbgraph.errors import RunError
from dbgraph.ir.types import Attrs
from dbgraph.ops.custom import FUNCTIONS
from dbgraph.ops.fingerprint import fingerprint

Key = tuple[str, str, str]
"""Module, qualified name, fingerprint."""
Function = Callable[..., jax.Array]


def key_of(attrs: Attrs) -> Key:
    """The name of the function of a node `custom`."""
    return attrs.str("module"), attrs.str("name"), attrs.str("fingerprint")


def register(key: Key, fn: Function) -> None:
    """Hands over a function, so that it need not be imported."""
    FUNCTIONS[key] = fn


def resolve(attrs: Attrs) -> Function:
    """The user's function. Raises RunError where it is not found, or is not the plan's."""
    key = key_of(attrs)
    if key not in FUNCTIONS:
        FUNCTIONS[key] = _imported(key, str(attrs.get("file") or ""))
    fn: Function = FUNCTIONS[key]
    return fn


def _imported(key: Key, file: str) -> Function:
    module, name, expected = key
    found = _member(_module(module, name, file), key)
    marks = []
    # Decorators leave something else under the name: `dbg.op` its layer, `jax.jit` its own kind.
    while found is not None:
        if callable(found):
            marks.append(fingerprint(found))
            if marks[-1] == expected:
                return found
        found = getattr(found, "__wrapped__", None)
    raise RunError(
        f"the function {module}.{name} has changed since the plan was made: "
        f"its fingerprint is {marks[-1]}, the plan's is {expected}",
        hint="compile the plan again",
    )


def _member(module: ModuleType, key: Key) -> object:
    found: object = module
    for part in key[1].split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise RunError(
            f"the plan's function {key[0]}.{key[1]} is not in {module.__file__ or key[0]}",
            hint="define it at the top level of the file, or hand it over: "
            "dbgraph.kernels.custom.register(key, fn)",
        )
    return found


def _module(module: str, name: str, file: str) -> ModuleType:
    """The module by its name, else by its file."""
    if module != "__main__":
        try:
            return importlib.import_module(module)
        except ImportError as error:
            if not file:
                raise _missing(module, name, f"module {module} does not import: {error}") from error
    if file:
        return _from_file(module, name, Path(file))
    return sys.modules["__main__"]


def _from_file(module: str, name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_dbgraph_user_{file.stem}", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise _missing(module, name, f"there is no file {file}")
    loaded = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(loaded)
    except Exception as error:  # whatever the user's file raises
        raise _missing(module, name, f"{file} does not import: {error}") from error
    return loaded


def _missing(module: str, name: str, why: str) -> RunError:
    return RunError(
        f"the plan's function {module}.{name} is not found: {why}",
        hint="start where the module is importable, or hand the function over: "
        "dbgraph.kernels.custom.register(key, fn)",
    )


def custom(attrs: Attrs, *inputs: jax.Array) -> jax.Array:
    """The user's function of the inputs, held to the dtype and the rank that were declared."""
    result = jnp.asarray(resolve(attrs)(*inputs))
    rank, dtype = len(attrs.ints("shape")), attrs.str("dtype")
    if result.dtype != dtype or result.ndim != rank:
        raise RunError(
            f"the function {attrs.str('name')} gave {result.dtype} of rank {result.ndim}; "
            f"it was declared with {dtype} of rank {rank}"
        )
    return result
