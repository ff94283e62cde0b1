"""CURVE keys: one pair per job. Who holds it is a member of the job; nobody else is let in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE

import zmq

from dbgraph.errors import UsageError

_TITLE = "dbgraph key 1"
_Z85_BYTES = 40


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A CURVE key pair, Z85 text. All processes of a job hold the same one, so that each side
    proves to the other that it has the secret."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair({self.public!r}, secret=…)"


def new_key() -> KeyPair:
    """A fresh pair, in memory only."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def create_key_file(path: str | Path) -> None:
    """Writes a fresh pair to a new file that only its owner may read (mode 0600).

    Raises UsageError where the file exists or can't be written: a key is never overwritten.
    """
    key = new_key()
    text = f"{_TITLE}\npublic {key.public}\nsecret {key.secret}\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists", hint="choose another name, or remove it") from None
    except OSError as error:
        raise UsageError(f"can't write the key file {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def read_key_file(path: str | Path) -> KeyPair:
    """Reads what `create_key_file` wrote.

    Raises UsageError where it can't be read, is no key file, or may be read by others.
    """
    try:
        mode = S_IMODE(os.stat(path).st_mode)
        lines = Path(path).read_text().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        hint = f"make one with: dbgraph key {path}"
        raise UsageError(f"can't read the key file {path}: {reason}", hint=hint) from None
    if mode & 0o077:
        rule = f"the key file {path} may be read by others (mode {mode:04o})"
        raise UsageError(rule, hint=f"chmod 600 {path}; if others have read it, make a new one")
    return _parse(path, lines)


def _parse(path: str | Path, lines: list[str]) -> KeyPair:
    words = [line.split() for line in lines[1:3]]
    good = (
        lines[0] == _TITLE
        and [w[0] for w in words if len(w) == 2] == ["public", "secret"]
        and all(len(w[1]) == _Z85_BYTES for w in words)
    )
    if not good:
        hint = "make one with: dbgraph key FILE, and copy it to the hosts as it is"
        raise UsageError(f"{path} is no key file of dbgraph", hint=hint)
    key = KeyPair(words[0][1], words[1][1])
    try:
        matches = zmq.curve_public(key.secret.encode()).decode() == key.public
    except (zmq.ZMQError, ValueError):
        matches = False
    if not matches:
        raise UsageError(f"{path}: the two keys are no pair", hint="make a new file")
    return key
