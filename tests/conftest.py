"""Fixtures that all tests share."""

from __future__ import annotations

import difflib
import gc
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# A shell that starts the tests in the background has its children ignore Ctrl-C, and these theirs;
# `nohup` does so with SIGHUP. Tests that interrupt runs would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest_plugins = ["browser", "cli_tools"]  # the fixtures `open_page` and `cli`

_GOLDEN = Path(__file__).parent / "golden"
_MOST_COMPILED = 20_000  # files, of some 10 KB each


def pytest_configure(config: pytest.Config) -> None:
    """XLA's programs are kept for all processes of this run and for the next ones: compiling takes
    most of the time. `pytest --cache-clear` forgets them."""
    if not hasattr(config, "cache"):  # pytest -p no:cacheprovider
        return
    folder = config.cache.mkdir("jax")
    if not hasattr(config, "workerinput") and len(os.listdir(folder)) > _MOST_COMPILED:
        shutil.rmtree(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that with -n quick ones are left for the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """What is imported and collected by now stays to the end: Python's collector of cycles, which
    took a tenth of the time, need not walk over it again and again."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files anew instead of comparing",
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(name, text)` compares a text with `tests/golden/name`."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = _GOLDEN / name
        text = text.rstrip("\n") + "\n"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            return
        assert path.exists(), f"{path} is missing: run pytest --update-golden and look at it"
        expected = path.read_text(encoding="utf-8")
        if text != expected:
            diff = difflib.unified_diff(
                expected.splitlines(), text.splitlines(), f"golden/{name}", "now", lineterm=""
            )
            pytest.fail("\n".join(diff), pytrace=False)

    return compare


@pytest.fixture(scope="module", autouse=True)
def _forget_compilations() -> Iterator[None]:
    """XLA keeps memory maps for everything it compiled; a whole suite would run out of them."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
