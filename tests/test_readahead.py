"""The next portion's data are read while the present one is computed."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import pytest
from replica_tools import arrays, network, train, wholes

import dbgraph as dbg
from dbgraph.errors import DataError
from dbgraph.ir.region import Region
from dbgraph.readahead import ReadAhead


class Shelf:
    """Reads when it may; notes what, and in which thread."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.reads: list[tuple[int, str]] = []

    def read(self, examples: np.ndarray) -> Mapping[str, np.ndarray]:
        assert self.may.wait(60)
        self.reads.append((int(examples[0]), threading.current_thread().name))
        if examples[0] < 0:
            raise DataError("torn")
        return {"x": examples * 10}


def test_what_is_expected_is_read_in_another_thread_and_once() -> None:
    shelf = Shelf()
    ahead = ReadAhead(shelf.read)
    ahead.begin(np.arange(3, 5))  # the caller may go on, though nothing can be read yet
    shelf.may.set()
    assert ahead.take(np.arange(3, 5))["x"].tolist() == [30, 40]
    ((first, thread),) = shelf.reads
    assert first == 3
    assert thread != threading.current_thread().name
    assert ahead.take(np.arange(3, 5))["x"].tolist() == [30, 40]
    assert shelf.reads[1] == (3, threading.current_thread().name), "it is handed out once"


def test_what_was_not_expected_is_read_by_the_caller() -> None:
    shelf = Shelf()
    shelf.may.set()
    ahead = ReadAhead(shelf.read)
    ahead.begin(np.arange(3))
    assert ahead.take(np.arange(4))["x"].tolist() == [0, 10, 20, 30]
    assert len(shelf.reads) == 2
    assert shelf.reads[1][1] == threading.current_thread().name


def test_what_fails_ahead_is_raised_only_where_it_is_wanted() -> None:
    shelf = Shelf()
    shelf.may.set()
    ahead = ReadAhead(shelf.read)
    ahead.begin(np.array([-1]))
    assert ahead.take(np.array([5]))["x"].tolist() == [50]
    ahead.begin(np.array([-1]))
    with pytest.raises(DataError, match="torn"):
        ahead.take(np.array([-1]))


class Noting:
    """Arrays that note by which threads they were read."""

    def __init__(self, values: Mapping[str, np.ndarray]) -> None:
        self.values = values
        self.ahead: list[bool] = []

    def __len__(self) -> int:
        return len(self.values["x"])

    def inputs(self) -> Mapping[str, tuple[tuple[int, ...], str]]:
        return {name: (v.shape[1:], v.dtype.name) for name, v in self.values.items()}

    def read(self, name: str, examples: np.ndarray, region: Region) -> np.ndarray:
        playing = threading.current_thread().name
        self.ahead.append(not playing.startswith(("replica", "evaluator")))
        return self.values[name][examples][(slice(None), *region.slices())]


def test_sandblaster_reads_most_portions_ahead_and_trains_as_ever() -> None:
    options = {"algorithm": dbg.Sandblaster(portion=8), "replicas": 1, "steps": 3}
    source = Noting(arrays(96))
    found = train(network(), dbg.Data(source), **options)
    plain = train(network(), arrays(96), **options)
    expected = wholes(plain.final)
    for key, value in wholes(found.final).items():
        np.testing.assert_array_equal(value, expected[key])
    # Twelve portions an evaluation; a replica alone goes through them in order, but for where it
    # begins and where it goes on from the first one.
    assert sum(source.ahead) > 0.8 * len(source.ahead)
