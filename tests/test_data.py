"""Sources, their check against a network, samplers, and data from files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.data import (
    ArraySource,
    Batches,
    Data,
    FunctionSource,
    NpySource,
    Source,
    check,
    load_data,
    read,
    sweep,
)
from dbgraph.errors import DataError, UsageError
from dbgraph.ir.region import Region
from dbgraph.ir.types import TensorType

TYPES = {"image": TensorType((4, 3, 2)), "label": TensorType((4,), "int32")}


def arrays(length: int = 10) -> dict[str, Any]:
    images = np.arange(length * 6, dtype=np.float32).reshape(length, 3, 2)
    return {"image": images, "label": np.arange(length, dtype=np.int32)}


def npy(folder: Path, prefix: str = "", length: int = 10) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays(length).items():
        np.save(folder / f"{prefix}{name}.npy", array)
    return {name: str(folder / f"{prefix}{name}.npy") for name in arrays()}


def make(length: int) -> dict[str, np.ndarray]:
    return arrays(length)


@pytest.fixture(params=["array", "npy", "function"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    if request.param == "array":
        return ArraySource(arrays())
    if request.param == "npy":
        return NpySource(npy(tmp_path))
    return FunctionSource(make, (10,))


def test_every_source_reads_one_region_of_some_examples(source: Source) -> None:
    assert len(source) == 10
    assert source.inputs() == {"image": ((3, 2), "float32"), "label": ((), "int32")}
    which = np.array([7, 0, 7, 3])
    part = read(source, "image", which, Region.of((1, 3), (0, 1)))
    np.testing.assert_array_equal(part, arrays()["image"][which][:, 1:3, 0:1])
    assert part.flags.c_contiguous
    whole = read(source, "image", which, Region.whole((3, 2)))
    np.testing.assert_array_equal(whole, arrays()["image"][which])
    np.testing.assert_array_equal(read(source, "label", which, Region(())), which)


def test_every_source_travels(source: Source) -> None:
    len(source)  # opened: what is open stays here
    there = pickle.loads(cloudpickle.dumps(source))
    assert len(there) == 10
    np.testing.assert_array_equal(there.read("label", np.array([2]), Region(())), [2])


def test_a_mapped_file_travels_as_its_path(tmp_path: Path) -> None:
    source = NpySource({"x": tmp_path / "x.npy"})
    np.save(tmp_path / "x.npy", np.zeros((1000, 100)))
    len(source)
    assert len(pickle.dumps(source)) < 500


def test_what_fits_passes() -> None:
    check(ArraySource(arrays()), TYPES)
    check(ArraySource(arrays(2)), TYPES, padded=True)
    check(ArraySource({"image": arrays()["image"]}), TYPES, needed=["image"])


def changed(**new: object) -> dict[str, Any]:
    return {name: a for name, a in {**arrays(), **new}.items() if a is not None}


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (
            changed(label=None, labels=arrays()["label"]),
            r"reads input 'label', the data has image, labels\n  did you mean 'labels'\?",
        ),
        (changed(label=None), "reads input 'label', the data has image"),
        (changed(extra=np.zeros(10)), r"has 'extra', the network has no such input\n .*image, lab"),
        (
            changed(image=np.zeros((10, 6), np.float32)),
            r"'image' takes \(3, 2\) per example, the data has \(6,\)\n .*reshape\(-1, 3, 2\)",
        ),
        (changed(image=np.zeros((10, 5), np.float32)), r"the data has \(5,\)$"),
        (
            changed(image=np.zeros((10, 3, 2))),
            r'takes float32, the data is float64\n  convert it: array.astype\("float32"\)',
        ),
        (changed(label=np.arange(10)), "takes int32, the data is int64"),
        (changed(label=np.arange(10.0)), "takes int32, the data is float64"),
        (changed(label=np.array(["a"] * 10)), "takes int32, the data is <U1"),
        (arrays(3), "has 3 examples, a batch takes 4"),
        (arrays(0), "no examples"),
    ],
)
def test_what_does_not_fit_is_refused(given_: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check(ArraySource(given_), TYPES)


def test_arrays_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match="different numbers of examples: image 10, label 9"):
        ArraySource(changed(label=np.zeros(9)))
    with pytest.raises(DataError, match="'label' is an int, not an array"):
        ArraySource({"label": 3})
    with pytest.raises(DataError, match="'x' is no array"):
        ArraySource({"x": [[1, 2], [3]]})


def test_files_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        len(NpySource({"x": tmp_path / "x.npy"}))
    (tmp_path / "x.npy").write_bytes(b"garbage")
    with pytest.raises(DataError, match=r"can't be read as a \.npy file"):
        len(NpySource({"x": tmp_path / "x.npy"}))
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"can't be read as a \.npy file"):
        len(NpySource({"x": tmp_path / "o.npy"}))
    np.save(tmp_path / "s.npy", np.array(3.0))
    with pytest.raises(DataError, match="axis 0"):
        len(NpySource({"x": tmp_path / "s.npy"}))


def broken() -> dict[str, np.ndarray]:
    raise OSError("tape torn")


def test_a_function_that_fails_is_reported_at_its_line() -> None:
    with pytest.raises(
        DataError, match=r"test_data.py:\d+: broken\(\) raised OSError: tape torn"
    ) as caught:
        len(FunctionSource(broken))
    assert caught.value.at is not None
    assert caught.value.at.line == broken.__code__.co_firstlineno + 1
    with pytest.raises(DataError, match="returned an int, not a source"):
        len(FunctionSource(len, ([],)))


class Liar:
    """A source that gives something else than it says."""

    def __len__(self) -> int:
        return 4

    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return {"x": ((2,), "float32")}

    def read(self, name: str, examples: np.ndarray, region: Region) -> np.ndarray:
        return np.zeros((len(examples), 2))


def test_a_source_of_the_users_own_is_held_to_its_word() -> None:
    source = Liar()
    assert isinstance(source, Source)
    with pytest.raises(DataError, match=r"gave float64\[3, 2\] .* float32\[3, 2\] was asked"):
        read(source, "x", np.arange(3), Region.of((0, 2)))


def test_data_of_what_people_have() -> None:
    for value in (arrays(), ArraySource(arrays()), Data(arrays()), lambda: arrays()):
        data = Data.of(value)
        assert len(data.train) == 10
        assert data.test is None
    for pair in ((arrays(), arrays(3)), {"train": arrays(), "test": arrays(3)}):
        data = Data.of(pair)
        assert len(data.train) == 10
        assert data.test is not None
        assert len(data.test) == 3
    assert set(Data.of({"train": np.zeros((3, 1))}).train.inputs()) == {"train"}
    for nothing in (None, 3, "text"):
        with pytest.raises(DataError, match="is no data"):
            Data.of(nothing)


# Which examples a step takes


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(-5, 2**70), st.integers(0, 3))
def test_an_epoch_takes_examples_at_most_once(
    length: int, batch: int, seed: int, epoch: int
) -> None:
    if length < batch:
        with pytest.raises(DataError, match="a batch takes"):
            Batches(length, batch, seed)
        return
    batches = Batches(length, batch, seed)
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    taken = np.concatenate([batches.examples(step) for step in steps])
    assert len(set(taken.tolist())) == len(taken) == length // batch * batch
    assert taken.min() >= 0
    assert taken.max() < length
    assert {batches.epoch(step) for step in steps} == {epoch}
    assert taken.dtype == np.int64


def test_steps_can_be_taken_in_any_order() -> None:
    batches = Batches(100, 8, seed=3)
    forward = [batches.examples(step) for step in range(50)]
    for step in (49, 0, 13, 12, 30):
        np.testing.assert_array_equal(Batches(100, 8, seed=3).examples(step), forward[step])
    assert not np.array_equal(Batches(100, 8, seed=4).examples(0), forward[0])
    assert not np.array_equal(forward[0], forward[batches.steps_per_epoch])


def test_the_stream_is_fixed() -> None:
    """A run must resume alike under another version of NumPy or dbgraph."""
    assert Batches(10, 5, seed=1).examples(0).tolist() == [1, 0, 9, 8, 6]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.integers(1, 12))
def test_a_sweep_takes_every_example_once(length: int, batch: int) -> None:
    taken: list[int] = []
    for examples, valid in sweep(length, batch):
        assert examples.shape == (batch,)
        assert 0 < valid <= batch
        assert (examples < length).all()
        taken.extend(examples[:valid].tolist())
    assert taken == list(range(length))


# Data from files


@pytest.mark.parametrize("layout", ["npz", "prefixes", "folders", "file.py"])
def test_data_with_a_held_out_part(layout: str, tmp_path: Path) -> None:
    spec = str(tmp_path)
    if layout == "npz":
        parts = {f"train_{n}": a for n, a in arrays().items()}
        np.savez(tmp_path / "d.npz", **parts, **{f"test_{n}": a for n, a in arrays(5).items()})
        spec = str(tmp_path / "d.npz")
    elif layout == "prefixes":
        npy(tmp_path, "train_")
        npy(tmp_path, "test_", 5)
    elif layout == "folders":
        npy(tmp_path / "train")
        npy(tmp_path / "test", length=5)
    else:
        (tmp_path / "mine.py").write_text(
            "import numpy as np\nimport dbgraph as dbg\n"
            "def part(n):\n"
            "    return {'image': np.zeros((n, 3, 2), 'float32'), 'label': np.zeros(n, 'int32')}\n"
            "def data():\n    return dbg.Data(part(10), part(5))\n"
        )
        spec = str(tmp_path / "mine.py")
    data = load_data(spec)
    check(data.train, TYPES)
    assert data.test is not None
    check(data.test, TYPES)
    assert (len(data.train), len(data.test)) == (10, 5)


def test_data_without_a_held_out_part(tmp_path: Path) -> None:
    npy(tmp_path)
    np.savez(tmp_path / "d.npz", **arrays())
    for spec in (tmp_path, tmp_path / "d.npz"):
        data = load_data(str(spec))
        assert len(data.train) == 10
        assert data.test is None


def test_files_that_can_not_be_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        load_data(str(tmp_path / "no.npz"))
    with pytest.raises(DataError, match="there is no data at"):
        load_data(str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="there is no file"):
        load_data(str(tmp_path / "no.py:data"))
    with pytest.raises(DataError, match=r"has no \.npy files"):
        load_data(str(tmp_path))
    np.savez(tmp_path / "d.npz", train_x=np.zeros(3), x=np.zeros(3))
    with pytest.raises(DataError, match="either all names begin with train_"):
        load_data(str(tmp_path / "d.npz"))
    np.savez(tmp_path / "t.npz", test_x=np.zeros(3))
    with pytest.raises(DataError, match="nothing to train on"):
        load_data(str(tmp_path / "t.npz"))
    whole = (tmp_path / "d.npz").read_bytes()
    for content in (whole[: len(whole) // 2], b"garbage", b""):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"can't be read as a \.npz file"):
            load_data(str(tmp_path / "broken.npz"))
    (tmp_path / "odd.py").write_text("def data(): return 3\n")
    with pytest.raises(DataError, match="returned: an int is no data"):
        load_data(str(tmp_path / "odd.py:data"))
