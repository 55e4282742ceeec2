"""`Latch`: what is waited for, once.

Not `threading.Event`: an interrupt that comes while one enters or leaves its lock leaves that
taken, and who comes next waits for ever. For the same reason no `Condition` is entered here, but
the lock that it was made with: only that one is taken and released within one step.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress


class Latch:
    """Closed until it is opened; whoever waits has a lock of its own to wait at."""

    def __init__(self) -> None:
        self.is_open = False
        self._waiting: deque[threading.Lock] = deque()

    def open(self) -> None:
        """Let all go on who wait, or will."""
        self.is_open = True
        with suppress(IndexError):  # another thread opens it too
            while self._waiting:
                self._waiting.popleft().release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is open, at most so many seconds; tell whether it is."""
        if not self.is_open:
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
            # Look again: it may have been opened just before.
            if not self.is_open:  # pragma: no branch - a race of nanoseconds
                mine.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        return self.is_open
