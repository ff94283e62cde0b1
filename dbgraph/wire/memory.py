"""Memory that the processes of one host share, as a channel sees it; no I/O here.

The sender copies a message's arrays into an area of its own and sends only its number; the
receiver reads them there, without a copy, and the area is the sender's again when the receiver
holds none of them any more. A copy is all that it costs: no system call, no encryption, no
checksum of the payload, for there is no line on which it could be damaged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from dbgraph.wire.codec import ArraySpec
from dbgraph.wire.parcel import ALIGNMENT_BYTES, size_bytes

HEAD_BYTES = ALIGNMENT_BYTES
"""In front of the arrays: whether somebody reads them."""


class Memory(Protocol):
    """What one process shares with the others."""

    def put(
        self, peer: int, specs: Sequence[ArraySpec], arrays: Sequence[np.ndarray]
    ) -> int | None:
        """Copies the arrays to where a peer can read them; the area's number.

        None where they are too small to be worth it, or there is no room: they go by the line.
        """

    def take(
        self, peer: int, epoch: int, area: int, specs: Sequence[ArraySpec]
    ) -> list[np.ndarray]:
        """The arrays that a peer has put into an area; whoever takes them may change them.

        Raises WireError where there are none.
        """

    def forget(self, peer: int) -> None:
        """A peer was given up: what it was to read is of no use."""


def places(specs: Sequence[ArraySpec]) -> Iterator[tuple[int, int]]:
    """(first byte, end) of each array in its area; each begins at a multiple of 64."""
    start = HEAD_BYTES
    for spec in specs:
        end = start + size_bytes(spec)
        yield start, end
        start = end + -end % ALIGNMENT_BYTES


def extent_bytes(specs: Sequence[ArraySpec]) -> int:
    """How large an area must be."""
    return max((end for _, end in places(specs)), default=HEAD_BYTES)
