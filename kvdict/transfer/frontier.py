"""Pairs under way, many requests at once: up to where have all been accepted?"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from kvdict.transfer.work import Work
from kvdict.writes import Write

MARK = 1000
MARK_BYTES = 1_000_000
"""Pairs, or bytes of values, between two places that the work can be gone on with from."""


class Frontier:
    """The last place before which everything was accepted; saved in the state of the work.

    `accepted` is called from the threads of the requests, all else from the caller's.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._under_way: dict[str, tuple[int, int]] = {}
        self._sent = 0
        self._sent_bytes = 0
        self._before = work.done, work.bytes
        self._marks: deque[tuple[int, dict[str, Any], float | None]] = deque()

    def send(self, write: Write) -> Write:
        """Count a pair that goes on its way, and return it."""
        with self._lock:
            self._sent += 1
            self._sent_bytes += len(write.data)
            self._under_way[write.key] = self._sent, len(write.data)
        return write

    def mark(self, at: dict[str, Any], fraction: float | None = None) -> None:
        """Name a place; what was sent so far lies before it."""
        done, size = self._before
        counts = {"done": done + self._sent, "bytes": size + self._sent_bytes}
        with self._lock:
            self._marks.append((self._sent, {**at, **counts}, fraction))

    def accepted(self, keys: Iterable[str]) -> None:
        """Take in that these are stored, and save the place that is reached by that."""
        with self._lock:
            for key in keys:
                _, size = self._under_way.pop(key)
                self._work.done += 1
                self._work.bytes += size
            self._advance()
            self._work.tell()

    def _advance(self) -> None:
        first = next(iter(self._under_way.values()), (self._sent + 1, 0))[0]
        reached = None
        while self._marks and self._marks[0][0] < first:
            reached = self._marks.popleft()
        if reached:
            _, at, fraction = reached
            self._work.state.save(at)
            self._work.fraction = fraction
