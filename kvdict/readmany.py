"""One read of many keys: what is known comes from memory, the rest in bulk."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kvdict.breaker import is_away
from kvdict.errors import KVError
from kvdict.limits import MAX_BULK_GET_KEYS
from kvdict.reader import UNASKED, Details, Fetch, Found, Raw

if TYPE_CHECKING:
    from kvdict.cache import Held, ReadCache
    from kvdict.readthrough import ReadThrough

log = logging.getLogger("kvdict")


class ReadMany:
    """Reads keys by the hundred; what arrives is cached unless its key was written meanwhile."""

    def __init__(self, reads: ReadThrough, details: Details, *, eager: bool) -> None:
        self._reads = reads
        self._buffer = reads.buffer
        self._cache = reads.cache
        self._clock = reads.source.clock
        self._details = details
        self._eager = eager
        self._ticket = object()
        self._asked: set[str] = set()
        self._order: deque[str] = deque()
        self._past: list[str] = []  # their ttl: to be renewed

    def run(self, keys: Iterable[str]) -> Iterator[Found]:
        """Yield each key with its entry or None, in the order of the keys."""
        with self._buffer.reading():
            try:
                yield from self._run(iter(keys))
            finally:
                self._give_up(self._asked)
                self._renew()

    def _run(self, keys: Iterator[str]) -> Iterator[Found]:
        for key in keys:
            if not self._is_known(key):
                yield from self._fetched(key, keys)
            else:  # at once: a loop that stops early has not listed what it did not read
                yield self._known(key)

    def _fetched(self, first: str, keys: Iterator[str]) -> Iterator[Found]:
        """Yield the rest of the keys; the first of them is not known."""
        found = self._reads.source.read(
            self._unknown(first, keys),
            details=self._details,
            expiry=self._cache is not None,
            eager=self._eager,
            around=None if self._cache is None else partial(self._fetch, self._cache),
        )
        for key, entry in found:
            while self._order[0] != key:
                yield self._known(self._order.popleft())
            self._order.popleft()
            change = self._buffer.get(key, listing=True)
            yield key, change.entry(self._clock) if change else entry
        while self._order:
            yield self._known(self._order.popleft())

    def _unknown(self, first: str, keys: Iterator[str]) -> Iterator[str]:
        self._order.append(first)
        yield first
        for key in keys:
            self._order.append(key)
            if not self._is_known(key):
                yield key

    def _is_known(self, key: str) -> bool:
        """Tell whether the key needs no request; leave a ticket for it if it does."""
        with self._buffer.lock:
            if self._buffer.get(key, listing=True) is not None:
                return True
            if self._cache is None:
                return False
            if self._cache.look(key, details=bool(self._details)) is not None:
                self._reads.bulk_hits += 1
                return True
            if self._past_its_ttl(self._cache, key) is not None:
                self._cache.stale += 1
                self._reads.bulk_hits += 1
                self._past.append(key)
                if len(self._past) == MAX_BULK_GET_KEYS:
                    self._renew()
                return True
            self._cache.misses += 1
            self._cache.leave_ticket(key, self._ticket)
            self._asked.add(key)
            return False

    def _known(self, key: str) -> Found:
        """Return what was known a moment ago; it may have run out since."""
        details = bool(self._details)
        with self._buffer.lock:
            change = self._buffer.get(key, listing=True)
            if change:
                return key, change.entry(self._clock)
            if self._cache is not None:
                held = self._cache.peek(key, details=details)
                held = held or self._past_its_ttl(self._cache, key)
                if held:
                    return key, held.entry(self._clock)
        return key, self._reads.entry(key) if details else self._reads.get(key)

    def _past_its_ttl(self, cache: ReadCache, key: str) -> Held | None:
        """Return what may be served of a key while it is renewed."""
        allowed = cache.stale_while_revalidate
        return cache.look_for_stale(key, allowed, details=bool(self._details))

    def _renew(self) -> None:
        """Have what is served past its ttl read in the background: one request."""
        if self._past:
            past, self._past = self._past, []
            self._reads.renew(past, details=bool(self._details))

    def _fetch(self, cache: ReadCache, fetch: Fetch, keys: Sequence[str]) -> list[Found]:
        """Fetch keys and cache each as it arrives: a loop may be slow to consume them.

        If all are cached, past their ttl, the service is not waited for long.
        """
        stale = self._stale(cache, keys)
        if stale and not self._reads.breaker.is_open:
            impatient = self._reads.impatient.fetch(keys, details=self._details)
            try:
                found: list[Found] = self._reads.breaker.ask(partial(list, impatient))
                return [self._arrived(cache, *pair) for pair in found]
            except KVError as error:
                if not is_away(error):
                    raise
                log.warning("%s; what is cached is served meanwhile", error)
            stale = self._stale(cache, keys)  # time has passed
        if not stale:
            return [self._arrived(cache, *pair) for pair in fetch(keys)]
        self._give_up(keys)
        with self._buffer.lock:
            cache.stale += len(keys)
            self._reads.bulk_hits += len(keys)
        return stale

    def _stale(self, cache: ReadCache, keys: Sequence[str]) -> list[Found]:
        """Return what is cached of the keys, nothing if that is not all."""
        details = bool(self._details)
        with self._buffer.lock:
            held = [(key, cache.rescue(key, details=details)) for key in keys]
        stale = [(key, rescue.entry(self._clock)) for key, rescue in held if rescue]
        return stale if len(stale) == len(keys) else []

    def _arrived(self, cache: ReadCache, key: str, entry: Raw) -> Found:
        cached = entry
        if entry and callable(self._details):  # a listing's, which may lag
            cached = replace(entry, metadata=UNASKED)
        with self._buffer.lock:
            if cache.take_ticket(key, self._ticket):
                self._asked.discard(key)
                cache.store(key, cached)
        return key, entry

    def _give_up(self, keys: Iterable[str]) -> None:
        """Take the tickets back."""
        if self._cache is not None:
            with self._buffer.lock:
                for key in keys:
                    self._cache.take_ticket(key, self._ticket)
