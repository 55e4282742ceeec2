"""Reads in the background, which renew what is cached and past its ttl."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from kvdict.buffer import WriteBuffer
from kvdict.cache import ReadCache
from kvdict.forks import renew_in_children
from kvdict.reader import Raw
from kvdict.source import Source

MOST = 8
"""Renewals at once."""

log = logging.getLogger("kvdict")


class Renewals:
    """The renewals under way, one a key, each on a thread of its own."""

    def __init__(self, source: Source, buffer: WriteBuffer, cache: ReadCache) -> None:
        self._source = source
        self._buffer = buffer
        self._cache = cache
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Have none: at first, and in a forked child, where the threads are not."""
        self._keys: set[str] = set()

    def begin(self, key: str, *, details: bool) -> None:
        """Have the key read, unless it is being read, or too many are."""
        if key in self._keys or len(self._keys) >= MOST:
            return
        ask = self._source.entry if details else self._source.get
        thread = threading.Thread(
            target=self._renew, args=(key, ask), name="kvdict-renew", daemon=True
        )
        self._keys.add(key)
        try:
            with suppress(RuntimeError):  # the interpreter is exiting: what is cached is served on
                thread.start()
        finally:
            if thread.ident is None:
                self._keys.discard(key)

    def _renew(self, key: str, ask: Callable[[str], Raw]) -> None:
        ticket = object()
        try:
            with self._buffer.lock:
                self._cache.leave_ticket(key, ticket)
            answer = ask(key)
            with self._buffer.lock:
                if self._cache.take_ticket(key, ticket):
                    self._cache.store(key, answer)
        except Exception as error:  # noqa: BLE001 - nobody else would tell of it
            log.warning("%s; what is cached is served as long as it may", error)
        finally:
            with self._buffer.lock:
                self._cache.take_ticket(key, ticket)
            self._keys.discard(key)
