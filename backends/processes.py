"""What the system says of a process on this host."""

from __future__ import annotations

import re
from pathlib import Path

from dbgraph import units

_WORDS = {
    "R": "running",
    "S": "running",  # asleep until something comes: what a healthy process does most of the time
    "D": "waiting for the disk",
    "T": "stopped",
    "t": "stopped by a debugger",
    "Z": "dead",
    "X": "dead",
}
_GONE = ("stopped", "stopped by a debugger", "dead")
_STATE = re.compile(r"^State:\s+(\w)", re.MULTILINE)
_SWAP = re.compile(r"^VmSwap:\s+(\d+) kB", re.MULTILINE)


def look_at(pid: int) -> tuple[str, bool]:
    """("stopped", False): a word for a process, and whether it can run.

    What of it lies in swap is added: a process that pages answers late. On systems without /proc
    the word is "" and the process is taken to be able to run.
    """
    if not Path("/proc/self/status").exists():
        return "", True
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "dead", False
    found = _STATE.search(status)
    word = _WORDS.get(found[1] if found else "", "")
    swap = _SWAP.search(status)
    swapped_bytes = 1024 * int(swap[1]) if swap else 0
    more = f", {units.bytes_(swapped_bytes)} of it in swap" if swapped_bytes else ""
    return word + more, word not in _GONE
