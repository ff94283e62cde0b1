"""Reading examples before they are asked for, while the caller computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Thread

import numpy as np

Feeds = Mapping[str, np.ndarray]
Read = Callable[[np.ndarray], Feeds]


class ReadAhead:
    """One caller, and at most one thread that reads; the two never read at the same time.

    Args:
        read: what is to be fed, of these examples.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._examples: np.ndarray | None = None
        self._ahead: Future[Feeds] = Future()

    def begin(self, examples: np.ndarray) -> None:
        """These will probably be taken next."""
        self._end()
        self._examples, self._ahead = examples, Future()
        Thread(target=self._fill, args=(self._ahead, examples), daemon=True).start()

    def take(self, examples: np.ndarray) -> Feeds:
        """What `read` gives, and raises, for these examples."""
        wanted = self._examples is not None and np.array_equal(examples, self._examples)
        self._end()
        return self._ahead.result() if wanted else self._read(examples)

    def _end(self) -> None:
        """Waits for what is being read; what it leads to is not looked at."""
        if self._examples is not None:
            self._examples = None
            self._ahead.exception()

    def _fill(self, ahead: Future[Feeds], examples: np.ndarray) -> None:
        try:
            ahead.set_result(self._read(examples))
        except BaseException as error:
            ahead.set_exception(error)
