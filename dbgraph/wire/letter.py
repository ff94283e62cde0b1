"""An actor's message as a `Letter`, and back: schema-checked against the message's own class.

The wire does not list the kinds of messages that actors have: a letter names the class. What it
names must be a msgspec struct, and letters are taken only over lines whose both ends hold the
job's key.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import msgspec

from dbgraph.wire.codec import Refusal, WireError
from dbgraph.wire.messages import Letter

_encoder = msgspec.msgpack.Encoder()


def write_letter(message: msgspec.Struct) -> Letter:
    """The inverse of `read_letter`."""
    return Letter(_name(type(message)), _encoder.encode(message))


def read_letter(letter: Letter) -> Any:
    """The message. Raises WireError where it is none, or not what its class says."""
    try:
        return _decoder(letter.name).decode(letter.body)
    except msgspec.MsgspecError as error:
        raise WireError(Refusal.MALFORMED, f"{letter.name}: {error}") from error


@cache
def _name(kind: type[msgspec.Struct]) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


@cache
def _decoder(name: str) -> msgspec.msgpack.Decoder[Any]:
    module, _, of = name.partition(":")
    try:
        found = getattr(import_module(module), of, None)
    except (ImportError, ValueError) as error:
        raise WireError(Refusal.MALFORMED, f"a letter of kind {name!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, msgspec.Struct)):
        raise WireError(Refusal.MALFORMED, f"a letter of kind {name!r}")
    return msgspec.msgpack.Decoder(found)
