"""A theatre in one thread, with a clock of its own: what happens next is drawn, and replicas may
be killed at any moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from dbgraph.actor import COORDINATOR, THEATRE, Actor, Address, Arrays, Envelope
from dbgraph.backends.theatre import Cast

TURN_S = 0.001


class ScriptedTheatre:
    """See `theatre.Theatre`.

    Args:
        kills: at so many turns somebody is killed: whole replicas, but never the last one.
    """

    def __init__(self, seed: int, kills: Iterable[int] = ()) -> None:
        self._random = Random(seed)
        self._kills = sorted(kills)
        self._actors: dict[Address, Actor] = {}
        self._lines: dict[tuple[Address, Address], deque[tuple[Any, Arrays]]] = {}
        self._now = 0.0
        self.killed: list[int] = []

    def run(self, cast: Cast, coordinator: Actor) -> None:
        self._cast = cast
        self._enter(COORDINATOR, lambda _: coordinator)
        for address in cast.first:
            self._enter(address, cast.make)
        turns = 0
        while not coordinator.is_over:
            turns += 1
            assert turns < 500_000, "nothing goes on any more"
            if self._kills and turns >= self._kills[0]:
                self._kills.pop(0)
                self._kill()
            self._turn()

    def _enter(self, address: Address, make: Callable[[Address], Actor]) -> None:
        self._actors[address] = make(address)
        self._post(address, self._actors[address].start(self._now))

    def _turn(self) -> None:
        """A message arrives, somebody computes, or time passes."""
        self._now += TURN_S
        for who, actor in list(self._actors.items()):
            if actor.deadline is not None and self._now >= actor.deadline:
                self._post(who, actor.tick(self._now))
        lines = [line for line, queue in self._lines.items() if queue]
        place = self._random.randrange(len(lines) + 1)
        if place < len(lines):
            self._arrive(*lines[place])
        else:
            who = self._random.choice(list(self._actors))
            self._post(who, self._actors[who].work() or ())

    def _arrive(self, sender: Address, to: Address) -> None:
        message, arrays = self._lines[sender, to].popleft()
        actor = self._actors.get(to)
        if actor is not None and not actor.is_over:
            self._post(to, actor.receive(sender, message, arrays, self._now))

    def _post(self, sender: Address, envelopes: Iterable[Envelope]) -> None:
        for to, message, arrays in envelopes:
            if to == THEATRE:
                for address in self._cast.partitions_of(message.replica):
                    self._enter(address, self._cast.make)
            else:
                self._lines.setdefault((sender, to), deque()).append((message, arrays))

    def _kill(self) -> None:
        """Of what the replica had sent last, some lines lose some."""
        alive = sorted({a.number for a in self._actors if a.kind == "replica"})
        if len(alive) < 2:
            return
        number = self._random.choice(alive)
        self.killed.append(number)
        dead = [a for a in self._actors if (a.kind, a.number) == ("replica", number)]
        for (sender, _), line in self._lines.items():
            if sender in dead:
                for _ in range(self._random.randrange(len(line) + 1)):
                    line.pop()
        for address in dead:
            del self._actors[address]
            for who, actor in list(self._actors.items()):
                for line in (self._lines.get((address, who), deque()),):
                    while line:  # what it still said comes before the word that it is lost
                        self._arrive(address, who)
                self._post(who, actor.lost(address, self._now))
