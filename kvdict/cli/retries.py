"""Telling a person who waits that something is tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kvdict.cli.failures import in_words
from kvdict.cli.output import say

REMINDER = 5.0
"""Seconds of silence after which the person is told again."""


class _Teller(logging.Handler):
    """Says what the library logs: at once, but not each of many retries."""

    def __init__(self) -> None:
        super().__init__()
        self._told_at = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, unless it is a detail and something was said just now."""
        now = time.monotonic()
        if record.levelno < logging.WARNING and now < self._told_at + REMINDER:
            return
        self._told_at = now
        say(in_words(record.getMessage()))


@contextmanager
def tell_of_retries() -> Iterator[None]:
    """Say meanwhile what the library logs: what is tried again, and waits for allowance."""
    log = logging.getLogger("kvdict")
    teller, before = _Teller(), (log.level, log.propagate)
    log.addHandler(teller)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(teller)
        log.setLevel(before[0])
        log.propagate = before[1]
