"""The page of a run as people see it: live while it goes on, and as a file after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import OpenPage
from runs import at, standing, start, whole

from dbgraph.watch.fold import fold
from dbgraph.watch.page import report
from dbgraph.watch.server import Dashboard

pytestmark = pytest.mark.slow
sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect


@pytest.fixture
def dashboard() -> Iterator[Dashboard]:
    found = Dashboard()
    yield found
    found.close()


@pytest.mark.parametrize("dark", [False, True])
def test_the_dashboard_follows_a_run(open_page: OpenPage, dashboard: Dashboard, dark: bool) -> None:
    dashboard.take(start())
    page = open_page(dashboard.url, dark=dark)
    expect(page.locator("h1")).to_have_text("digits")
    expect(page.locator("#status")).to_contain_text("step 0 of 400")
    dashboard.take(at("train", 100, loss=0.75, examples_per_s=12800.0))
    dashboard.take(standing(100, machines=2))
    expect(page.locator("#status")).to_contain_text("step 100 of 400")
    expect(page.locator("#status")).to_contain_text("3 s left")
    expect(page.locator("#figures")).to_contain_text("0.75")
    expect(page.get_by_role("img", name="Loss: training 0.75")).to_be_visible()
    expect(page.get_by_role("img", name="Staleness: 76 pushes")).to_be_visible()
    expect(page.get_by_text("replica 1")).to_be_visible()
    expect(page.get_by_text("RUN s0.0 (hidden)").first).to_be_visible()
    # Its records are from long ago: nobody was heard since.
    expect(page.get_by_text("silent:").first).to_be_visible()
    expect(page.locator("#alarms")).to_be_hidden()
    dashboard.take(at("alarm", 110, rule="the loss rises: 3 after 1", replica=0))
    expect(page.locator("#alarms")).to_contain_text("⚠ step 110 the loss rises: 3 after 1")
    dashboard.take(at("end", 110, reason="error", error="the disk is full"))
    expect(page.locator("#status")).to_contain_text("the disk is full")
    dashboard.close()
    expect(page.locator(".state")).to_have_text("failed")


@pytest.fixture
def two_runs(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(
        report(
            [
                ("slow <b>", fold(whole())),
                ("fast", fold(whole(300, 40.0, rule="adam", algorithm_options={"n_fetch": 3}))),
            ]
        )
    )
    return path


@pytest.mark.parametrize("dark", [False, True])
def test_a_report_compares_runs(open_page: OpenPage, two_runs: Path, dark: bool) -> None:
    page = open_page(two_runs, dark=dark)
    rows = page.locator("#figures tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("slow <b>")
    expect(rows.nth(1)).to_contain_text("300")
    differ = page.locator("#tables tbody tr")
    expect(differ).to_have_count(2)
    expect(differ.nth(0)).to_have_text("rulesgd:learning_rate=0.1adam")
    expect(differ.nth(1)).to_have_text("n fetch13")
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") is not dark


def test_a_chart_is_read_by_keyboard_and_pointer(open_page: OpenPage, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(report([("a", fold(whole()))]))
    page = open_page(path)
    plot = page.get_by_role("img", name="Loss:")
    legend = page.locator("figure", has_text="Loss").first.locator(".series")
    plot.focus()
    page.keyboard.press("Home")
    expect(legend).to_contain_text("step 10")
    page.keyboard.press("ArrowRight")
    expect(legend).to_contain_text("step 20")
    page.keyboard.press("Escape")
    expect(legend).not_to_contain_text("step")
    page.keyboard.press("a")
    expect(page.locator("#axis")).to_have_value("1")
    page.keyboard.press("End")
    expect(legend).to_contain_text("4 s")
    box = plot.bounding_box()
    assert box is not None
    page.keyboard.press("a")
    page.mouse.move(box["x"] + box["width"] - 15, box["y"] + 50)
    expect(legend).to_contain_text("step 400")
    before = plot.locator("path").first.get_attribute("d")
    page.keyboard.press("l")
    expect(page.locator("#log")).not_to_be_checked()
    assert plot.locator("path").first.get_attribute("d") != before
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.style.colorScheme") == "dark"
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_a_replica_that_has_left_is_not_missed(open_page: OpenPage, dashboard: Dashboard) -> None:
    told = standing(100)
    told["replicas"][1] |= {"doing": "gone"}
    dashboard.take(start())
    dashboard.take(told)
    page = open_page(dashboard.url)
    rows = page.locator("figure", has_text="Replicas").locator("tbody tr")
    expect(rows.nth(0)).to_contain_text("6.4 k/s")
    expect(rows.nth(0)).to_contain_text("silent:")  # its records are from long ago
    expect(rows.nth(1)).to_contain_text("–")
    expect(rows.nth(1)).not_to_contain_text("silent:")


def test_no_table_of_a_run_is_cut(open_page: OpenPage, dashboard: Dashboard) -> None:
    dashboard.take(start())
    dashboard.take(at("train", 100, loss=0.75, examples_per_s=12800.0))
    dashboard.take(standing(100, machines=2))
    page = open_page(dashboard.url, width=1400, height=1300)
    expect(page.get_by_text("replica 1")).to_be_visible()
    tables = page.locator("#charts figure.table")
    assert tables.count() == 4  # machines, replicas, shards, options
    for table in tables.all():
        assert table.evaluate("e => e.scrollWidth <= e.clientWidth")
        assert table.evaluate("e => e.scrollHeight <= e.clientHeight")


def test_nothing_is_wider_than_a_small_window(open_page: OpenPage, two_runs: Path) -> None:
    page = open_page(two_runs, width=420)
    main = page.locator("main")
    assert main.evaluate("e => e.scrollWidth <= e.clientWidth")
