"""The wire: what processes say to each other. No I/O here: no socket, no thread, no clock.

`messages` is the vocabulary, `codec` turns messages into frames of bytes and refuses broken
ones, `parcel` cuts arrays into chunks and puts them together, `connection` makes an unreliable
line deliver exactly once and in order, and `channel` joins them for one pair of processes.
`letter` packs what actors say to each other, whose kinds are listed elsewhere.
"""

from dbgraph.wire.channel import Channel, Process
from dbgraph.wire.codec import Refusal, WireError
from dbgraph.wire.parcel import Parcel

__all__ = ["Channel", "Parcel", "Process", "Refusal", "WireError"]
