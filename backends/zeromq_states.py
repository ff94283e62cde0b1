"""What a driver knows of the workers' processes: by their heartbeats, and by looking at them."""

from __future__ import annotations

import time

from dbgraph.backends.states import MachineState, of_beat
from dbgraph.backends.zeromq_fleet import Member
from dbgraph.backends.zeromq_link import Link

STARTING = "starting: it has not been heard of yet"


def state_of(link: Link, member: Member) -> MachineState:
    """Of one worker. May be called from any thread, at any time."""
    process, alive = member.condition()
    signs = link.sign_of(member.number)
    if signs is None:
        since_s = time.monotonic() - member.began
        return MachineState(member.title, STARTING, since_s=since_s, process=process, alive=alive)
    return of_beat(member.title, *signs, process, alive)
