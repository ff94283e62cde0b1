"""Messages as frames of bytes, and back; a frame that is not whole and right is refused.

A message is one header frame, and one payload frame where it carries bytes of an array that do
not lie in memory that both processes share:

    header  = magic "DBGW" | version u16 | 0 u16 | length u32 | xxh3_64 of all the rest u64 | body
    body    = msgpack of `Envelope`, schema-checked
    payload = raw bytes; its length and xxh3_64 stand in the envelope

The checksum covers magic, version and length too: a msgpack header with one byte flipped still
decodes in more than half of the cases.
"""

from __future__ import annotations

import struct
from enum import StrEnum

import msgspec
import xxhash

from dbgraph.wire.messages import Any

MAGIC = b"DBGW"
VERSION = 2
_START = struct.Struct("<4sHHI")
_SUM = struct.Struct("<Q")
PREFIX_BYTES = _START.size + _SUM.size
MAX_HEADER_BYTES = 16 << 20  # a header holds names and shapes; arrays are never in it


class Refusal(StrEnum):
    """Why a frame is not taken; the names of the counters."""

    MAGIC = "not dbgraph's"
    VERSION = "other version"
    LENGTH = "wrong length"
    CHECKSUM = "wrong checksum"
    MALFORMED = "malformed"
    JOB = "other job"
    ADDRESSEE = "for another process"
    SENDER = "unknown sender"
    EPOCH = "other epoch"
    LOST = "sender was given up"
    DUPLICATE = "duplicate"
    GAP = "out of order"
    KEY = "wrong key"
    HANDSHAKE = "broken handshake"


class WireError(Exception):
    """A frame is refused.

    Args:
        reason: which counter it adds to.
        detail: for the log.
    """

    def __init__(self, reason: Refusal, detail: str = "") -> None:
        self.reason = reason
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)


class ArraySpec(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Type of an array that comes with a message."""

    dtype: str
    shape: tuple[int, ...]


class Payload(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the payload frame must be."""

    length: int
    checksum: int


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """What every header says.

    Attributes:
        job: 16 random bytes that name the job.
        sender, to: processes; the driver is -1.
        epoch: of the sender: a process that was given up and wakes up has an old one.
        sequence: from 1; 0 for messages that are not sequenced.
        ack: the sender has everything up to this one.
        area: of the sender's shared memory, where the arrays lie; None: they follow.
    """

    job: bytes
    sender: int
    to: int
    epoch: int
    sequence: int
    ack: int
    message: Any
    arrays: tuple[ArraySpec, ...] = ()
    payload: Payload | None = None
    area: int | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def checksum(data: bytes | memoryview) -> int:
    """xxh3_64; against damage, not against forgery: that is CURVE's task."""
    return int(xxhash.xxh3_64_intdigest(data))


def encode(envelope: Envelope) -> bytes:
    """The header frame."""
    body = _encoder.encode(envelope)
    start = _START.pack(MAGIC, VERSION, 0, len(body))
    return b"".join((start, _SUM.pack(checksum(start + body)), body))


def decode(frame: bytes | memoryview) -> Envelope:
    """The inverse of `encode`. Raises WireError."""
    if len(frame) < PREFIX_BYTES:
        raise WireError(Refusal.LENGTH, f"a header of {len(frame)} bytes")
    magic, version, reserved, length = _START.unpack_from(frame)
    if magic != MAGIC or reserved:
        raise WireError(Refusal.MAGIC, repr(bytes(frame[:8])))
    if version != VERSION:
        raise WireError(Refusal.VERSION, f"version {version}, this is {VERSION}")
    if length != len(frame) - PREFIX_BYTES or length > MAX_HEADER_BYTES:
        raise WireError(Refusal.LENGTH, f"{length} announced, {len(frame) - PREFIX_BYTES} came")
    body = frame[PREFIX_BYTES:]
    (stated,) = _SUM.unpack_from(frame, _START.size)
    if checksum(bytes(frame[: _START.size]) + bytes(body)) != stated:
        raise WireError(Refusal.CHECKSUM, "of the header")
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise WireError(Refusal.MALFORMED, str(error)) from error


def seal(data: memoryview) -> Payload:
    """What the header says of a payload."""
    return Payload(data.nbytes, checksum(data))


def check(payload: Payload, data: memoryview) -> None:
    """Raises WireError where a payload is not what its header says."""
    if data.nbytes != payload.length:
        raise WireError(Refusal.LENGTH, f"{payload.length} announced, {data.nbytes} came")
    if checksum(data) != payload.checksum:
        raise WireError(Refusal.CHECKSUM, "of the payload")
