"""What a driver knows of the workers' processes: by their heartbeats, and by looking at them."""

from __future__ import annotations

from dbgraph.backends.states import MachineState, of_beat
from dbgraph.backends.zeromq_fleet import Member
from dbgraph.backends.zeromq_link import Link


def state_of(link: Link, member: Member) -> MachineState:
    """Of one worker. May be called from any thread, at any time."""
    name = member.name or f"partition {member.number}"
    process, alive = member.condition()
    signs = link.sign_of(member.number)
    if signs is None:
        return MachineState(name, "starting", process=process, alive=alive)
    return of_beat(name, *signs, process, alive)
