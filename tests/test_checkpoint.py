"""Checkpoints: what is saved is loaded, and every way in which one can be broken is told."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph import checkpoint, tensorfile
from dbgraph.checkpoint import Meta, Sampler, best, latest, load, save
from dbgraph.errors import CheckpointError
from dbgraph.ir.region import Region, even_splits, grid
from dbgraph.ir.types import DTYPE_BYTES, TensorType
from dbgraph.state import State

META = Meta(network="digits", fingerprint="abc", rule="momentum", sampler=Sampler(90, 9, 0, 3))
TYPES = {"d/weights": TensorType((6, 4)), "d/biases": TensorType((4,)), "s": TensorType(())}


def tensor(type_: TensorType, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=type_.shape) * 50
    dtype = ml_dtypes.bfloat16 if type_.dtype == "bfloat16" else type_.dtype
    return np.asarray(values).astype(dtype)


def state(step: int = 3, pieces: int = 1, types: dict[str, TensorType] = TYPES) -> State:
    """With a slot beside each parameter, cut into `pieces` along every axis where it can be."""
    tensors = {}
    for seed, (name, type_) in enumerate(types.items()):
        for slot in ("", "0.trace"):
            whole = tensor(type_, seed + 100 * step + len(slot))
            splits = [even_splits(n, min(n, pieces)) for n in type_.shape]
            tensors[slot, name] = tuple((box, whole[box.slices()]) for box in grid(splits))
    return State(step, tensors, {"0.count": np.array(step, np.int32)})


def same(a: State, b: State) -> None:
    assert a.step == b.step
    assert a.tensors.keys() == b.tensors.keys()
    for slot, name in a.tensors:
        one, other = a.whole(name, slot), b.whole(name, slot)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert a.scalars.keys() == b.scalars.keys()
    for path, value in a.scalars.items():
        assert value.dtype == b.scalars[path].dtype
        np.testing.assert_array_equal(value, b.scalars[path])


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    place = save(str(tmp_path), state(), META)
    assert place == str(tmp_path / "step-00000003") == latest(str(tmp_path))
    for path in (place, str(tmp_path)):
        found, meta = load(path, TYPES, "abc")
        same(found, state())
        assert (meta.network, meta.step, meta.rule, meta.sampler) == (
            "digits",
            3,
            "momentum",
            META.sampler,
        )
        assert meta.time


@settings(deadline=None, max_examples=25)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b/c", "ü:[0]", "x.y"]),
        st.builds(
            TensorType,
            st.lists(st.integers(0, 5), max_size=3).map(tuple),
            st.sampled_from(sorted(DTYPE_BYTES)),
        ),
    ),
    st.integers(1, 4),
)
def test_every_dtype_shape_and_cut(types: dict[str, TensorType], pieces: int) -> None:
    types = {n: t for n, t in types.items() if t.size}
    with tempfile.TemporaryDirectory() as folder:
        save(folder, state(5, pieces, types), META)
        same(load(folder, types)[0], state(5, 1, types))


def test_saved_on_4_and_resumed_on_1_or_8(tmp_path: Path) -> None:
    save(str(tmp_path), state(pieces=2), META)
    found, _ = load(str(tmp_path), TYPES)
    expected = state()
    for pieces in (1, 3, 4):
        for box in grid([even_splits(6, pieces), even_splits(4, pieces)]):
            np.testing.assert_array_equal(
                found.region("d/weights", box, "0.trace"),
                expected.region("d/weights", box, "0.trace"),
            )


def test_the_file_is_safetensors_with_readable_names(tmp_path: Path) -> None:
    place = save(str(tmp_path), state(pieces=2), META)
    tensors = safetensors.numpy.load_file(os.path.join(place, "tensors.safetensors"))
    box = Region.of((3, 6), (0, 2))
    np.testing.assert_array_equal(
        tensors["0.trace:d/weights[3:6,0:2]"], state().region("d/weights", box, "0.trace")
    )
    assert tensors["scalar:0.count"] == 3


def test_parameters_that_are_not_contiguous(tmp_path: Path) -> None:
    turned = np.arange(12.0).reshape(3, 4).T
    save(str(tmp_path), State(1, {("", "w"): ((Region.whole((4, 3)), turned),)}), META)
    np.testing.assert_array_equal(load(str(tmp_path))[0].whole("w"), turned)


def test_metrics_that_are_not_finite_are_null(tmp_path: Path) -> None:
    save(str(tmp_path), state(), Meta(metrics={"loss": float("nan"), "accuracy": 0.5}))
    assert load(str(tmp_path))[1].metrics == {"loss": None, "accuracy": 0.5}


def test_pieces_with_gaps_or_overlaps_are_not_saved(tmp_path: Path) -> None:
    def cut(*bounds: tuple[int, int]) -> State:
        return State(1, {("", "w"): tuple((Region.of(b), np.zeros(b[1] - b[0])) for b in bounds)})

    for bad in (cut((0, 2), (3, 5)), cut((0, 3), (2, 5)), cut((1, 4)), cut((0, 2), (0, 2), (4, 5))):
        with pytest.raises(CheckpointError, match="is no tiling"):
            save(str(tmp_path), bad, META)
    assert os.listdir(tmp_path) == []


# Which ones stay


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_the_last_few_and_the_best_stay(tmp_path: Path) -> None:
    for step in range(1, 7):
        save(str(tmp_path), state(step), META, keep=2, best=step == 2)
        _age(tmp_path)
    assert names(tmp_path) == [
        "best", "latest", "step-00000002", "step-00000005", "step-00000006"
    ]  # fmt: skip
    assert best(str(tmp_path)) == str(tmp_path / "step-00000002")
    same(load(best(str(tmp_path)) or "")[0], state(2))
    assert load(str(tmp_path))[1].step == 6


def test_a_run_that_was_set_back_keeps_what_it_writes(tmp_path: Path) -> None:
    for step in (10, 20, 5):
        save(str(tmp_path), state(step), META, keep=1)
        _age(tmp_path)
    assert names(tmp_path) == ["latest", "step-00000005"]


def test_a_step_that_is_saved_again_replaces_the_older(tmp_path: Path) -> None:
    for _ in range(3):
        place = save(str(tmp_path), state(4), META, keep=5)
        assert names(tmp_path) == ["latest", os.path.basename(place)]
        same(load(str(tmp_path))[0], state(4))


def _age(folder: Path) -> None:
    """Makes what is there older, since steps here take less than a clock's tick."""
    for manifest in folder.glob("*/manifest.json"):
        time_ns = manifest.stat().st_mtime_ns - 10**9
        os.utime(manifest, ns=(time_ns, time_ns))


def test_a_lost_pointer_is_no_loss(tmp_path: Path) -> None:
    for step in (1, 2):
        save(str(tmp_path), state(step), META)
        _age(tmp_path)
    (tmp_path / "latest").unlink()
    assert latest(str(tmp_path)) == str(tmp_path / "step-00000002")
    (tmp_path / "latest").write_text("../elsewhere\n")
    assert latest(str(tmp_path)) == str(tmp_path / "step-00000002")
    assert best(str(tmp_path)) is None
    assert latest(str(tmp_path / "nowhere")) is None


# What can go wrong while writing


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_after(real: Callable[..., None], calls: int) -> Callable[..., None]:
    left = [calls]

    def sometimes(*args: object) -> None:
        left[0] -= 1
        full() if left[0] < 0 else real(*args)

    return sometimes


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_full_disk_leaves_the_old_one(
    calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(str(tmp_path), state(1), META)
    before = names(tmp_path)
    monkeypatch.setattr(tensorfile, "_put", fail_after(tensorfile._put, calls))
    with pytest.raises(CheckpointError, match=r"the disk is full\n  the last good.*step-00000001"):
        save(str(tmp_path), state(2), META)
    assert names(tmp_path) == before
    same(load(str(tmp_path))[0], state(1))


@pytest.mark.parametrize("place", ["_write_durably", "_sync_folder", "_point", "_free_name"])
def test_a_failure_anywhere_leaves_a_good_one(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(str(tmp_path), state(1), META)
    monkeypatch.setattr(checkpoint, place, full)
    with pytest.raises(CheckpointError, match="the disk is full"):
        save(str(tmp_path), state(2), META)
    monkeypatch.undo()
    assert not [name for name in names(tmp_path) if name.startswith(".")]
    same(load(str(tmp_path))[0], state(1))
    save(str(tmp_path), state(2), META)
    same(load(str(tmp_path))[0], state(2))


def test_a_limit_of_the_system_is_told(tmp_path: Path) -> None:
    """A real refused write, by the limit on a file's size."""
    import resource

    save(str(tmp_path), state(1), META)
    big = {"w": TensorType((200_000,), "float64")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(CheckpointError, match="File too large"):
            save(str(tmp_path), state(2, types=big), META)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["latest", "step-00000001"]


def test_a_folder_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"can't save a checkpoint in .*file"):
        save(str(tmp_path / "file" / "runs"), state(), META)

    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "mkdir", forbidden)  # tests may run as root, whom no mode stops
    with pytest.raises(CheckpointError, match="Permission denied"):
        save(str(tmp_path), state(), META)


def test_a_dtype_without_a_place(tmp_path: Path) -> None:
    odd = State(1, {("", "w"): ((Region.whole((2,)), np.zeros(2, complex)),)})
    with pytest.raises(CheckpointError, match=r"'w\[0:2\]' is complex128"):
        save(str(tmp_path), odd, META)
    assert names(tmp_path) == []


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".unfinished-step-00000009").mkdir()
    (tmp_path / ".unfinished-step-00000009" / "tensors.safetensors").write_bytes(b"half")
    (tmp_path / ".unfinished-latest").write_text("step-0")
    save(str(tmp_path), state(), META)
    assert names(tmp_path) == ["latest", "step-00000003"]


# What can be wrong with one that is there


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("manifest.json", Path.unlink, r"no file manifest\.json"),
        ("tensors.safetensors", Path.unlink, r"no file tensors\.safetensors"),
        ("manifest.json", cut_short, "manifest is truncated or corrupted"),
        ("manifest.json", lambda p: p.write_bytes(b""), "truncated or corrupted"),
        ("manifest.json", lambda p: p.write_bytes(b"\xff{}"), "truncated or corrupted"),
        ("manifest.json", lambda p: edit(p, format=2), "format 2, this dbgraph reads format 1"),
        ("manifest.json", lambda p: edit(p, tensors=[]), "changed or corrupted"),
        ("manifest.json", lambda p: edit(p, files=3), "truncated or corrupted"),
        ("tensors.safetensors", cut_short, r"has \d+ bytes, the manifest says \d+"),
        ("tensors.safetensors", lambda p: flip(p, 0), "checksum differs"),
        ("tensors.safetensors", lambda p: flip(p, 100), "checksum differs"),
        ("tensors.safetensors", lambda p: flip(p, -1), "checksum differs"),
    ],
)
def test_a_broken_one_is_told(
    file: str, damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    save(str(tmp_path), state(1), META)
    place = Path(save(str(tmp_path), state(2), META))
    damage(place / file)
    hint = r"[^\n]*\n  another one is there: .*step-00000001"
    with pytest.raises(CheckpointError, match=message + hint):
        load(str(place))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_flipped_bit_goes_unseen(data: st.DataObject) -> None:
    """Except where the manifest means the same afterwards: blanks between its parts."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(save(folder, state(), META))
        path = place / data.draw(st.sampled_from(["manifest.json", "tensors.safetensors"]))
        flip(path, data.draw(st.integers(0, path.stat().st_size - 1)))
        try:
            found, meta = load(str(place))
        except CheckpointError:
            return
        assert path.name == "manifest.json"
        same(found, state())
        assert (meta.step, meta.fingerprint) == (3, "abc")


def test_none_is_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match="there is no checkpoint in"):
            load(str(path))


def test_another_network_is_told_by_what_differs(tmp_path: Path) -> None:
    save(str(tmp_path), state(), META)
    wider = {**TYPES, "d/weights": TensorType((6, 5))}
    with pytest.raises(
        CheckpointError,
        match=r"'d/weights' is float32\[6,4\] there, float32\[6,5\] in the network",
    ):
        load(str(tmp_path), wider, "other")
    with pytest.raises(CheckpointError, match=r"float32\[4\] there, float64\[4\] in the network"):
        load(str(tmp_path), {**TYPES, "d/biases": TensorType((4,), "float64")})
    renamed = {"e" if name == "s" else name: type_ for name, type_ in TYPES.items()}
    with pytest.raises(CheckpointError, match="no parameter 'e'; the network has no parameter 's'"):
        load(str(tmp_path), renamed)
    with pytest.raises(CheckpointError, match=r"'digits', fingerprint abc, not xyz\)\n  its param"):
        load(str(tmp_path), TYPES, "xyz")
    same(load(str(tmp_path), TYPES)[0], state())
