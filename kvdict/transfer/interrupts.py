"""Ctrl-C as a wish to stop, not as an exception in the middle of things."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


class Interrupts:
    """Turn Ctrl-C into a `stop`: `with Interrupts() as stop: export(..., stop=stop)`.

    The first one lets the requests under way end; the second is a KeyboardInterrupt. `on_stop` is
    called at the first, from the signal handler. For the main thread alone.
    """

    def __init__(self, on_stop: Callable[[], None] | None = None) -> None:
        self.stopped = False
        self._on_stop = on_stop
        self._before: Any = None

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self.stopped

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, *_exception: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True
        if self._on_stop:
            self._on_stop()
