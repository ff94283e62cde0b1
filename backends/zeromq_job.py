"""What travels of a job and of a state: plans as their text, the rule as msgpack, arrays raw.

cloudpickle ships the user's own functions (custom ops, data sources) and nothing else, and only
over a line whose both ends have proved that they hold the job's key.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np

from dbgraph.datasource import ArraySource, NpySource, Source
from dbgraph.errors import DataError
from dbgraph.ir.region import Region
from dbgraph.job import Job
from dbgraph.ops.custom import FUNCTIONS
from dbgraph.optim.rules import Rule
from dbgraph.plan.plan import Plan
from dbgraph.plan.text import parse_plan, print_plan
from dbgraph.state import Pieces, State
from dbgraph.wire.messages import Box

Blobs = dict[str, bytes]


def pack(job: Job, sources: Mapping[str, Source]) -> Blobs:
    """The job as named bytes; `sources` are those that the workers open themselves."""
    blobs = {f"plan:{name}": print_plan(plan).encode() for name, plan in job.plans.items()}
    if job.rule is not None:
        blobs["rule"] = msgspec.msgpack.encode(job.rule)
    functions = _functions(job.plans.values())
    if functions or sources:
        blobs["user"] = _pickled(functions, dict(sources))
    return blobs


def unpack(blobs: Mapping[str, bytes]) -> Job:
    """The inverse of `pack`; registers the user's functions."""
    plans = {
        name.removeprefix("plan:"): parse_plan(blob.decode())
        for name, blob in blobs.items()
        if name.startswith("plan:")
    }
    rule = msgspec.msgpack.decode(blobs["rule"], type=Rule) if "rule" in blobs else None
    sources: Mapping[str, Source] = {}
    if "user" in blobs:
        import cloudpickle

        functions, sources = cloudpickle.loads(blobs["user"])
        register_functions(functions)
    return Job(plans, rule, sources)


def register_functions(functions: Mapping[tuple[str, str, str], Any]) -> None:
    """So that the plans that name them can run here."""
    if functions:
        from dbgraph.kernels.custom import register  # loads jax

        for key, function in functions.items():
            register(key, function)


def _functions(plans: Iterable[Plan]) -> dict[tuple[str, str, str], Any]:
    """The user's functions that the plans name and this process knows; a worker looks for the
    others itself."""
    found = {}
    for plan in plans:
        for node in plan.graph:
            if node.op == "custom" or node.attrs.get("vjp_of") == "custom":
                key = (
                    node.attrs.str("module"),
                    node.attrs.str("name"),
                    node.attrs.str("fingerprint"),
                )
                if key in FUNCTIONS:
                    found[key] = FUNCTIONS[key]
    return found


def _pickled(functions: dict[tuple[str, str, str], Any], sources: dict[str, Source]) -> bytes:
    import cloudpickle

    owners: list[Any] = [*functions.values(), *(type(s) for s in sources.values())]
    owners += [s.make for s in sources.values() if hasattr(s, "make")]
    with shipped_by_value(sys.modules.get(getattr(owner, "__module__", "")) for owner in owners):
        try:
            return bytes(cloudpickle.dumps((functions, sources)))
        except Exception as error:  # whatever the user's objects raise
            raise DataError(
                f"a data source or a custom op can't be sent to the workers: {error}",
                hint="files, sockets and locks can't travel; open them inside a function that "
                "makes the source",
            ) from error


@contextmanager
def shipped_by_value(modules: Iterable[ModuleType | None]) -> Iterator[None]:
    """Ships those that are the user's own by value: another process may not find them by name."""
    import cloudpickle

    known = cloudpickle.list_registry_pickle_by_value()
    mine = [m for m in set(modules) if m is not None and _is_users(m) and m.__name__ not in known]
    for module in mine:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in mine:
            cloudpickle.unregister_pickle_by_value(module)


def _is_users(module: ModuleType) -> bool:
    """Neither installed nor part of Python or dbgraph."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__ in ("__main__", "__mp_main__"):
        return False
    ours = module.__name__.split(".")[0] == "dbgraph"
    parts = Path(file).parts
    return not ours and "site-packages" not in parts and not file.startswith(sys.base_prefix)


def save_arrays(source: Source, folder: Path, name: str) -> Source:
    """A source in memory as files that workers on this host map; another source as it is.

    Raises DataError where the disk is full.
    """
    if not isinstance(source, ArraySource) or any(
        a.dtype.kind == "V" for a in source.arrays.values()
    ):
        return source
    paths = {}
    for index, (key, array) in enumerate(source.arrays.items()):
        paths[key] = folder / f"{name}-{index}.npy"
        try:
            np.save(paths[key], array, allow_pickle=False)
        except OSError as error:
            rule = f"the data can't be put where the workers read it, {folder}: {error.strerror}"
            raise DataError(rule, hint="set TMPDIR to a place with room") from error
        except ValueError as error:
            raise DataError(f"{key!r} can't be given to workers: {error}") from error
    return NpySource(paths)


# --- states ---


def state_out(state: State) -> tuple[tuple[Box, ...], tuple[str, ...], list[np.ndarray]]:
    """(boxes, names of the scalars, arrays: of the boxes, then the scalars)."""
    boxes, arrays = [], []
    for (slot, parameter), pieces in state.tensors.items():
        for region, array in pieces:
            boxes.append(Box(parameter, region.bounds, slot))
            arrays.append(np.asarray(array))
    arrays += [np.asarray(value) for value in state.scalars.values()]
    return tuple(boxes), tuple(state.scalars), arrays


def state_in(
    step: int, boxes: Sequence[Box], scalars: Sequence[str], arrays: Sequence[np.ndarray]
) -> State:
    """The inverse of `state_out`."""
    tensors: dict[tuple[str, str], Pieces] = {}
    for box, array in zip(boxes, arrays, strict=False):
        key = (box.slot, box.name)
        tensors[key] = (*tensors.get(key, ()), (Region(box.bounds), array))
    values = dict(zip(scalars, arrays[len(boxes) :], strict=True))
    return State(step, tensors, values)


def share_of(state: State, plans: Iterable[Plan], partition: int) -> State:
    """What one partition reads of a state. Raises CheckpointError where something is missing."""
    leaves = dict.fromkeys(
        (leaf.of, leaf.region) for plan in plans for leaf in plan.leaves("parameter", partition)
    )
    tensors: dict[tuple[str, str], Pieces] = {}
    for slot, parameter in state.tensors:
        for of, region in leaves:
            if of == parameter:
                piece = (region, state.region(parameter, region, slot))
                tensors[slot, parameter] = (*tensors.get((slot, parameter), ()), piece)
    for of, region in leaves:
        if ("", of) not in state.tensors:
            state.region(of, region)  # raises, naming it
    return State(state.step, tensors, state.scalars)
