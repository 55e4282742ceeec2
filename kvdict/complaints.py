"""`Complaints`: failures that the program goes on without, logged, but not each of many."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from kvdict.errors import AuthError, KVError, NotFoundError

SILENCE = 60.0
"""Seconds for which a failure of the same kind is counted and not logged again."""

log = logging.getLogger("kvdict")


class Complaints:
    """Logs failures: the first of a kind, then once a minute with how many there were."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[type[KVError], float] = {}
        self._unsaid: dict[type[KVError], int] = {}

    def say(self, what: str, error: KVError) -> None:
        """Log what became of it, unless that was just said."""
        kind, now = type(error), self._clock()
        if now - self._said.get(kind, -SILENCE) < SILENCE:
            self._unsaid[kind] = self._unsaid.get(kind, 0) + 1
            return
        self._said[kind] = now
        more = self._unsaid.pop(kind, 0)
        level = logging.ERROR if isinstance(error, AuthError | NotFoundError) else logging.WARNING
        since = f" ({more} more since the last such message)" if more else ""
        log.log(level, "%s%s: %s", what, since, error)
