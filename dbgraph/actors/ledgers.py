"""Which batches a run that goes on has used."""

from __future__ import annotations

from dbgraph.ps.ledger import Ledger
from dbgraph.ps.snapshot import record_of
from dbgraph.sampler import Batches
from dbgraph.state import State


def make_ledger(batches: Batches, total: int, begin: State | None) -> Ledger:
    """That of a run which goes on from a state; one without a record has used a batch per step.

    Raises CheckpointError where which examples were used can't be told.
    """
    record = record_of(begin) if begin is not None else None
    if record is not None:
        return Ledger.resume(record.ledger, batches, total)
    done = begin.step if begin is not None else 0
    return Ledger(batches, total, ((0, done),) if done else ())
