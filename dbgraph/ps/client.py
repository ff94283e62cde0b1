"""One partition of a replica under Downpour SGD: pure, events in, instructions out.

Dean et al. 2012, Algorithm 7.1, with what it leaves to the reader:

    step = 0; accrued = 0
    loop:
        if step mod n_fetch = 0: begin to fetch                  (1)
        gradient = compute(parameters, batch)
        accrued += gradient
        parameters -= local_rate * gradient                      (2)
        if step mod n_push = 0: push accrued; accrued = 0        (3)
        step += 1

(1) A fetch that was begun before step s is used by the first step that begins after it has
    arrived, and step s + n_fetch - 1 waits for it. So parameters are never older than that, no two
    fetches overlap, and with n_fetch = 1 every step waits for its own. The very first step waits
    in any case.
(2) No local gradient is lost by a fetch that arrives between two pushes. The shard says which of
    this stream's pushes the fetched values contain; then
        parameters = fetched - local_rate * (pushes that they do not contain + accrued).
(3) A push is acknowledged by each shard; that it comes there once and in order is the transport's
    task. With compression `accrued` becomes what the push has lost by it, instead of 0.

| event    | while                    | instructions                                  |
|----------|--------------------------|-----------------------------------------------|
| start    |                          | a fetch                                       |
| finished | a step is computed       | a push if due, a fetch if due, the next step  |
| fetched  | it is awaited            | the next step, when all shards have answered  |
| pushed   |                          | Ended, when it was the last one after `stop`  |
| refused  | the epoch is closed      | Dismissed: the replica was given up           |
| stop     | no step is computed      | a push of what is accrued, uncompressed;      |
|          |                          | Ended, when all is acknowledged               |

A shard's fetch waits for the pushes that were sent to it before (`messages.Fetch.after`), so with
n_fetch = n_push = 1 and one replica this is the server's rule, step by step, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dbgraph.errors import RunError
from dbgraph.ps.compress import Arrays, Compression
from dbgraph.ps.gradients import Gradient
from dbgraph.ps.local import Gradients, LocalModel
from dbgraph.ps.messages import Fetch, Fetched, Pairs, Push, Pushed, Reason, Refused
from dbgraph.ps.options import Downpour
from dbgraph.ps.packing import pack, part_of
from dbgraph.ps.ranges import Ranges
from dbgraph.ps.routes import Leaves, Routes
from dbgraph.ps.underway import Base, Fetching, Send, Sent


@dataclass(frozen=True, slots=True)
class Begin:
    """Please compute the gradients of the next batch with these parameters.

    Attributes:
        parameters: by the leaf's name; the client changes them no more.
        is_fetched: whether a fetch is in them that was not in the last step's.
    """

    step: int
    parameters: Leaves
    is_fetched: bool


@dataclass(frozen=True, slots=True)
class Ended:
    """All pushes are acknowledged, after `stop`."""


@dataclass(frozen=True, slots=True)
class Dismissed:
    """A shard takes nothing from this replica any more: it is to end.

    Attributes:
        why: for people.
    """

    why: str


Instruction = Send | Begin | Ended | Dismissed


class Client:
    """The state machine.

    Args:
        replica, partition, epoch: who it is.
        routes: of the partition.
        local_rate: see `Downpour.rate`.

    Attributes:
        acknowledged: the last push that all shards have applied, with all before it.
        applied: the batches in those.
    """

    def __init__(
        self,
        replica: int,
        partition: int,
        epoch: int,
        routes: Routes,
        options: Downpour,
        local_rate: float,
    ) -> None:
        self.acknowledged = 0
        self.applied = Ranges()
        self._who = (replica, partition, epoch)
        self._routes, self._options = routes, options
        self._push_compression = Compression.parse(options.push_compression)
        self._fetch_codec = Compression.parse(options.fetch_compression).codec
        self._local = LocalModel(routes, local_rate)
        self._step = 0
        self._computing = self._stopping = self._ended = False
        self._sequence = self._fetches = 0
        self._pushes: list[Sent] = []
        self._fetching: Fetching | None = None

    # Events

    def start(self) -> list[Instruction]:
        return self._go_on()

    def finished(self, gradients: Gradients, batches: Pairs) -> list[Instruction]:
        """The step's gradients are there; the client keeps them and changes nothing in them.

        Args:
            batches: the numbers of the batches that they are of, as ranges.

        Raises RunError where they are not those of all trained leaves.
        """
        if set(gradients) != self._routes.trained or not self._computing:
            raise RunError("a client is given a step's gradients, all of them, when it is done")
        self._local.accrue(self._routes.thinned(gradients), batches)
        self._computing = False
        sends = self._push(self._push_compression) if self._step % self._options.n_push == 0 else []
        self._step += 1
        return [*sends, *self._go_on()]

    def fetched(self, shard: int, message: Fetched, arrays: Arrays) -> list[Instruction]:
        """A shard has answered a fetch; the client owns the arrays from now on."""
        fetching = self._fetching
        if fetching is None or not self._is_mine(message):
            return []
        if message.number != fetching.number or shard in fetching.bases:
            return []
        fetching.bases[shard] = Base(message.version, message.sequence)
        fetching.arrays[shard] = arrays
        return [] if self._computing else self._go_on()

    def pushed(self, shard: int, message: Pushed) -> list[Instruction]:
        """A shard has applied pushes."""
        if not self._is_mine(message):
            return []
        for sent in self._pushes:
            if sent.sequence <= message.sequence:
                sent.open.discard(shard)
        self._acknowledge()
        return self._end()

    def refused(self, shard: int, message: Refused) -> list[Instruction]:
        """A shard has not taken a message. After the end nothing hangs on it: a fetch that was
        held when the replica left, for instance.

        Raises RunError for any other reason than that the replica was given up.
        """
        if not self._is_mine(message) or self._ended:
            return []
        why = f"shard {shard}: {message.what}: {message.reason} {message.detail}".strip()
        if message.reason is not Reason.CLOSED:
            raise RunError(why)
        return [Dismissed(why)]

    def stop(self) -> list[Instruction]:
        """No step will be finished any more; a Begin that was not followed is void."""
        self._stopping, self._computing, self._fetching = True, False, None
        sends = self._push(Compression()) if self._local.accrued else []
        return [*sends, *self._end()]

    @property
    def awaits(self) -> tuple[int, ...]:
        """The shards whose parameters the next step waits for."""
        fetching = self._fetching
        if fetching is None or self._computing:
            return ()
        return tuple(shard for shard in self._routes.fetched if shard not in fetching.bases)

    # Inside

    def _is_mine(self, message: Fetched | Pushed | Refused) -> bool:
        """Not an answer to who had the replica's number before."""
        return (message.replica, message.partition, message.epoch) == self._who

    def _go_on(self) -> list[Instruction]:
        """Between two steps: begins a fetch if one is due, and the next step if it may."""
        if self._stopping or self._computing:
            return []
        n = self._options.n_fetch
        sends: list[Instruction] = []
        if self._fetching is None and self._step % n == 0:
            sends += self._fetch()
        fetching = self._fetching
        if fetching is not None and len(fetching.bases) < len(self._routes.fetched):
            if self._local.parameters is None or self._step >= fetching.step + n - 1:
                return sends
            fetching = None
        return [*sends, self._begin(fetching)]

    def _begin(self, fetched: Fetching | None) -> Begin:
        local = self._local
        if fetched is None:
            local.descend()
        else:
            values = self._routes.assemble(self._fetch_codec, fetched.arrays)
            local.land(values, fetched.bases, self._pushes)
            self._fetching = None
            self._forget()
        assert local.parameters is not None
        self._computing = True
        return Begin(self._step, local.parameters, fetched is not None)

    def _fetch(self) -> list[Instruction]:
        self._fetches += 1
        routes = self._routes
        self._fetching = Fetching(self._fetches, self._step, self._sequence)
        sends: list[Instruction] = []
        for shard, parts in routes.fetch_parts.items():
            after = self._sequence if shard in routes.pushed else 0
            fetch = Fetch(*self._who, self._fetches, after, parts, codec=self._fetch_codec)
            sends.append(Send(shard, fetch))
        return sends

    def _push(self, compression: Compression) -> list[Instruction]:
        """Sends what is accrued to all shards; what compression loses stays accrued."""
        self._sequence += 1
        messages = {s: self._push_to(s, compression) for s in self._routes.pushed}
        seen, lost = self._seen(messages, compression.codec)
        self._pushes.append(Sent(self._sequence, self._local.batches.pairs, seen, set(messages)))
        self._local.pushed(lost)
        self._acknowledge()
        return [*messages.values()]

    def _push_to(self, shard: int, compression: Compression) -> Send:
        cuts = self._routes.cut(shard, self._local.accrued)
        arrays = pack([gradient for _, gradient in cuts], compression)
        base = self._local.bases.get(shard, Base())
        push = Push(
            *self._who,
            sequence=self._sequence,
            version=base.version,
            contains=base.sequence,
            batches=self._local.batches.pairs,
            parts=tuple(part_of(way.owned, gradient) for way, gradient in cuts),
            codec=compression.codec,
        )
        return Send(shard, push, arrays)

    def _seen(
        self, messages: Mapping[int, Send], codec: str
    ) -> tuple[dict[str, Gradient], dict[str, Gradient]]:
        """(what the shards see of the accrued gradients, what they do not)."""
        accrued = self._local.accrued
        if codec == "none":
            return accrued, {}
        parts = {shard: send.message.parts for shard, send in messages.items()}
        arrays = {shard: send.arrays for shard, send in messages.items()}
        dense = self._routes.assemble(codec, arrays, parts)
        lost = {leaf: np.asarray(accrued[leaf] - values) for leaf, values in dense.items()}
        return {**accrued, **dense}, {**lost}

    def _acknowledge(self) -> None:
        open_ = [sent.sequence for sent in self._pushes if sent.open]
        self.acknowledged = min(open_, default=self._sequence + 1) - 1
        for sent in self._pushes:
            if sent.sequence <= self.acknowledged:
                self.applied.update(sent.batches)
        self._forget()

    def _forget(self) -> None:
        """Pushes that are applied everywhere, and in every fetch that is to come."""
        after = self._fetching.after if self._fetching is not None else self._sequence
        self._pushes = [s for s in self._pushes if s.open or s.sequence > after]

    def _end(self) -> list[Instruction]:
        if not self._stopping or self._ended or any(sent.open for sent in self._pushes):
            return []
        self._ended = True
        return [Ended()]
