"""Which batches were used: none is lost, and none is used twice in an epoch.

The numbers of `sampler.Batches` are handed out: number n is a fixed set of examples in epoch
n // steps_per_epoch, so a number that is used once is an epoch's examples used once.

| a batch is | and becomes        | when                                                      |
|------------|--------------------|-----------------------------------------------------------|
| free       | out                | a replica takes it, the lowest first                      |
| out        | used               | a push that carries its gradient is applied on all shards |
| out        | used               | its replica is closed, and some shard had applied it      |
| out        | free               | its replica is closed, and no shard had applied it        |

The shards' word counts, not the replica's: each push says which batches it carries, so what a
shard holds and what it says it has used can't differ. Where a replica died half-way through a
push, its batches are used, for the shards that have them would otherwise have them twice; they
are counted as partial.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from dbgraph.errors import CheckpointError, DataError
from dbgraph.ps.messages import Applied, Pairs
from dbgraph.ps.ranges import Ranges
from dbgraph.sampler import Batches

Member = tuple[int, int]
"""(replica, epoch)."""


class LedgerState(msgspec.Struct, frozen=True):
    """What a checkpoint keeps. Batches that were out are free again.

    Attributes:
        length, batch, seed: of the order of the examples, as in `Batches`.
        used: ranges of numbers of batches.
    """

    length: int
    batch: int
    seed: int
    used: Pairs = ()


class Ledger:
    """The batches of one training run.

    Args:
        total: numbers below this are to be used.
        used: those that have been.
    """

    def __init__(self, batches: Batches, total: int, used: Pairs = ()) -> None:
        self.batches, self.total = batches, total
        self._before, self._used = used, Ranges(used)
        self._free = Ranges([(0, total)]).subtract(used)
        self._out: dict[Member, Ranges] = {}
        self.partial = Ranges()

    @staticmethod
    def resume(state: LedgerState, batches: Batches, total: int) -> Ledger:
        """Raises CheckpointError where the numbers would mean other examples."""
        for name in ("length", "batch", "seed"):
            before, now = getattr(state, name), getattr(batches, name)
            if before != now:
                raise CheckpointError(
                    f"the run that is resumed has {name} {before} of its training data, this "
                    f"one {now}: which examples were used can't be told",
                    hint="give the same data, batch and seed",
                )
        return Ledger(batches, total, state.used)

    def state(self, used: Pairs) -> LedgerState:
        """What to keep with a snapshot whose shards have used these batches in this run."""
        order, every = self.batches, Ranges((*self._before, *used))
        return LedgerState(order.length, order.batch, order.seed, every.pairs)

    def take(self, member: Member, count: int) -> Pairs:
        """Hands out so many batches, or as many as are free."""
        taken: list[tuple[int, int]] = []
        for start, stop in self._free.pairs:
            if count <= 0:
                break
            taken.append((start, min(stop, start + count)))
            count -= taken[-1][1] - start
        self._free = self._free.subtract(taken)
        self._out.setdefault(member, Ranges()).update(taken)
        return tuple(taken)

    def applied(self, member: Member, batches: Pairs) -> None:
        """All shards have applied pushes that carry these batches."""
        held = self._out.get(member, Ranges())
        self._used.update(held.intersect(batches).pairs)
        self._out[member] = held.subtract(batches)

    def close(self, member: Member, applied: Iterable[Applied]) -> Pairs:
        """A replica's epoch is closed; returns what is free again.

        Args:
            applied: the last word of all shards.
        """
        used, partial = used_of(applied)
        self.applied(member, used.pairs)
        self.partial.update(partial.pairs)
        returned = self._out.pop(member, Ranges()).pairs
        self._free.update(returned)
        return returned

    @property
    def used(self) -> Pairs:
        return self._used.pairs

    @property
    def free(self) -> int:
        """Number of batches that may be taken."""
        return len(self._free)

    @property
    def out(self) -> int:
        """Number of batches that replicas have."""
        return sum(map(len, self._out.values()))

    @property
    def is_complete(self) -> bool:
        return not self.free and not self.out


def used_of(applied: Iterable[Applied]) -> tuple[Ranges, Ranges]:
    """(used, partial): batches that some stream has on some shard; those that not all have.

    Args:
        applied: of all shards; each lists all streams that push to it.
    """
    everywhere: dict[Member, Ranges] = {}
    used, partial = Ranges(), Ranges()
    rows = list(applied)
    for one in rows:
        member = one.replica, one.epoch
        common = everywhere.get(member)
        everywhere[member] = (
            Ranges(one.batches) if common is None else common.intersect(one.batches)
        )
        used.update(one.batches)
    for one in rows:
        missing = Ranges(one.batches).subtract(everywhere[one.replica, one.epoch].pairs)
        partial.update(missing.pairs)
    return used, partial


def share(batches: Batches, replicas: int, wanted: int) -> int:
    """How many batches to hand out at a time, so that an epoch feeds all replicas.

    Raises DataError where it has fewer batches than there are replicas.
    """
    per_epoch = batches.steps_per_epoch
    if per_epoch < replicas:
        raise DataError(
            f"{batches.length} examples make {per_epoch} batches of {batches.batch}, too few for "
            f"{replicas} replicas",
            hint=f"use {per_epoch} replicas or fewer, smaller batches, or more data",
        )
    return min(wanted, per_epoch // replicas)


def numbers(pairs: Sequence[tuple[int, int]]) -> Iterable[int]:
    """All numbers of some ranges, in order."""
    return (n for start, stop in pairs for n in range(start, stop))
