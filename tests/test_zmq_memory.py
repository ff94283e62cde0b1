"""Memory that processes of one host share: what is put is taken, and areas are used again."""

from __future__ import annotations

import errno
import gc
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zmq_tools import until

from dbgraph.backends.keys import new_key
from dbgraph.backends.zeromq_events import Arrived
from dbgraph.backends.zeromq_folder import JobFolder, memory_folder
from dbgraph.backends.zeromq_link import Link
from dbgraph.backends.zeromq_memory import SMALLEST_BYTES, SharedMemory
from dbgraph.wire import Process, Refusal, WireError, messages
from dbgraph.wire.codec import ArraySpec
from dbgraph.wire.parcel import ALIGNMENT_BYTES, DTYPES, spec_of

JOB = b"j" * 16
WRITER, READER = Process(JOB, 0, 1), Process(JOB, 1, 1)
LARGE = SMALLEST_BYTES // 4


@pytest.fixture
def pair(tmp_path: Path) -> tuple[SharedMemory, SharedMemory]:
    """A process that writes, and one that reads."""
    return SharedMemory(str(tmp_path), WRITER), SharedMemory(str(tmp_path), READER)


def floats(value: float = 0.0, count: int = LARGE) -> np.ndarray:
    return np.full(count, value, np.float32)


def put(memory: SharedMemory, arrays: Sequence[np.ndarray], peer: int = 1) -> int | None:
    return memory.put(peer, [spec_of(a) for a in arrays], arrays)


def take(memory: SharedMemory, area: int | None, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    assert area is not None
    return memory.take(WRITER.number, WRITER.epoch, area, [spec_of(a) for a in arrays])


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
kinds = st.sampled_from(sorted(DTYPES))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(kinds, shapes), max_size=6))
def test_what_is_put_is_taken(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[str, tuple[int, ...]]]
) -> None:
    folder = str(tmp_path_factory.mktemp("memory"))
    writer, reader = SharedMemory(folder, WRITER), SharedMemory(folder, READER)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 2, shape).astype(DTYPES[kind]) for kind, shape in drawn]
    arrays.append(floats(3.0))
    found = take(reader, put(writer, arrays), arrays)
    for array, other in zip(arrays, found, strict=True):
        assert (array.dtype, array.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(array, other)
        if array.size:
            assert other.__array_interface__["data"][0] % ALIGNMENT_BYTES == 0


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No garbage is collected but by who asks."""
    gc.disable()
    yield
    gc.enable()


def test_what_jax_still_held_is_given_back_by_who_answers(
    pair: tuple[SharedMemory, SharedMemory], tmp_path: Path, uncollected: None
) -> None:
    writer, reader = pair
    array = [floats(3.0)]
    number = put(writer, array)
    (area,) = tmp_path.iterdir()
    double = jax.jit(lambda x: 2 * x)
    jax.block_until_ready(double(take(reader, number, array)[0]))

    def is_given_back() -> bool:
        put(reader, array, peer=0)
        return not np.fromfile(area, np.uint64, 1)[0]

    until(is_given_back, seconds=10)


def test_arrays_of_any_layout_are_put(pair: tuple[SharedMemory, SharedMemory]) -> None:
    writer, reader = pair
    array = np.arange(2.0 * LARGE).reshape(2, -1).T
    found = take(reader, put(writer, [array]), [array])
    np.testing.assert_array_equal(found[0], array)


def test_who_takes_an_array_may_change_it(pair: tuple[SharedMemory, SharedMemory]) -> None:
    writer, reader = pair
    array = floats(1.0)
    (found,) = take(reader, put(writer, [array]), [array])
    found += 1
    assert array[0] == 1.0, "the writer's own is not what was lent"


def test_what_is_small_goes_by_the_line(pair: tuple[SharedMemory, SharedMemory]) -> None:
    writer, _ = pair
    assert put(writer, [np.zeros(3)]) is None


def test_an_area_is_used_again_when_the_last_array_is_dropped(
    pair: tuple[SharedMemory, SharedMemory], tmp_path: Path
) -> None:
    writer, reader = pair
    arrays = [floats(1.0), floats(2.0)]
    first = put(writer, arrays)
    found = take(reader, first, arrays)
    part = found[1][5:]
    del found
    gc.collect()
    second = put(writer, arrays)
    assert second != first, "a part of it is still being read"
    assert part[0] == 2.0
    del part
    gc.collect()
    assert put(writer, arrays) == first
    assert files(tmp_path) == ["0.1.1", "0.1.2"]


def test_files_are_their_owners_alone(
    pair: tuple[SharedMemory, SharedMemory], tmp_path: Path
) -> None:
    put(pair[0], [floats()])
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_room_arrays_go_by_the_line(
    pair: tuple[SharedMemory, SharedMemory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert put(pair[0], [floats()]) is None
    assert files(tmp_path) == []
    monkeypatch.undo()
    assert put(pair[0], [floats()]) is None, "it is not tried at every message"
    pair[0].tidy(0.0)
    assert put(pair[0], [floats()]) is not None


def test_what_a_lost_peer_was_to_read_is_removed_and_stays_readable(
    pair: tuple[SharedMemory, SharedMemory], tmp_path: Path
) -> None:
    writer, reader = pair
    array = floats(1.0)
    (found,) = take(reader, put(writer, [array]), [array])
    put(writer, [array], peer=7)
    writer.forget(READER.number)
    assert files(tmp_path) == ["0.1.2"], "another peer's is left"
    put(writer, [floats(2.0)])
    assert found[0] == 1.0


def test_what_is_not_used_is_removed(
    pair: tuple[SharedMemory, SharedMemory], tmp_path: Path
) -> None:
    writer, reader = pair
    array = floats(1.0)
    (found,) = take(reader, put(writer, [array]), [array])
    writer.tidy(1e12)
    assert files(tmp_path) == ["0.1.1"], "it is being read"
    del found
    gc.collect()
    writer.tidy(0.0)
    assert files(tmp_path) == ["0.1.1"], "it was used a moment ago"
    writer.tidy(1e12)
    assert files(tmp_path) == []
    assert reader._theirs
    reader.tidy(0.0)
    assert not reader._theirs


@pytest.mark.parametrize(
    ("area", "count", "reason"), [(9, 1, Refusal.MALFORMED), (1, 10**6, Refusal.LENGTH)]
)
def test_areas_that_are_not_there_are_refused(
    pair: tuple[SharedMemory, SharedMemory], area: int, count: int, reason: Refusal
) -> None:
    writer, reader = pair
    assert put(writer, [floats()]) == 1
    with pytest.raises(WireError) as caught:
        reader.take(WRITER.number, WRITER.epoch, area, [ArraySpec("float32", (count,))])
    assert caught.value.reason is reason


def test_what_killed_jobs_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dbgraph.backends.zeromq_folder.IN_MEMORY", str(tmp_path))
    monkeypatch.setattr("dbgraph.backends.zeromq_folder._LONGEST", 1000)  # no socket is made here
    living, dead, young = (
        JobFolder(str(tmp_path)),
        tmp_path / "dbgraph-dead",
        tmp_path / "dbgraph-y",
    )
    for folder in (dead, young):
        folder.mkdir()
        (folder / "0.1.1").write_bytes(b"memory")
    for folder in (dead, Path(living.path)):
        os.utime(folder, (0, 0))
    made = memory_folder()
    assert made is not None
    assert {*tmp_path.iterdir()} == {Path(living.path), young, Path(made.path)}
    for folder_of_job in (living, made):
        folder_of_job.remove()


# --- over a line ---


@pytest.fixture
def links() -> Iterator[tuple[Link, Link]]:
    sockets, memory, key = JobFolder(), memory_folder(), new_key()
    if memory is None:
        pytest.skip("this system has no place for shared memory (/dev/shm)")
    one, two = (
        Link(key, sockets.endpoint(str(who.number)), me=who, memory=memory.path, heartbeat_s=0.1)
        for who in (WRITER, READER)
    )
    one.connect(READER, two.endpoint)
    two.connect(WRITER, one.endpoint)
    for link in (one, two):
        link.start()
    yield one, two
    for link in (one, two):
        link.close()
    for folder in (sockets, memory):
        folder.remove()


def _next(link: Link) -> Arrived:
    happening = link.take(60.0)
    assert isinstance(happening, Arrived)
    return happening


def test_large_and_small_messages_keep_their_order(links: tuple[Link, Link]) -> None:
    one, two = links
    sizes = [1, 3 * LARGE, 2, 5 * LARGE, 4 * LARGE, 3]
    for number, size in enumerate(sizes):
        one.send(1, messages.Value(0, number, 0), [floats(number, size)])
    for number, size in enumerate(sizes):
        parcel = _next(two).parcel
        assert parcel.message == messages.Value(0, number, 0)
        np.testing.assert_array_equal(parcel.arrays[0], floats(number, size))
    assert one._memory is not None
    assert len(one._memory._mine) == 3


def test_a_message_sent_again_is_taken_once(links: tuple[Link, Link]) -> None:
    """The line goes back though all has arrived; the areas have been used again since."""
    one, two = links
    line = one._lines[1]
    for number in range(20):
        one.send(1, messages.Value(0, number, 0), [floats(number)])
        with line.lock:
            line.channel.connection._go_back(0.0)
        assert _next(two).parcel.arrays[0][0] == number
    until(lambda: not one.pending)
    assert two.take(0) is None


def test_a_peer_that_is_given_up_leaves_no_area(links: tuple[Link, Link]) -> None:
    one, two = links
    one.send(1, messages.Value(0, 0, 0), [floats()])
    arrived = _next(two)
    one.forget(1)
    assert one._memory is not None
    assert not one._memory._mine
    one.send(1, messages.Value(0, 1, 0), [floats()])
    assert not one._memory._mine, "nothing is copied for nobody"
    assert arrived.parcel.arrays[0][0] == 0.0
