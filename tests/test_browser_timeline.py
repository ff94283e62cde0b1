"""The timeline as people see it: in a real browser, by keyboard and by pointer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import OpenPage
from test_timeline import plan, simulated

from dbgraph.show.forecasted import forecast_timeline
from dbgraph.show.page.shell import page as html
from dbgraph.show.page.timeline import timeline_view
from dbgraph.show.tracks import Arrow, Block, Timeline, Track

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

CANVAS = ".timeline canvas"


def write(folder: Path, timeline: Timeline) -> Path:
    machines = len({t.machine for t in timeline.tracks if t.machine is not None})
    path = folder / "timeline.html"
    path.write_text(html(timeline.title, [timeline_view(timeline)], machines=machines))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    one = plan("stages", 4)
    return write(tmp_path, forecast_timeline(one, simulated(one)))


def title(page: Page) -> str:
    return page.inner_text("#details h2")


def detail(page: Page, name: str) -> str:
    return page.inner_text(f"#details dt:text-is('{name}') + dd")


def picture(page: Page) -> str:
    """What is drawn now."""
    found = page.evaluate(
        "() => { dbg.stages[0].draw(); return dbg.stages[0].canvas.toDataURL(); }"
    )
    assert isinstance(found, str)
    return found


def test_from_a_send_to_its_receive_by_keyboard_alone(open_page: OpenPage, small: Path) -> None:
    page = open_page(small)
    page.wait_for_selector(CANVAS)
    page.keyboard.press("/")
    page.keyboard.type("first to 1, microbatch 2")
    page.keyboard.press("Enter")
    assert title(page) == "first to 1, microbatch 2"
    assert (detail(page, "is"), detail(page, "on")) == ("sends", "partition 0")
    page.keyboard.press("Enter")
    assert title(page) == "first from 0, microbatch 2"
    assert (detail(page, "is"), detail(page, "on")) == ("receives", "partition 1")
    page.keyboard.press("Enter")
    assert title(page) == "first to 1, microbatch 2"
    page.keyboard.press("Escape")
    assert page.is_hidden("#details")


def test_from_a_send_to_its_receive_by_pointer(open_page: OpenPage, small: Path) -> None:
    page = open_page(small)
    page.focus(CANVAS)
    page.keyboard.press("ArrowDown")
    first = title(page)
    page.keyboard.press("ArrowDown")
    assert detail(page, "on") == "partition 1"
    assert title(page) != first
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    for _ in range(30):
        if detail(page, "is") == "receives":
            break
        page.keyboard.press("ArrowRight")
    page.click("text=Go to its send, on partition 0")
    assert (detail(page, "is"), detail(page, "on")) == ("sends", "partition 0")


def test_a_click_selects_what_is_under_the_pointer(open_page: OpenPage, small: Path) -> None:
    page = open_page(small)
    page.click(CANVAS, position={"x": 40, "y": 60})
    assert title(page) == "first, microbatch 0"
    page.hover(CANVAS, position={"x": 42, "y": 60})
    assert "first, microbatch 0" in page.inner_text(".timeline .tip")


def test_the_critical_path_alone(open_page: OpenPage, small: Path) -> None:
    page = open_page(small)
    page.focus(CANVAS)
    whole = picture(page)
    page.keyboard.press("c")
    assert page.get_attribute("[data-switch=critical]", "aria-pressed") == "true"
    assert picture(page) != whole
    page.keyboard.press("n")
    assert detail(page, "critical") == "on the critical path"
    starts = [detail(page, "from")]
    page.keyboard.press("n")
    starts.append(detail(page, "from"))
    assert starts[0] == "0 s" != starts[1]
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    assert page.get_attribute("[data-switch=critical]", "aria-pressed") == "false"


def test_zoom_and_everything_again(open_page: OpenPage, small: Path) -> None:
    page = open_page(small)
    page.focus(CANVAS)
    whole = picture(page)
    page.keyboard.press("w")
    nearer = picture(page)
    assert nearer != whole
    page.keyboard.press("d")
    assert picture(page) != nearer
    before = page.evaluate("dbg.stages[0].view.kx")
    page.mouse.move(600, 300)
    page.mouse.wheel(0, -300)
    page.wait_for_function("before => dbg.stages[0].view.kx > before", arg=before)
    page.mouse.move(5, 5)
    page.keyboard.press("0")
    assert picture(page) == whole


def test_only_one_machine(open_page: OpenPage, small: Path) -> None:
    page = open_page(small)
    page.wait_for_selector(".timeline .names button")
    assert page.locator(".timeline .names button").count() == 3
    page.select_option("#machine", "1")
    assert page.locator(".timeline .names button").all_inner_texts() == ["partition 1"]
    page.focus(CANVAS)
    page.keyboard.press("ArrowDown")
    for _ in range(40):
        if detail(page, "is") == "sends":
            break
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")  # its receive is hidden: all machines are shown again
    assert detail(page, "is") == "receives"
    assert page.locator(".timeline .names button").count() == 3


def test_the_search_lights_what_it_finds(open_page: OpenPage, small: Path) -> None:
    page = open_page(small)
    page.wait_for_selector(CANVAS)
    whole = picture(page)
    page.fill("#search", "second")
    assert picture(page) != whole


def test_dark_and_light(open_page: OpenPage, small: Path) -> None:
    page = open_page(small, dark=True)
    page.wait_for_selector(CANVAS)
    dark = picture(page)
    page.emulate_media(color_scheme="light")
    page.wait_for_function("() => document.getElementById('theme').textContent === '☾'")
    light = picture(page)
    assert light != dark
    page.keyboard.press("t")
    assert picture(page) == dark


def large(tracks: int, blocks_each: int) -> Timeline:
    """Every machine computes, and sends what the next one waits for."""
    kinds = ("compute", "send", "wait", "receive")
    blocks = tuple(
        Block(
            t, kinds[i % 4], i * 1e-5, (i + 1) * 1e-5, f"layer {i % 50}", critical=t == i % tracks
        )
        for t in range(tracks)
        for i in range(blocks_each)
    )
    arrows = tuple(
        Arrow(t * blocks_each + i, (t + 1) * blocks_each + i + 2)
        for t in range(tracks - 1)
        for i in range(1, blocks_each - 2, 4)
    )
    names = tuple(Track(f"partition {t}", f"replica {t // 48}", t) for t in range(tracks))
    return Timeline("large", names, blocks, arrows, "synthetic")


def drawn_while_panning(page: Page) -> int:
    """How many boxes are drawn in the frames of ten moves."""
    found = page.evaluate(
        """async () => {
          const pen = CanvasRenderingContext2D.prototype;
          const { fillRect, putImageData } = pen;
          let count = 0;
          pen.fillRect = function (...box) { count += 1; fillRect.apply(this, box); };
          pen.putImageData = function (...all) { count += 1e6; putImageData.apply(this, all); };
          dbg.stages[0].pan(1, 0);
          for (let i = 0; i < 10; i++) {
            dbg.stages[0].pan(5, 0);
            await new Promise(requestAnimationFrame);
          }
          Object.assign(pen, { fillRect, putImageData });
          return count;
        }"""
    )
    assert isinstance(found, int)
    return found


def test_144_machines_and_200_000_blocks(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(write(tmp_path, large(144, 1400)))
    page.focus(CANVAS)
    assert page.locator(".timeline .names b").all_inner_texts() == [
        "replica 0",
        "replica 1",
        "replica 2",
    ]
    whole = picture(page)
    assert drawn_while_panning(page) < 500  # axis and outlines: the blocks are copied
    page.keyboard.press("0")
    page.keyboard.press("ArrowDown")
    assert detail(page, "on") == "partition 0"
    page.keyboard.press("e")  # tall rows: the last ones are below
    page.keyboard.press("Escape")
    assert picture(page) != whole
    page.keyboard.press("/")
    page.keyboard.type("layer 49")
    page.keyboard.press("Enter")
    assert title(page) == "layer 49"
    page.keyboard.press("f")
    zoomed = page.evaluate("dbg.stages[0].view.width / dbg.stages[0].view.kx")
    assert zoomed < 1e-4  # seconds: some blocks of 14,000 µs


def test_names_of_tracks_are_whole_and_told_by_their_group(
    open_page: OpenPage, tmp_path: Path
) -> None:
    names = [f"replica {r}, partition {p}: messages" for r in range(2) for p in range(2)]
    tracks = [Track(name, name.split(",")[0], None) for name in names]
    tracks.append(Track("shard 0", "parameter server", None))
    blocks = [Block(t, "compute", 0.0, 1.0, "work") for t in range(len(tracks))]
    page = open_page(write(tmp_path, Timeline("a run", tuple(tracks), tuple(blocks), (), "")))
    page.wait_for_selector(CANVAS)
    shown = page.locator(".names button, .names b")
    assert [name.inner_text() for name in shown.all()] == [
        *("replica 0", "partition 0: messages", "partition 1: messages"),
        *("replica 1", "partition 0: messages", "partition 1: messages"),
        *("parameter server", "shard 0"),
    ]
    for name in shown.all():
        assert name.evaluate("e => e.scrollWidth <= e.clientWidth")
