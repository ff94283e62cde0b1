"""The seal of a plan's file: the plan was verified when it was written, and is as it was then.

The file's last line is `end` and a checksum of all before it. Who edits the file by hand need not
care: without the seal, or with one that no longer fits, a plan is verified when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import xxhash

END = "end"


def sealed(lines: Iterable[str]) -> Iterator[str]:
    """Args: lines: of a plan that was verified, as `plan_lines` makes them."""
    digest = xxhash.xxh3_64()
    for line in lines:
        if line == f"{END}\n":
            break
        digest.update(line.encode())
        yield line
    yield f"{END} {digest.hexdigest()}\n"


def is_sealed(path: str | os.PathLike[str]) -> bool:
    """A pipe, which can't be read again, is not. Raises OSError."""
    if not os.path.isfile(path):
        return False
    content = Path(path).read_bytes()
    begin = content.rfind(f"\n{END} ".encode()) + 1
    digest = xxhash.xxh3_64_hexdigest(memoryview(content)[:begin])
    return content[begin:].rstrip() == f"{END} {digest}".encode()
