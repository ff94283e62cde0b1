"""The screens of a run on a real pseudo-terminal, as a terminal shows them in the end."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select
from time import monotonic

import pyte
import pytest
from test_train_cli import NETWORK

pytestmark = pytest.mark.slow
_PATIENCE_S = 120.0
_BAR = "━━━━"
_PROGRAM = """
import fcntl, runpy, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("dbgraph", run_name="__main__", alter_sys=True)
"""
"""Its own terminal's signals come to it. (Python may not run between a fork and an exec where JAX
has threads.)"""


class Terminal:
    """`dbgraph …` on a terminal of its own.

    Attributes:
        screen: what it shows by now.
    """

    def __init__(self, columns: int, rows: int, folder: Path, *arguments: str) -> None:
        self._master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._settings = termios.tcgetattr(self._slave)
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        given = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=folder,
            env={**given, "TERM": "xterm-256color"},
            start_new_session=True,
        )

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    @property
    def is_sane(self) -> bool:
        """Whether it is as it was, with a cursor that is seen."""
        return termios.tcgetattr(self._slave) == self._settings and not self.screen.cursor.hidden

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def until(self, condition: Callable[[], object]) -> None:
        """Reads what is written there, until a condition holds."""
        end = monotonic() + _PATIENCE_S
        while not condition():
            ended = self.process.poll() is not None
            goes_on = self._read(0.05) or not ended
            assert goes_on, "\n".join(self.lines)
            assert monotonic() < end, "\n".join(self.lines)

    def ended(self) -> int:
        """Waits for the end, and reads the rest."""
        self.until(lambda: self.process.poll() is not None)
        while self._read(0.0):
            pass
        return self.process.returncode

    def _read(self, patience_s: float) -> bool:
        there = bool(select([self._master], [], [], patience_s)[0])
        if there:
            self._stream.feed(os.read(self._master, 65536))
        return there

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def open_terminal(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    (tmp_path / "net.py").write_text(NETWORK)
    opened = []

    def open_(columns: int, rows: int, *arguments: str) -> Terminal:
        opened.append(Terminal(columns, rows, tmp_path, *arguments))
        return opened[-1]

    yield open_
    for terminal in opened:
        terminal.close()


_TRAIN = ("train", "net.py", "--strategy", "tiles", "--steps", "1000000", "--checkpoint", "run")


def test_a_run_that_is_interrupted_leaves_one_whole_screen(
    open_terminal: Callable[..., Terminal],
) -> None:
    terminal = open_terminal(60, 20, *_TRAIN)
    terminal.until(lambda: any("examples/s" in line for line in terminal.lines))
    assert sum(_BAR in line for line in terminal.lines) == 1
    terminal.type(b"\x03")
    assert terminal.ended() == 130
    text = "\n".join(terminal.lines)
    assert sum(_BAR in line for line in terminal.lines) == 1, text
    assert "interrupted after step" in text
    assert "compiling" not in text
    assert terminal.is_sane


def test_top_follows_a_run_and_leaves_the_terminal_as_it_was(
    open_terminal: Callable[..., Terminal], tmp_path: Path
) -> None:
    run = open_terminal(80, 24, *_TRAIN)
    run.until((tmp_path / "run" / "log.jsonl").exists)
    top, other = (open_terminal(80, 24, "top", "run") for _ in range(2))
    for terminal in (top, other):
        terminal.until(lambda one=terminal: any("examples/s" in line for line in one.lines))
        assert sum(_BAR in line for line in terminal.lines) == 1
        assert terminal.lines[0].startswith("toy on 1 partition")
    other.type(b"\x03")
    assert other.ended() == 0
    assert other.is_sane
    assert run.process.poll() is None  # it ends its own screen, and not the run
    run.process.kill()
    run.process.wait()  # or a zombie would seem to run
    assert top.ended() == 0
    assert any("failed: its process" in line for line in top.lines)
    assert sum(_BAR in line for line in top.lines) == 1
    assert top.is_sane
