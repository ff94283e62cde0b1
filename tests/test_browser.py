"""The fixture that other tests of pages stand on: it must see what goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import OpenPage

pytestmark = pytest.mark.slow


def write(folder: Path, script: str) -> Path:
    path = folder / "page.html"
    path.write_text(
        f"<!DOCTYPE html><link rel=icon href='data:,'><p>hello<script>{script}</script>"
    )
    return path


def test_a_page_is_opened(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(write(tmp_path, "document.title = 'it ran'"), dark=True)
    assert page.inner_text("p") == "hello"
    assert page.title() == "it ran"
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is True


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("console.error('broken')", "broken"),
        ("throw Error('broken')", "broken"),
        ("new Image().src = 'https://example.org/x.png'", "example.org"),
    ],
)
def test_errors_are_seen(
    open_page: OpenPage, tmp_path: Path, page_errors: list[str], script: str, error: str
) -> None:
    page = open_page(write(tmp_path, script))
    page.wait_for_load_state("networkidle")
    assert error in page_errors[0]
    page_errors.clear()
