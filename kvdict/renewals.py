"""Reads in the background, which renew what is cached and past its ttl."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress

from kvdict.buffer import WriteBuffer
from kvdict.cache import ReadCache
from kvdict.forks import renew_in_children
from kvdict.source import Source

MOST = 8
"""Renewals at once."""

log = logging.getLogger("kvdict")


class Renewals:
    """The renewals under way, each of some keys, on a thread of its own."""

    def __init__(self, source: Source, buffer: WriteBuffer, cache: ReadCache) -> None:
        self._source = source
        self._buffer = buffer
        self._cache = cache
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Have none: at first, and in a forked child, where the threads are not."""
        self._under_way: dict[object, set[str]] = {}

    def begin(self, keys: Iterable[str], *, details: bool) -> None:
        """Have those of the keys read that are not being read, unless too many renewals run.

        The lock is held.
        """
        others = self._under_way.values()
        wanted = [key for key in keys if not any(key in other for other in others)]
        if not wanted or len(self._under_way) >= MOST or sys.is_finalizing():
            return  # the last, as to start a thread would never return
        ticket = object()
        thread = threading.Thread(
            target=self._renew, args=(ticket, wanted, details), name="kvdict-renew", daemon=True
        )
        self._under_way[ticket] = set(wanted)
        try:
            with suppress(RuntimeError):  # the interpreter is exiting: what is cached is served on
                thread.start()
        finally:
            if thread.ident is None:
                del self._under_way[ticket]

    def _renew(self, ticket: object, keys: Sequence[str], details: bool) -> None:
        try:
            with self._buffer.lock:
                for key in keys:
                    self._cache.leave_ticket(key, ticket)
            for key, answer in self._source.fetch(keys, details=details):
                with self._buffer.lock:
                    if self._cache.take_ticket(key, ticket):
                        self._cache.store(key, answer)
        except Exception as error:  # noqa: BLE001 - nobody else would tell of it
            log.warning("%s; what is cached is served as long as it may", error)
        finally:
            with self._buffer.lock:
                for key in keys:
                    self._cache.take_ticket(key, ticket)
                self._under_way.pop(ticket, None)
