"""Checkpoints: the whole model on disk, written so that a crash leaves the old ones intact.

    DIR/step-00000120/manifest.json        what it is; regions; checksums
    DIR/step-00000120/tensors.safetensors  the numbers, by slot, parameter and region
    DIR/latest                             the name of the newest
    DIR/best                               the name of the best one, where there is one

A checkpoint is written into a folder beside its place, made durable, and renamed into it. It is
keyed by parameter, slot and region, so a run saved on 4 partitions resumes on 1 or 8.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from dbgraph import manifest as manifests
from dbgraph.errors import CheckpointError
from dbgraph.ir.types import TensorType
from dbgraph.manifest import File, Manifest, Meta, Sampler
from dbgraph.state import State
from dbgraph.tensorfile import read_tensors, write_tensors

__all__ = ["Meta", "Sampler", "best", "latest", "load", "save"]

_MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"
_STEP = re.compile(r"step-(\d{8,})(\.\d+)?")
_UNFINISHED = ".unfinished-"


def save(folder: str, state: State, meta: Meta, *, keep: int = 3, best: bool = False) -> str:
    """Writes one checkpoint and returns its folder.

    Args:
        folder: DIR above; made where it is missing.
        meta: its step and time are set here.
        keep: how many of the newest stay; the best one stays besides.
        best: whether this is the best one so far.

    Raises CheckpointError where it can't be written; the ones before are intact then, and
    nothing unfinished is left.
    """
    step = f"step-{state.step:08d}"
    unfinished = os.path.join(folder, f"{_UNFINISHED}{step}")
    try:
        os.makedirs(folder, exist_ok=True)
        _remove_unfinished(folder)
        os.mkdir(unfinished)
        _write(unfinished, state, _completed(meta, state.step))
        name = _free_name(folder, step)
        os.rename(unfinished, os.path.join(folder, name))
        _sync_folder(folder)
        _point(folder, "latest", name)
        if best:
            _point(folder, "best", name)
        _prune(folder, step, keep)
    except OSError as error:
        raise CheckpointError(_refusal(folder, error), hint=_remedy(folder, error)) from error
    except ValueError as error:
        raise CheckpointError(f"can't save step {state.step}: {error}") from error
    finally:
        _remove_unfinished(folder)
    return os.path.join(folder, name)


def _completed(meta: Meta, step: int) -> Meta:
    finite = {k: v if v is not None and math.isfinite(v) else None for k, v in meta.metrics.items()}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return msgspec.structs.replace(meta, step=step, metrics=finite, time=now)


def _write(folder: str, state: State, meta: Meta) -> None:
    tensors, scalars, arrays = manifests.tables(state)
    path = os.path.join(folder, _TENSORS)
    checksum = write_tensors(path, arrays)
    files = {_TENSORS: File(os.path.getsize(path), checksum)}
    manifest = Manifest(manifests.FORMAT, meta, tensors, scalars, files)
    _write_durably(os.path.join(folder, _MANIFEST), manifests.to_text(manifest))
    _sync_folder(folder)


def _write_durably(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: str) -> None:
    """Makes names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _free_name(folder: str, step: str) -> str:
    """A step that is saved again stands beside its older self until `latest` points to it: a
    folder can't be renamed onto another."""
    names = (step, *(f"{step}.{n}" for n in range(2, 1000)))
    return next(name for name in names if not os.path.lexists(os.path.join(folder, name)))


def _point(folder: str, pointer: str, name: str) -> None:
    unfinished = os.path.join(folder, f"{_UNFINISHED}{pointer}")
    _write_durably(unfinished, f"{name}\n".encode())
    os.replace(unfinished, os.path.join(folder, pointer))
    _sync_folder(folder)


def _remove_unfinished(folder: str) -> None:
    """What a run that was killed while saving has left, or this one."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if name.startswith(_UNFINISHED):
            with suppress(OSError):
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)


def _prune(folder: str, step: str, keep: int) -> None:
    """By the time of writing, not by step: a run that was set back writes smaller steps anew."""
    kept = {_pointed(folder, "latest"), _pointed(folder, "best")}
    names = _by_time(folder)
    replaced = [name for name in names if name.partition(".")[0] == step]
    for name in dict.fromkeys((*replaced, *names[max(keep, 1) :])):
        if name not in kept:
            shutil.rmtree(os.path.join(folder, name))


def _by_time(folder: str) -> list[str]:
    """The names of complete checkpoints, the newest first."""
    found = []
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name, _MANIFEST)
        if _STEP.fullmatch(name) and os.path.isfile(path):
            found.append((os.stat(path).st_mtime_ns, name))
    return [name for _, name in sorted(found, reverse=True)]


def _pointed(folder: str, pointer: str) -> str | None:
    try:
        with open(os.path.join(folder, pointer), encoding="utf-8") as file:
            name = file.read().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return name if _STEP.fullmatch(name) else None


def latest(folder: str) -> str | None:
    """The newest complete checkpoint's folder, or None."""
    name = _pointed(folder, "latest")
    names = _by_time(folder)
    if name in names:
        return os.path.join(folder, name)
    return os.path.join(folder, names[0]) if names else None


def best(folder: str) -> str | None:
    """The best checkpoint's folder, or None."""
    name = _pointed(folder, "best")
    return os.path.join(folder, name) if name and name in _by_time(folder) else None


def load(
    path: str,
    parameter_types: Mapping[str, TensorType] | None = None,
    fingerprint: str | None = None,
) -> tuple[State, Meta]:
    """Reads a checkpoint.

    Args:
        path: one checkpoint's folder, or the folder of several: then the newest.
        parameter_types: what the network at hand has (`Plan.parameter_types`).
        fingerprint: of the network at hand; None takes one of another network whose parameters
            fit.

    Raises CheckpointError: missing, truncated, corrupted, of an unknown version, of another
    network, parameters of other shapes.
    """
    place = path
    try:
        if not os.path.isfile(os.path.join(path, _MANIFEST)):
            place = latest(path) or path
        manifest = _read_manifest(place)
        _check_network(place, manifest, parameter_types, fingerprint)
        return _read_state(place, manifest), manifest.meta
    except FileNotFoundError as error:
        raise CheckpointError(
            f"there is no checkpoint in {place!r}: no file {os.path.basename(error.filename)}",
            hint=_others(place),
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"the checkpoint {place!r} can't be used: {error}", hint=_others(place)
        ) from error


def _read_manifest(place: str) -> Manifest:
    with open(os.path.join(place, _MANIFEST), "rb") as file:
        return manifests.from_text(file.read())


def _read_state(place: str, manifest: Manifest) -> State:
    path = os.path.join(place, _TENSORS)
    file = manifest.files[_TENSORS]
    size = os.path.getsize(path)
    if size != file.bytes:
        raise ValueError(f"{_TENSORS} has {size} bytes, the manifest says {file.bytes}")
    try:
        return manifests.assemble(manifest, read_tensors(path, file.xxh3_128))
    except ValueError as error:
        raise ValueError(f"{_TENSORS}: {error}") from error


def _check_network(
    place: str,
    manifest: Manifest,
    parameter_types: Mapping[str, TensorType] | None,
    fingerprint: str | None,
) -> None:
    """Raises CheckpointError that says what differs."""
    meta = manifest.meta
    different = _differences(manifest, parameter_types) if parameter_types is not None else []
    if different:
        raise CheckpointError(
            f"the checkpoint {place!r} does not fit the network: " + "; ".join(different[:5])
        )
    if fingerprint is not None and fingerprint != meta.fingerprint:
        raise CheckpointError(
            f"the checkpoint {place!r} is of another network ({meta.network!r}, fingerprint "
            f"{meta.fingerprint}, not {fingerprint})",
            hint="its parameters fit, but layers, losses or options were changed since"
            if parameter_types is not None
            else "",
        )


def _differences(manifest: Manifest, types: Mapping[str, TensorType]) -> list[str]:
    held = {t.parameter: TensorType(t.shape, t.dtype) for t in manifest.tensors if t.slot == ""}
    missing = [f"it has no parameter {name!r}" for name in types if name not in held]
    extra = [f"the network has no parameter {name!r}" for name in held if name not in types]
    other = [
        f"parameter {name!r} is {held[name]} there, {wanted} in the network"
        for name, wanted in types.items()
        if name in held and held[name] != wanted
    ]
    return other + missing + extra


def _others(place: str) -> str:
    """A hint at older checkpoints beside a broken one."""
    folder, name = os.path.split(os.path.normpath(place))
    rest: list[str] = []
    with suppress(OSError):
        rest = [other for other in _by_time(folder or ".") if other != name]
    return f"another one is there: {os.path.join(folder, rest[0])}" if rest else ""


def _refusal(folder: str, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"can't save a checkpoint in {folder!r}: the disk is full"
    return f"can't save a checkpoint in {folder!r}: {error.strerror or error}"


def _remedy(folder: str, error: OSError) -> str:
    place = latest(folder)
    return f"the last good one is intact: {place}" if place else ""
