"""A checkpoint's manifest: what the model is, and where each region of each tensor stands."""

from __future__ import annotations

import msgspec
import numpy as np
import xxhash

from dbgraph.errors import CheckpointError
from dbgraph.ir.region import Region, covers
from dbgraph.state import State

FORMAT = 1


class Sampler(msgspec.Struct, frozen=True):
    """Where training stands in its data: `Batches(length, batch, seed)` at `step`."""

    length: int
    batch: int
    seed: int
    step: int


class Meta(msgspec.Struct, frozen=True):
    """What a checkpoint says of its model beside the numbers.

    Attributes:
        network, fingerprint: of the network that was trained.
        step: number of steps done; `save` sets it from the state.
        seed: of the network.
        rule: `str(Rule)`, or "".
        partitions: of the plan; it can be resumed on any other number.
        metrics: as they were when it was saved; null where not finite.
        time: when it was saved, ISO 8601, UTC; `save` sets it.
    """

    network: str = ""
    fingerprint: str = ""
    step: int = 0
    seed: int = 0
    rule: str = ""
    partitions: int = 1
    sampler: Sampler | None = None
    metrics: dict[str, float | None] = {}
    time: str = ""


class Tensor(msgspec.Struct, frozen=True):
    """One slot of one parameter: its whole shape, and the name in the file of each region."""

    slot: str
    parameter: str
    dtype: str
    shape: tuple[int, ...]
    regions: dict[str, str]


class File(msgspec.Struct, frozen=True):
    bytes: int
    xxh3_128: str


class Manifest(msgspec.Struct, frozen=True):
    format: int
    meta: Meta
    tensors: tuple[Tensor, ...]
    scalars: dict[str, str]
    files: dict[str, File]
    checksum: str = ""


def tables(state: State) -> tuple[tuple[Tensor, ...], dict[str, str], dict[str, np.ndarray]]:
    """(tensors, scalars, arrays by their name in the file) of a state.

    Raises CheckpointError where the pieces of a tensor overlap or leave gaps.
    """
    found: list[Tensor] = []
    arrays: dict[str, np.ndarray] = {}
    for (slot, parameter), pieces in state.tensors.items():
        if not pieces:
            continue
        hull = Region.whole(tuple(b for _, b in _hull([box for box, _ in pieces]).bounds))
        if sum(box.size for box, _ in pieces) != hull.size or not covers(
            hull, (box for box, _ in pieces)
        ):
            held = "; ".join(str(box) for box, _ in pieces[:4])
            raise CheckpointError(f"{parameter!r} {slot}: [{held}] is no tiling of [{hull}]")
        regions: dict[str, str] = {}
        for box, array in pieces:
            name = f"{slot}:{parameter}[{box}]" if slot else f"{parameter}[{box}]"
            regions[str(box)] = name
            arrays[name] = array
        found.append(Tensor(slot, parameter, str(pieces[0][1].dtype), hull.shape, regions))
    scalars = {path: f"scalar:{path}" for path in state.scalars}
    arrays.update({f"scalar:{path}": np.asarray(v) for path, v in state.scalars.items()})
    return tuple(found), scalars, arrays


def _hull(boxes: list[Region]) -> Region:
    hull = boxes[0]
    for box in boxes:
        hull = hull.hull(box)
    return hull


def assemble(manifest: Manifest, arrays: dict[str, np.ndarray]) -> State:
    """The state; the inverse of `tables`. Raises KeyError or ValueError where the manifest and
    the file do not agree."""
    tensors = {}
    for tensor in manifest.tensors:
        pieces = tuple((Region.parse(box), arrays[n]) for box, n in tensor.regions.items())
        for box, array in pieces:
            if box.shape != array.shape or str(array.dtype) != tensor.dtype:
                raise ValueError(f"[{box}] of {tensor.parameter!r} is {array.dtype}{array.shape}")
        tensors[tensor.slot, tensor.parameter] = pieces
    scalars = {path: arrays[name] for path, name in manifest.scalars.items()}
    return State(manifest.meta.step, tensors, scalars)


def to_text(manifest: Manifest) -> bytes:
    """JSON for people and programs, with the checksum of its content."""
    sealed = msgspec.structs.replace(manifest, checksum=_checksum(manifest))
    return msgspec.json.format(msgspec.json.encode(sealed), indent=1) + b"\n"


def from_text(text: bytes) -> Manifest:
    """The inverse of `to_text`. Raises ValueError saying what is wrong."""
    try:
        version = msgspec.json.decode(text, type=_Versioned).format
        if version != FORMAT:
            raise ValueError(f"it has format {version}, this dbgraph reads format {FORMAT}")
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"its manifest is truncated or corrupted: {error}") from error
    if manifest.checksum != _checksum(manifest):
        raise ValueError("its manifest was changed or corrupted: the checksum differs")
    return manifest


class _Versioned(msgspec.Struct):
    format: int


def _checksum(manifest: Manifest) -> str:
    plain = msgspec.structs.replace(manifest, checksum="")
    return str(xxhash.xxh3_128_hexdigest(msgspec.json.encode(plain)))
