"""Ctrl-C: the first one lets the step end, the second one does not.

SIGTERM (a batch system's, `kill`) and SIGHUP (the terminal is gone) are taken alike: a run that
they ended at once would leave no checkpoint, and a log without an end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

ENDING = "interrupted: ending after this step (Ctrl-C again: at once)"
_SIGNALS: Mapping[signal.Signals, Callable[[int, FrameType | None], Any] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
"""With their handlers where nobody has set another."""


class Interrupted(KeyboardInterrupt):
    """Raised between two steps, where the model is whole."""


class Interruptible:
    """While open, Ctrl-C is noticed by `check`, and a second one raises KeyboardInterrupt.

    Leaves signals alone outside the main thread, and those that somebody else handles, or ignores
    (as `nohup` does).

    Args:
        say: is called where it was noticed, in the signal's handler: it may use no buffered file.
    """

    def __init__(self, say: Callable[[], None]) -> None:
        self._say = say
        self._asked = False
        self._installed: list[signal.Signals] = []

    def check(self) -> None:
        """Raises Interrupted where Ctrl-C was pressed."""
        if self._asked:
            raise Interrupted

    def __enter__(self) -> Interruptible:
        if threading.current_thread() is threading.main_thread():
            for number, usual in _SIGNALS.items():
                if signal.getsignal(number) is usual:
                    signal.signal(number, self._handle)
                    self._installed.append(number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._installed:
            number = self._installed.pop()
            signal.signal(number, _SIGNALS[number])

    def _handle(self, number: int, frame: FrameType | None) -> Any:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._say()


def say_ending() -> None:
    """A line on stderr, for a signal's handler."""
    with suppress(OSError):  # the terminal may be what is gone
        os.write(2, f"\n{ENDING}\n".encode())
