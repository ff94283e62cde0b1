"""A real browser for tests of pages: Debian's Chromium, without a network, driven by playwright.

`open_page` is the fixture. It returns playwright's own `Page`, which presses keys
(`page.keyboard.press`), waits for conditions (`page.wait_for_selector`, `page.wait_for_function`
with a function such as "() => …": the pages' policy forbids others), takes pictures
(`page.screenshot(path=…)`) and goes from light to dark (`page.emulate_media(…)`).
Tests that need it are skipped where the browser or the driver is missing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_TIMEOUT_MS = 60_000  # a busy machine is no failure of a page

OpenPage = Callable[..., "Page"]
"""`open_page(path, dark=False, width=1280, height=800)`: see the fixture."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Launched once for all tests of a module. Not for the whole session: playwright keeps an
    event loop running in this thread while it is open, and then others can't start theirs."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: pip install 'dbgraph[test]'"
    )
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium, or set CHROMIUM to its path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@pytest.fixture
def page_errors() -> list[str]:
    """What pages did wrong in this test. A test that expects something there clears it."""
    return []


@pytest.fixture
def open_page(chromium: Browser, page_errors: list[str]) -> Iterator[OpenPage]:
    """`open_page(path, dark=False, width=1280, height=800)` opens a file, or an address on
    loopback, with the network off. Further options are those of playwright's `new_context`, such
    as `reduced_motion="reduce"`.

    The test fails where a page reports an error to the console, throws one, or asks the network
    for anything.
    """
    contexts = []

    def open_(
        path: Path | str,
        *,
        dark: bool = False,
        width: int = 1280,
        height: int = 800,
        **options: Any,
    ) -> Page:
        local = isinstance(path, Path)
        context = chromium.new_context(
            color_scheme="dark" if dark else "light",
            viewport={"width": width, "height": height},
            offline=local,
            **options,
        )
        contexts.append(context)
        context.set_default_timeout(_TIMEOUT_MS)
        context.route("**/*", lambda route: _only_from_here(route, page_errors))
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and page_errors.append(said.text))
        page.on("pageerror", lambda error: page_errors.append(str(error)))
        page.goto(path.resolve().as_uri() if isinstance(path, Path) else path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not page_errors, "the page reported:\n" + "\n".join(page_errors)


def _only_from_here(route: Route, errors: list[str]) -> None:
    """A page may ask for files and for loopback, and for nothing else."""
    url = route.request.url
    if url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "http://localhost:")):
        route.continue_()
        return
    errors.append(f"it asked the network for {url}")
    route.abort()
