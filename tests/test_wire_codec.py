"""Frames: what is encoded comes back; what is damaged is refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbgraph.wire import Channel, Parcel, Process, Refusal, WireError, codec, messages
from dbgraph.wire.codec import Envelope, Payload
from dbgraph.wire.parcel import ALIGNMENT_BYTES, CHUNK_BYTES, DTYPES, Assembly, pieces, raw, spec_of

JOB = b"j" * 16
ME, PEER = Process(JOB, 0, 3), Process(JOB, 1, 4)
MESSAGES = (
    messages.Assign(2, "tcp://a:1", 4, (messages.Address(1, "tcp://b:2", 7),), 1.0, 8.0),
    messages.Ship(("plan:train", "rule")),
    messages.Load(True, 7, (messages.Box("w", ((0, 2), (3, 9)), "0.trace"),), ("0.count",)),
    messages.Run(3, "train", 7, ("loss", "output"), ("image@0",)),
    messages.Run(3, "train", 7, ("loss",)),
    messages.Collect(),
    messages.Stop(),
    messages.Value(3, 12, 1),
    messages.Ready(4711, "host"),
    messages.Loaded(),
    messages.Done(3, {"loss": float("inf")}, (messages.Box("class", ((0, 128),)),)),
    messages.Collected(7, (), ()),
    messages.Failed("DataError", "rule", "net.py:12", "hint", "RUN s3.0", "Traceback …"),
    messages.Enter(3, "tcp://a:1", 4, "replica", 2, 1),
    messages.Gone(3, True),
    messages.Play("shard", 1, 0),
    messages.Letter("dbgraph.ps.messages:Push", b"\x90"),
    messages.Over(),
    messages.Recorded(("", "train", "shard 0"), 3, True),
    messages.Ping(1 << 50),
    messages.Pong(1 << 50, 7, 9),
    messages.Heartbeat(9, "RUN s3.0", "", 0.5, {"wrong checksum": 2}),
    messages.Ack(True),
    messages.Chunk(1, CHUNK_BYTES),
)


def envelope(message: object, **more: object) -> Envelope:
    fields: dict[str, object] = {
        "job": JOB, "sender": 1, "to": 0, "epoch": 4, "sequence": 1, "ack": 0,
    }  # fmt: skip
    return Envelope(message=message, **{**fields, **more})  # type: ignore[arg-type]


def transfer(sender: Channel, receiver: Channel, now: float = 0.0) -> list[Parcel]:
    """Moves all frames over a perfect line."""
    arrived = []
    while frames := sender.next_frames():
        header, payload = frames
        opened = codec.decode(header)
        slot = receiver.open_header(opened, now)
        if payload is not None:
            assert slot is not None
            slot[:] = payload
        parcel = receiver.close_payload(opened, slot, now)
        sender.sent(now)
        arrived += [parcel] if parcel else []
        if ack := receiver.ack(now):
            acknowledge = codec.decode(ack)
            sender.open_header(acknowledge, now)
    return arrived


def channels() -> tuple[Channel, Channel]:
    return Channel(PEER, ME, 0.0), Channel(ME, PEER, 0.0)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_every_kind_comes_back(message: object) -> None:
    sent = envelope(message, payload=Payload(3, 1 << 63))
    assert codec.decode(codec.encode(sent)) == sent


def test_every_kind_is_listed() -> None:
    assert {type(m) for m in MESSAGES} == set(messages.Any.__args__)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_header_is_refused(data: st.DataObject) -> None:
    frame = bytearray(codec.encode(envelope(data.draw(st.sampled_from(MESSAGES)))))
    place = data.draw(st.integers(0, len(frame) - 1))
    frame[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(WireError):
        codec.decode(bytes(frame))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_refused(garbage: bytes, marked: bool) -> None:
    with pytest.raises(WireError):
        codec.decode(codec.MAGIC + garbage if marked else garbage)


def test_cut_and_lengthened_headers_are_refused() -> None:
    frame = codec.encode(envelope(messages.Stop()))
    for wrong in (frame[:-1], frame + b"x", frame[:7], b""):
        with pytest.raises(WireError) as caught:
            codec.decode(wrong)
        assert caught.value.reason is Refusal.LENGTH


def test_another_version_is_refused_by_name() -> None:
    frame = bytearray(codec.encode(envelope(messages.Stop())))
    frame[4] = 9
    with pytest.raises(WireError, match="version 9, this is 2"):
        codec.decode(bytes(frame))


def test_unknown_kinds_and_wrong_fields_are_malformed() -> None:
    import msgspec

    body = msgspec.msgpack.encode([JOB, 1, 0, 4, 1, 0, {"kind": "Format", "disk": "c"}])
    start = codec._START.pack(codec.MAGIC, codec.VERSION, 0, len(body))
    frame = start + codec._SUM.pack(codec.checksum(start + body)) + body
    with pytest.raises(WireError) as caught:
        codec.decode(frame)
    assert caught.value.reason is Refusal.MALFORMED


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.array(3.5),
    np.zeros((0, 4), np.int64),
    np.arange(40).reshape(5, 8)[:, ::2],
    np.arange(24, dtype=np.int32).reshape(2, 3, 4).transpose(2, 0, 1),
    np.array([1.5, -2], ml_dtypes.bfloat16),
    np.array([True, False]),
    np.arange(CHUNK_BYTES * 5 // 8, dtype=np.float64),
    np.arange(CHUNK_BYTES, dtype=np.uint8),
]


def test_arrays_come_back_aligned_and_equal() -> None:
    sender, receiver = channels()
    sender.post(messages.Value(1, 2, 0), ARRAYS)
    (parcel,) = transfer(sender, receiver)
    assert parcel.message == messages.Value(1, 2, 0)
    for sent, came in zip(ARRAYS, parcel.arrays, strict=True):
        assert came.dtype == sent.dtype
        assert came.shape == sent.shape
        assert came.size == 0 or came.ctypes.data % ALIGNMENT_BYTES == 0
        assert came.flags.c_contiguous
        assert came.flags.writeable
        np.testing.assert_array_equal(came, sent)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(DTYPES)),
            st.lists(st.integers(0, 5), max_size=4).map(tuple),
        ),
        max_size=4,
    )
)
def test_any_dtype_and_shape_comes_back(kinds: list[tuple[str, tuple[int, ...]]]) -> None:
    arrays = [np.full(shape, 1, DTYPES[dtype]) for dtype, shape in kinds]
    sender, receiver = channels()
    sender.post(messages.Collected(0, (), ()), arrays)
    sender.post(messages.Stop())
    first, second = transfer(sender, receiver)
    assert second.message == messages.Stop()
    for sent, came in zip(arrays, first.arrays, strict=True):
        assert (came.dtype, came.shape) == (sent.dtype, sent.shape)
        assert (came == sent).all()


def test_a_large_array_travels_in_chunks_without_a_copy_at_the_sender() -> None:
    array = np.arange(CHUNK_BYTES * 3 // 8 + 1, dtype=np.float64)
    cut = list(pieces(messages.Stop(), [array]))
    assert [p.data.nbytes for p in cut if p.data] == [CHUNK_BYTES] * 3 + [8]
    assert np.shares_memory(np.frombuffer(cut[1].data, np.uint8), array)


def test_what_has_no_name_on_the_wire_is_an_error() -> None:
    for array in (np.array(["text"]), np.array([1j]), np.zeros(2, ">f4")):
        with pytest.raises(ValueError, match="can't be sent"):
            spec_of(array)


def test_damaged_payloads_are_refused_and_asked_for_again() -> None:
    sender, receiver = channels()
    sender.post(messages.Value(1, 0, 0), [np.arange(4.0)])
    header, payload = sender.next_frames() or (b"", None)
    assert payload is not None
    sender.sent(0.0)
    opened = codec.decode(header)
    slot = receiver.open_header(opened, 0.0)
    assert slot is not None
    slot[:] = b"\0" * len(slot)
    with pytest.raises(WireError) as caught:
        receiver.close_payload(opened, slot, 0.0)
    assert caught.value.reason is Refusal.CHECKSUM
    assert sender.next_frames() is None
    sender.open_header(codec.decode(receiver.ack(0.0) or b""), 0.0)  # asks to go back, at once
    (parcel,) = transfer(sender, receiver)
    np.testing.assert_array_equal(parcel.arrays[0], np.arange(4.0))
    assert sender.connection.resent == 1


def test_a_payload_of_another_length_is_refused() -> None:
    payload = codec.seal(memoryview(b"12345678"))
    for data in (b"1234567", b"123456789", b""):
        with pytest.raises(WireError) as caught:
            codec.check(payload, memoryview(data))
        assert caught.value.reason is Refusal.LENGTH


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"job": b"k" * 16}, Refusal.JOB),
        ({"to": 5}, Refusal.ADDRESSEE),
        ({"sender": 5}, Refusal.SENDER),
        ({"epoch": 3}, Refusal.EPOCH),
        ({"sequence": 2}, Refusal.GAP),
        ({"sequence": 0}, Refusal.MALFORMED),
    ],
)
def test_what_is_not_meant_for_the_channel_is_refused(
    wrong: dict[str, object], reason: Refusal
) -> None:
    _, receiver = channels()
    with pytest.raises(WireError) as caught:
        receiver.open_header(envelope(messages.Stop(), **wrong), 0.0)
    assert caught.value.reason is reason
    assert receiver.connection.received == 0


def test_chunks_that_do_not_fit_are_refused() -> None:
    array = np.zeros(CHUNK_BYTES + 8, np.uint8)
    first, second = pieces(messages.Stop(), [array])
    assembly = Assembly()
    with pytest.raises(WireError, match="a chunk of nothing"):
        assembly.slot(envelope(second.message, payload=Payload(8, 0)))
    assembly.slot(envelope(first.message, arrays=first.arrays, payload=Payload(CHUNK_BYTES, 0)))
    assert assembly.filled() is None
    for message, length in (
        (messages.Chunk(0, 0), 8),
        (messages.Chunk(1, CHUNK_BYTES), 8),
        (messages.Chunk(0, CHUNK_BYTES), 9),
        (messages.Stop(), 0),
    ):
        with pytest.raises(WireError):
            assembly.slot(envelope(message, payload=Payload(length, 0)))
    assembly.slot(envelope(second.message, payload=Payload(8, 0)))
    parcel = assembly.filled()
    assert parcel is not None
    assert parcel.arrays[0].nbytes == CHUNK_BYTES + 8


def test_announced_arrays_must_be_possible() -> None:
    for spec in (("float31", (2,)), ("float32", (-2,)), ("float32", (1 << 60,))):
        with pytest.raises(WireError) as caught:
            Assembly().slot(envelope(messages.Stop(), arrays=(codec.ArraySpec(*spec),)))
        assert caught.value.reason is Refusal.MALFORMED


def test_raw_bytes_of_a_scalar_and_of_nothing() -> None:
    assert raw(np.float64(1.0).reshape(())).nbytes == 8
    assert raw(np.zeros((3, 0))).nbytes == 0
