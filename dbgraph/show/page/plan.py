"""A plan as one HTML file: the cut, its levels, the machines, the simulated step."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from dbgraph.cluster import Cluster
from dbgraph.plan.plan import Plan
from dbgraph.plan.verify import failures
from dbgraph.show.digest import Digest
from dbgraph.show.flow import flow
from dbgraph.show.forecasted import forecast_timeline
from dbgraph.show.machines import machines_words
from dbgraph.show.page.cut import cut_columns
from dbgraph.show.page.figures import figure_columns
from dbgraph.show.page.problems import Problems
from dbgraph.show.page.shell import Problem, View, page
from dbgraph.show.page.tiles import Tiles
from dbgraph.show.page.timeline import timeline_view
from dbgraph.show.page.transfers import program_columns, transfer_columns
from dbgraph.show.svg import plan_svg
from dbgraph.show.table import headline
from dbgraph.simulate import Forecast, MachineForecast, simulate
from dbgraph.units import bytes_, seconds

_HEAD = ("name", "fingerprint", "mode", "strategy", "partitions", "batch", "microbatches", "seed")
_FRAME_HEIGHT = 640


def plan_page(plan: Plan) -> str:
    """The file's text, for equal machines of the documented default."""
    return drawn(plan)[0]


def drawn(
    plan: Plan, cluster: Cluster | None = None, cluster_name: str = ""
) -> tuple[str, tuple[Problem, ...]]:
    """The file's text, and what is wrong with the plan. One that breaks a rule is drawn too, with a
    mark where; it has no forecast, for nobody can say what it would do.

    Args:
        cluster: what the forecast is for; None: equal machines of the documented default.
        cluster_name: of its file.
    """
    machines = cluster or Cluster.equal(plan.partitions)
    broken = list(failures(plan))
    forecast = _nothing(plan) if broken else _simulated(plan, machines)
    digest = Digest(plan, forecast, machines, cluster_name)
    tiles = Tiles(digest, flow(digest))
    problems = Problems(plan, tiles.layer_index).of(broken, forecast)
    text = page(
        plan.name,
        list(_views(tiles)),
        subtitle=_subtitle(digest, bool(broken)),
        machines=plan.partitions,
        problems=problems,
    )
    return text, problems


def plan_frame(plan: Plan) -> str:
    """The page in a frame of its own, for notebooks: its styles and scripts stay inside."""
    return (
        f'<iframe title="{escape(plan.name)}" srcdoc="{escape(plan_page(plan))}" '
        f'sandbox="allow-scripts" style="width:100%;height:{_FRAME_HEIGHT}px;border:0"></iframe>'
    )


def plan_picture(plan: Plan) -> str:
    """An SVG, for notebooks that take pictures only."""
    return plan_svg(Digest(plan, _simulated(plan, Cluster.equal(plan.partitions))))


def plan_data(tiles: Tiles) -> dict[str, Any]:
    """The section "plan", which the views share: the tables that `tiles.py`, `transfers.py` and
    `figures.py` list, and `head`."""
    digest = tiles.digest
    plan, forecast = digest.plan, digest.forecast
    return {
        "head": {
            **{key: getattr(plan, key) for key in _HEAD},
            "step_s": forecast.step_s,
            "busiest": forecast.busiest,
            "traffic_bytes": digest.traffic_bytes,
            "deadlock": bool(forecast.blocked),
            "cluster": machines_words(digest.cluster, digest.cluster_name),
        },
        **tiles.columns(),
        **transfer_columns(tiles),
        **program_columns(tiles),
        **figure_columns(digest),
    }


def _views(tiles: Tiles) -> Iterator[View]:
    digest = tiles.digest
    yield View("plan", plan_data(tiles), ("plan.js",))
    yield View("cut", cut_columns(tiles), ("geometry.js", "labels.js", "cut.js"))
    yield View("levels", {}, ("levels.js",))
    yield View("machines", {}, ("machines.js",))
    if digest.forecast.timeline:
        yield timeline_view(forecast_timeline(digest.plan, digest.forecast))


def _simulated(plan: Plan, cluster: Cluster) -> Forecast:
    return simulate(plan.graph, plan.transfers, plan.programs, cluster, timeline=True)


def _nothing(plan: Plan) -> Forecast:
    """Of a plan that can't be simulated."""
    zero = MachineForecast(0.0, 0, 0, 0, 0, 0)
    return Forecast(0.0, (zero,) * plan.partitions)


def _subtitle(digest: Digest, broken: bool) -> str:
    """How it was cut, and what it costs."""
    forecast, plan = digest.forecast, digest.plan
    words = headline(digest).removeprefix(f"{plan.name}: ")
    if broken:
        return f"{words} · no forecast: it breaks a rule"
    if forecast.blocked:
        return f"{words} · it never ends: machines wait for each other"
    return (
        f"{words} · a step: {seconds(forecast.step_s)}, {bytes_(digest.traffic_bytes)} between "
        f"machines · on {machines_words(digest.cluster, digest.cluster_name)}"
    )
