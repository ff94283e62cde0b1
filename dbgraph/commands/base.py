"""What the commands share: reading networks and plans, writing files, speaking."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeVar

import click

from dbgraph.errors import DbgraphError, NetworkError, PlanError, RunError, UsageError
from dbgraph.target import check_file, check_folder

if TYPE_CHECKING:
    from dbgraph.dsl.network import Network
    from dbgraph.plan.plan import Plan

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FULL = (errno.ENOSPC, errno.EDQUOT)

STDOUT = "-"


def file_to_write(path: str) -> str:
    """The type of such an option: whether it can be written is said before any work is done."""
    if path != STDOUT:
        check_file(path)
    return path


def log_to_write(path: str) -> str:
    """As `file_to_write`; the folders above it are made."""
    check_file(path, in_new_folder=True)
    return path


def folder_to_write(path: str) -> str:
    """As `file_to_write`, of a folder."""
    check_folder(path)
    return path


def output_option(*names: str, metavar: str = "FILE", help: str) -> Callable[[_Command], _Command]:
    """The option of a file to write; by default it is -o."""
    return click.option(
        *(names or ("-o", "--output")), type=file_to_write, metavar=metavar, help=help
    )


PLAN = click.argument("plan_file", metavar="PLAN")
NETWORK = click.argument("spec", metavar="FILE.py[:FUNCTION]")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
TRACE = output_option(
    "--trace", help="Write what every process does and when; ui.perfetto.dev shows it."
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def story(text: str) -> None:
    """A line for people, beside the result."""
    click.echo(f"dbgraph: {text}", err=True)


def warn(text: str) -> None:
    """A line that people should not miss."""
    story(f"{click.style('warning:', fg='yellow', bold=True)} {text}")


def print_json(value: Any) -> None:
    """A result for programs."""
    import json

    click.echo(json.dumps(value, indent=2, allow_nan=False))


def load_network(spec: str) -> Network:
    """The network that a user's function returns. What it prints goes to stderr.

    Raises UsageError, NetworkError.
    """
    from dbgraph.dsl.network import Network
    from dbgraph.userfile import call, load_function

    with redirect_stdout(sys.stderr):
        function = load_function(spec)
        found = call(function)
    if isinstance(found, Network):
        return found
    name = getattr(function, "__name__", spec)
    hint = f"end {name} with `return net`" if found is None else ""
    kind = "None" if found is None else type(found).__name__
    raise NetworkError(f"{spec}: {name}() returned {kind}, not a dbg.Network", hint=hint)


def load_plan(path: str, *, anew: bool = False) -> Plan:
    """A plan whose file keeps all rules. Raises UsageError where there is none, PlanError.

    Args:
        anew: whether one is verified that is sealed, too.
    """
    from dbgraph.plan.seal import is_sealed
    from dbgraph.plan.verify import verify_plan

    plan = read_plan(path)
    if not anew and is_sealed(path):
        return plan
    try:
        verify_plan(plan)
    except DbgraphError as error:
        hint = (
            f"a page marks where: dbgraph show {path} --open\n  "
            f"if it was edited, make it anew: dbgraph compile --from {path} -o {path}"
        )
        raise PlanError(f"{path}: {error.rule}", at=error.at, hint=error.hint or hint) from error
    return plan


def read_plan(path: str, *, broken: bool = False) -> Plan:
    """A plan that may break rules. Raises UsageError where there is none, PlanError where it can't
    be read.

    Args:
        broken: whether its cuts may be others than those that it was made of, too.
    """
    from dbgraph.plan.text import open_plan

    if not os.path.exists(path):
        hint = "make one with: dbgraph compile FILE.py --partitions N -o PLAN"
        raise UsageError(f"there is no file {path!r}", hint=hint)
    if os.path.isdir(path):
        raise UsageError(f"{path!r} is a folder, and no plan", hint="name a file in it")
    if path.endswith(".pftrace"):
        hint = f"look at it: dbgraph show {path} --open"
        raise UsageError(f"{path!r} is the trace of a run, and no plan", hint=hint)
    if path.endswith(".py"):
        hint = f"make one of it: dbgraph compile {path} --partitions N -o PLAN"
        raise UsageError(f"{path!r} is no plan", hint=hint)
    return open_plan(path, edited=broken)


def write_file(path: str, content: str | bytes | Iterable[str]) -> None:
    """Writes a file whole or not at all; a device or a pipe directly. Raises RunError.

    Args:
        content: or its pieces, one after another.
    """
    pieces = [content] if isinstance(content, str | bytes) else content
    data = (piece.encode() if isinstance(piece, str) else piece for piece in pieces)
    with explained(path):
        target = os.path.realpath(path)
        if os.path.exists(target) and not os.path.isfile(target):
            with open(target, "wb") as file:
                file.writelines(data)
            return
        partial = os.path.join(
            os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}"
        )
        try:
            with open(partial, "wb") as file:
                file.writelines(data)
            os.replace(partial, target)
        finally:
            if os.path.exists(partial):
                os.remove(partial)


@contextmanager
def no_garbage() -> Iterator[None]:
    """Python's collector of cycles stands still. A plan is millions of objects and none is in a
    cycle; the collector would walk over all of them again and again, for a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def explained(path: str) -> Iterator[None]:
    """An OSError of writing as a RunError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise RunError(
                f"can't write {path!r}: the disk is full", hint="nothing was changed there"
            ) from error
        raise RunError(f"can't write {path!r}: {error.strerror or error}") from error


def write_or_print(text: str, path: str | None, quiet: bool = False) -> None:
    """A result: into a file where one is given, else to stdout."""
    if path is None:
        click.echo(text.rstrip("\n"))
        return
    write_file(path, text)
    if not quiet:
        story(f"wrote {path}")
