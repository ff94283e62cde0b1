"""The user's own Python files: `FILE.py:function` is imported by path, and what goes wrong in it
is reported at the user's line, without a traceback."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

from dbgraph.errors import DbgraphError, NetworkError, UsageError
from dbgraph.source import Source
from dbgraph.suggest import did_you_mean

# In front of the file's own name, so that a network in `random.py` or `queue.py` does not take
# the place of the standard library's.
_PREFIX = "dbgraph_user_"


def load_function(
    spec: str, default: str = "network", error: type[DbgraphError] = NetworkError
) -> Callable[..., Any]:
    """The function that `FILE.py:function` names; `FILE.py` alone names `default`.

    The file is imported once per process and path. Modules beside it can be imported by it; where
    an installed package has the same name, that one is found first.

    Raises UsageError for a malformed spec or a missing file, `error` (with file:line of the
    innermost frame in the user's file) where the file does not import, has no such function or
    has something else of that name.
    """
    path, name = split_spec(spec, default)
    module = _import(path, error)
    found = getattr(module, name, None)
    if found is None:
        functions = [k for k, v in vars(module).items() if callable(v) and not k.startswith("_")]
        raise error(
            f"{path} has no function {name!r}",
            hint=did_you_mean(name, functions) or f"write `def {name}(): …`, or name another one",
        )
    if not callable(found):
        raise error(
            f"{path}: {name!r} is of type {type(found).__name__}, not a function",
            hint=f"wrap it: `def {name}(): return …`",
        )
    function: Callable[..., Any] = found
    return function


def split_spec(spec: str, default: str) -> tuple[str, str]:
    """`("FILE.py", "function")` of `FILE.py:function` or `FILE.py`. Raises UsageError."""
    path, colon, name = spec.rpartition(":")
    if not colon or spec.endswith(".py"):
        path, name = spec, default
    if not path.endswith(".py") or not name.isidentifier():
        raise UsageError(f"{spec!r} is not of the form FILE.py:function")
    if not os.path.isfile(path):
        raise UsageError(f"there is no file {path!r}", hint=_neighbour(path))
    return path, name


def call(function: Callable[..., Any], *args: Any, error: type[DbgraphError] = NetworkError) -> Any:
    """Calls the user's function; what it raises becomes `error` at the user's line.

    dbgraph's own errors pass through: they know their line already.
    """
    try:
        return function(*args)
    except DbgraphError:
        raise
    except (Exception, SystemExit) as problem:
        code = getattr(function, "__code__", None)
        at = _line_in(problem, code.co_filename if code else "")
        if at is None and code is not None:
            at = Source(_short(code.co_filename), code.co_firstlineno)
        name = getattr(function, "__name__", repr(function))
        raise error(f"{name}() raised {_described(problem)}", at=at) from problem


def _import(path: str, error: type[DbgraphError]) -> ModuleType:
    full = os.path.abspath(path)
    name = _PREFIX + os.path.splitext(os.path.basename(full))[0]
    known = sys.modules.get(name)
    if known is not None and known.__file__ == full:
        return known
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    if os.path.dirname(full) not in sys.path:
        sys.path.append(os.path.dirname(full))
    sys.modules[name] = module  # dataclasses and typing look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException as problem:
        del sys.modules[name]
        if isinstance(problem, DbgraphError | KeyboardInterrupt):
            raise
        at = _line_in(problem, full) or Source(_short(full), 1)
        raise error(f"the file does not import: {_described(problem)}", at=at) from problem
    _ship_by_value(module)
    return module


def _ship_by_value(module: ModuleType) -> None:
    """Another process can't import the file by the name that it has here."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)


def _line_in(problem: BaseException, path: str) -> Source | None:
    """The innermost line in the user's file; for a syntax error the line that does not parse."""
    if isinstance(problem, SyntaxError) and problem.filename:
        return Source(_short(problem.filename), problem.lineno or 1)
    found = None
    trace: TracebackType | None = problem.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            found = Source(_short(path), trace.tb_lineno)
        trace = trace.tb_next
    return found


def _described(problem: BaseException) -> str:
    text = problem.msg if isinstance(problem, SyntaxError) else str(problem)
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


def _short(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _neighbour(path: str) -> str:
    """A file of nearly that name in the same folder."""
    folder, name = os.path.split(path)
    try:
        files = os.listdir(folder or ".")
    except OSError:
        return f"there is no folder {folder!r} either" if folder else ""
    return did_you_mean(name, [f for f in files if f.endswith(".py")])
