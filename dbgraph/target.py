"""Where results are to be written: looked at before any work is done for them."""

from __future__ import annotations

import os

from dbgraph.errors import UsageError

Target = str | os.PathLike[str]


def check_file(path: Target, in_new_folder: bool = False) -> None:
    """Whether a file can be made there, or the one that is there replaced. Raises UsageError.

    Args:
        in_new_folder: whether the folders above it will be made.
    """
    target, folder = os.path.realpath(path), os.path.dirname(path) or "."
    if os.path.isdir(target):
        raise UsageError(f"{_cannot(path)}: it is a folder", hint="name a file in it")
    if in_new_folder and not os.path.isdir(folder):
        check_folder(folder)
        return
    if not os.path.isdir(folder):
        rule = f"{_cannot(path)}: there is no folder {os.fspath(folder)!r}"
        raise UsageError(rule, hint="make it, or name another one")
    if os.path.exists(target) and not os.path.isfile(target):
        return  # a device, or a pipe
    _try(path, os.path.dirname(target), f".{os.path.basename(target)}.")


def check_folder(path: Target) -> None:
    """Whether a folder can be made there, with those above it, or written into.

    Raises UsageError.
    """
    there = os.path.realpath(path)
    while not os.path.exists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise UsageError(f"{_cannot(path)}: {there!r} is a file", hint="name a folder")
    _try(path, there, ".")


def _cannot(path: Target) -> str:
    return f"can't write {os.fspath(path)!r}"


def _try(path: Target, folder: str, prefix: str) -> None:
    """The file system alone knows."""
    from tempfile import NamedTemporaryFile

    try:
        NamedTemporaryFile(prefix=prefix, dir=folder).close()
    except OSError as error:
        hint = f"may this user write in {folder!r}?"
        raise UsageError(f"{_cannot(path)}: {error.strerror or error}", hint=hint) from None
