"""The table of replicas and shards under the progress bar."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.progress import Progress
from rich.table import Table

from dbgraph.train.standing import Standing


class TableProgress(Progress):
    """A progress bar, with the table under it where there is one."""

    _standing: Table | None = None

    def show(self, standing: Standing, now: float) -> None:
        self._standing = _table(standing, now)
        self.refresh()

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self._standing is not None:
            yield self._standing


def _table(standing: Standing, now: float) -> Table:
    table = Table("", "", "per second", "staleness, MB/s", "heard", box=None)
    for number, one in sorted(standing.replicas.items()):
        stale = "" if one.staleness is None else str(one.staleness)
        rate = f"{one.rate.per_s:,.0f} examples"
        heard = f"{max(now - one.heard_s, 0):.1f} s ago"
        table.add_row(f"replica {number}", one.doing, rate, stale, heard)
    for number, server in sorted(standing.shards.items()):
        rate = f"{server.updates.per_s:,.0f} updates"
        table.add_row(f"shard {number}", "", rate, f"{server.bytes.per_s / 1e6:,.1f}", "")
    return table
