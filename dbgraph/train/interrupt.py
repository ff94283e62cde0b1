"""Ctrl-C: the first one lets the step end, the second one does not."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_MESSAGE = b"\ninterrupted: ending after this step (Ctrl-C again: at once)\n"


class Interrupted(KeyboardInterrupt):
    """Raised between two steps, where the model is whole."""


class Interruptible:
    """While open, Ctrl-C is noticed by `check`, and a second one raises KeyboardInterrupt.

    Leaves SIGINT alone outside the main thread, and where somebody else handles it.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._asked = False
        self._installed = False

    def check(self) -> None:
        """Raises Interrupted where Ctrl-C was pressed."""
        if self._asked:
            raise Interrupted

    def __enter__(self) -> Interruptible:
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._installed = False

    def _handle(self, number: int, frame: FrameType | None) -> Any:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        if not self._quiet:
            os.write(2, _MESSAGE)  # a handler may not use buffered files
