"""A plan's page in a real browser: as people see it, with the network off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dbgraph.compile import make_plan
from dbgraph.plan.text import parse_plan, print_plan
from dbgraph.show.page.plan import drawn
from dbgraph.userfile import call, load_function

if TYPE_CHECKING:
    from browser import OpenPage
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow
DIGITS = Path(__file__).parent.parent / "examples" / "digits.py"


@pytest.fixture(scope="module")
def text() -> str:
    declared = call(load_function(f"{DIGITS}:network"))
    return print_plan(make_plan(declared, 4, strategy="tiles"))


@pytest.fixture(scope="module")
def html(text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written(text, tmp_path_factory.mktemp("page"))


def _written(text: str, folder: Path) -> Path:
    (folder / "plan.html").write_text(drawn(parse_plan(text))[0], encoding="utf-8")
    return folder / "plan.html"


def opened(open_page: OpenPage, html: Path, **options: Any) -> Page:
    page = open_page(html, **options)
    page.wait_for_selector("html[data-ready]")
    page.evaluate("dbg.stages[0].draw()")
    return page


_INK = """(id) => {
  const canvas = document.querySelector(`#view-${id} canvas`);
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const found = {};
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 250) {
      const key = [data[i], data[i + 1], data[i + 2]].join();
      found[key] = (found[key] || 0) + 1;
    }
  }
  return found;
}"""
BLUE, ORANGE, GREEN, PURPLE = "0,114,178", "230,159,0", "0,158,115", "204,121,167"


def ink(page: Page, view: str = "cut") -> dict[str, int]:
    """How many pixels of a canvas have which colour."""
    found: dict[str, int] = page.evaluate(_INK, view)
    return found


def shown(page: Page) -> str:
    found: str = page.evaluate("document.querySelector('[role=tab][aria-selected=true]').innerText")
    return found


def test_it_opens_with_the_cut_in_four_colours(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    assert page.title() == "digits"
    assert shown(page) == "The cut"
    assert all(ink(page).get(colour, 0) > 3000 for colour in (BLUE, ORANGE, GREEN, PURPLE))


def test_dark_and_light_by_the_system_and_by_the_switch(open_page: OpenPage, html: Path) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    light, dark = opened(open_page, html), opened(open_page, html, dark=True)
    assert light.evaluate(back) == "rgb(255, 255, 255)"
    assert dark.evaluate(back) == "rgb(20, 23, 27)"
    light.click("#theme")
    assert light.evaluate(back) == dark.evaluate(back)
    light.keyboard.press("t")
    assert light.evaluate(back) == "rgb(255, 255, 255)"


def test_a_machine_is_singled_out(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    before = ink(page)
    page.select_option("#machine", "1")
    page.evaluate("dbg.stages[0].draw()")
    after = ink(page)
    assert after.get(GREEN, 0) < before[GREEN] / 10
    page.keyboard.press("Escape")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Escape")
    page.evaluate("dbg.stages[0].draw()")
    assert ink(page)[GREEN] == before[GREEN]


def test_pointing_at_a_region_tells_of_it(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    x, y = page.evaluate(
        """() => {
          const { view, canvas } = dbg.stages[0];
          const box = canvas.getBoundingClientRect();
          const sheet = dbg.data.cut.sheets;
          const s = sheet.layer.findIndex((l) => dbg.data.plan.layers.name[l] === "pool2d1");
          return [box.x + (sheet.x[s] + 10 - view.x) * view.kx,
            box.y + (sheet.y[s] + 20 - view.y) * view.ky];
        }"""
    )
    page.mouse.move(x, y)
    tip = page.locator("#view-cut .tip")
    tip.wait_for(state="visible")
    words = tip.inner_text()
    assert "pool2d1" in words
    assert "rows 0:2, cols 0:2" in words
    assert "digits.py:" in words
    page.mouse.click(x, y)
    assert "pool2d1" in page.locator("#details").inner_text()


def test_search_with_the_keyboard_alone(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    page.keyboard.press("/")
    page.keyboard.type("dense1")
    assert page.locator("#found li").first.inner_text().startswith("dense1")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    details = page.locator("#details")
    assert details.locator("h2").inner_text() == "dense1"
    assert "32,896" in details.inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert details.is_hidden()


def test_levels_open_with_the_keyboard_alone(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    page.keyboard.press("2")
    assert shown(page) == "Levels"
    page.focus("#view-levels .grid")
    rows = page.locator("#view-levels .rows .row")
    assert rows.nth(1).inner_text().startswith("▸")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    words = page.locator("#details").inner_text()
    assert "locallyconnected2d1/local2d[0]" in words
    assert "rows 0:4, cols 0:4" in words


def test_only_what_crosses_and_only_one_machine(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    page.keyboard.press("2")
    page.evaluate("dbg.bus.emit('select', { kind: 'transfer', id: 0 })")
    count = "document.querySelector('#view-levels .grid').getAttribute('aria-rowcount')"
    everything = int(page.evaluate(count))
    page.keyboard.press("x")
    crossing = int(page.evaluate(count))
    assert crossing < everything
    page.keyboard.press("]")
    assert page.evaluate("document.getElementById('machine').value") == "0"
    assert int(page.evaluate(count)) < crossing


def test_a_machine_opens_into_its_program(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    page.keyboard.press("/")
    page.keyboard.type("machine 2")
    page.keyboard.press("Enter")
    page.click("text=Open in levels")
    page.focus("#view-levels .grid")
    page.keyboard.press("ArrowRight")
    rows = page.locator("#view-levels .row.is-instruction")
    assert rows.first.inner_text().split("\n")[0].strip().startswith("RUN s0.0")


def test_machines_are_sorted_and_the_matrix_is_drawn(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    page.keyboard.press("3")
    busiest = page.evaluate("dbg.data.plan.head.busiest")
    first = page.locator("#view-machines tbody tr").first
    assert first.get_attribute("data-machine") == str(busiest)
    page.evaluate("dbg.stages.at(-1).draw()")
    assert sum(ink(page, "machines").values()) > 1000
    first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.getElementById('machine').value") == str(busiest)


def test_the_matrix_is_seen_in_a_small_window_too(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html, width=600)
    page.keyboard.press("3")
    page.wait_for_function("() => dbg.stages.at(-1).view.height > 300")
    assert sum(ink(page, "machines").values()) > 1000


def test_every_canvas_is_drawn_anew_for_print(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html, dark=True)
    assert ink(page).get(BLUE, 0) == 0  # another blue in the dark
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert ink(page)[BLUE] > 1000
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.wait_for_function(f"id => !({_INK})(id)['{BLUE}']", arg="cut")


def test_arrows_go_through_the_cut(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    page.focus("#view-cut canvas")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("#details h2").inner_text() == "locallyconnected2d1"
    page.keyboard.press("ArrowDown")
    assert "[0]" in page.locator("#details h2").inner_text()
    page.keyboard.press("Enter")
    assert shown(page) == "Levels"


def test_panning_copies_and_rest_draws_sharp(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    before = page.evaluate("dbg.stages[0].view.x")
    page.mouse.move(600, 200)
    page.mouse.down()
    page.mouse.move(500, 200, steps=5)
    page.mouse.up()
    assert page.evaluate("dbg.stages[0].view.x") > before
    page.wait_for_function(f"id => (({_INK})(id)['{BLUE}'] || 0) > 1000", arg="cut")


_LABELS = """() => {
  const found = [];
  const { write } = dbg.Labels.prototype;
  dbg.Labels.prototype.write = (ctx, text) => found.push(text);
  dbg.stages[0].draw();
  dbg.Labels.prototype.write = write;
  return found;
}"""


def test_names_stay_whole_in_a_narrow_window(open_page: OpenPage, html: Path) -> None:
    wide = opened(open_page, html).evaluate(_LABELS)
    assert {"locallyconnected2d1", "8 × 8 × 16", "rows 2 × cols 2"} <= set(wide)
    narrow = opened(open_page, html, width=600).evaluate(_LABELS)
    assert {"image", "locallyconnected2d1", "localcontrastnorm1", "dropout1", "dense2"} <= set(
        narrow
    )
    assert "8 × 8 × 16" not in narrow  # for more there is no room
    assert len([name for name in narrow if "…" in name]) <= 1


def test_the_heading_of_levels_goes_along(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html, width=375)
    page.keyboard.press("2")
    places = """() => {
      const grid = document.querySelector("#view-levels .grid");
      grid.scrollLeft = 300;
      const left = (row, k) => grid.querySelector(row).children[k].getBoundingClientRect().left;
      return [left(".head", 4), left(".rows .row", 4), left(".head", 0), left(".rows .row", 0)];
    }"""
    flop, its_flop, name, its_name = page.evaluate(places)
    assert flop == its_flop
    assert name == its_name >= 0  # names stay in sight


def test_the_cursor_of_levels_is_not_below_the_heading(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html, height=400)
    page.keyboard.press("2")
    page.focus("#view-levels .grid")
    for key in ("End", "Home", "PageDown", "PageUp", "End"):
        page.keyboard.press(key)
        above, below = page.evaluate(
            """() => {
              const view = document.getElementById("view-levels");
              const box = (part) => view.querySelector(part).getBoundingClientRect();
              const row = box(".row.at");
              return [row.top - box(".head").bottom, box(".grid").bottom - row.bottom];
            }"""
        )
        assert above >= -1
        assert below >= -1


def test_a_machine_is_not_busier_than_the_step_is_long(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    page.keyboard.press("3")
    loads = page.evaluate(
        """() => [...document.querySelectorAll("#view-machines tbody tr")].map((row) => {
          const m = dbg.data.plan.machines, p = Number(row.dataset.machine);
          const load = m.compute_s[p] + m.send_s[p] + m.receive_s[p];
          return [load, dbg.seconds(load), row.children[1].innerText.trim()];
        })"""
    )
    assert [load for load, _, _ in loads] == sorted((load for load, _, _ in loads), reverse=True)
    assert all(told == written for _, told, written in loads)
    assert loads[0][0] <= page.evaluate("dbg.data.plan.head.step_s")


def test_help_lists_the_keys(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html)
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert "Levels" in page.locator("#help").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()


def test_a_broken_plan_shows_where(open_page: OpenPage, text: str, tmp_path: Path) -> None:
    at = text.index("\nRECV t0.0\n")
    page = opened(open_page, _written(text[:at] + text[at + len("\nRECV t0.0") :], tmp_path))
    assert "is not there yet" in page.locator("#problems").inner_text()
    page.click("#problems button")
    assert shown(page) == "Levels"
    marked = page.locator("#view-levels .row.is-instruction.wrong")
    assert "✗" in marked.inner_text()
    page.keyboard.press("3")
    first = page.locator("#view-machines tbody tr").first
    assert [cell.inner_text() for cell in first.locator(".bar b").all()][:-1] == ["–"] * 5
    assert "There is no forecast." in page.locator("#view-machines .matrix").inner_text()


def test_it_prints_light(open_page: OpenPage, html: Path) -> None:
    page = opened(open_page, html, dark=True)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#tools").is_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"


def test_what_is_selected_in_one_view_is_seen_in_the_timeline(
    open_page: OpenPage, html: Path
) -> None:
    page = opened(open_page, html)
    page.evaluate("dbg.bus.emit('show', 'timeline')")
    all_ink = _coloured(page)
    least = {}
    layer = page.evaluate("dbg.data.plan.layers.name.indexOf('dense1')")
    tile = page.evaluate("(layer) => dbg.plan(dbg.data).tilesOfNode.flat().find("
                         "(t) => dbg.plan(dbg.data).tileLayer(t) === layer)", layer)  # fmt: skip
    things = {"layer": layer, "tile": tile, "machine": 1, "transfer": 0, "instruction": 0}
    for kind, number in things.items():
        page.evaluate("([kind, id]) => dbg.bus.emit('select', {kind, id})", [kind, number])
        page.evaluate("dbg.bus.emit('show', 'timeline')")
        least[kind] = _coloured(page)
        assert 0 < least[kind] < all_ink, kind
    assert least["tile"] < least["layer"]
    assert least["instruction"] < least["machine"]
    page.evaluate("dbg.bus.emit('select', null)")
    assert _coloured(page) == all_ink


def _coloured(page: Page) -> int:
    """Pixels of the timeline in the full colours of computing and of messages."""
    page.wait_for_function(  # the details beside it may have come or gone
        "() => dbg.stages.every(({ canvas, view }) => !canvas.clientWidth"
        " || Math.abs(canvas.clientWidth - view.width) < 1)"
    )
    page.evaluate("dbg.stages.forEach((stage) => stage.draw())")
    found = ink(page, "timeline")
    return sum(found.get(colour, 0) for colour in (BLUE, ORANGE, GREEN))


def test_a_block_of_the_timeline_is_seen_in_the_other_views(
    open_page: OpenPage, html: Path
) -> None:
    page = opened(open_page, html)
    blocks = page.evaluate("dbg.data.timeline.blocks.kind")
    kinds = page.evaluate("dbg.data.timeline.kinds")
    for kind, word in (("compute", "RUN"), ("send", "SEND"), ("receive", "RECV")):
        page.evaluate("dbg.bus.emit('show', 'cut')")
        before = page.evaluate("(dbg.stages[0].draw(), dbg.stages[0].canvas.toDataURL())")
        page.evaluate(
            "(id) => dbg.bus.emit('select', {kind: 'block', id})", blocks.index(kinds.index(kind))
        )
        assert shown(page) == "Timeline"
        page.evaluate("dbg.bus.emit('show', 'cut')")
        assert page.evaluate("(dbg.stages[0].draw(), dbg.stages[0].canvas.toDataURL())") != before
        page.evaluate("dbg.bus.emit('show', 'levels')")
        page.locator("#view-levels .row.chosen", has_text=word).first.wait_for()
        page.evaluate("dbg.bus.emit('show', 'machines')")
        page.locator("#view-machines .chosen").first.wait_for()
        page.evaluate("dbg.bus.emit('select', null)")
