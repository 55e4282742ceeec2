"""Reads with a cache: own writes first, what is cached next, the service last."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from kvdict.asking import Asking, Kind
from kvdict.breaker import Breaker, is_away
from kvdict.buffer import WriteBuffer
from kvdict.cache import Held, ReadCache
from kvdict.changes import Change
from kvdict.errors import KVError
from kvdict.models import Entry, apart
from kvdict.reader import Raw
from kvdict.readthrough import Ask, ReadThrough
from kvdict.renewals import Renewals
from kvdict.source import Source

log = logging.getLogger("kvdict")


class CachedReads(ReadThrough):
    """Reads one namespace through buffer and cache.

    Many threads that miss one key make one request. What a read brings is cached only if the key
    was not written meanwhile.
    """

    cache: ReadCache

    def __init__(
        self, source: Source, impatient: Source, buffer: WriteBuffer, cache: ReadCache
    ) -> None:
        super().__init__(source, impatient, buffer, Breaker(cache.timer))
        self.cache = cache
        self._joined = 0
        self._renewals = Renewals(source, buffer, cache)
        cache.attach(buffer, self._clock)
        buffer.listen(self)

    def stats(self) -> dict[str, float]:
        """Return what the cache did, and how many reads were served ahead."""
        return {**self.cache.stats(), **super().stats()}

    @property
    def saved(self) -> int:
        """Return how many requests reads of single keys did not need."""
        cache = self.cache
        hits = cache.hits + cache.negative_hits + cache.stale
        return hits + self.read_ahead + self._joined - self.bulk_hits

    def recall(self, key: str) -> Held | None:
        """Return what is cached and fresh of a key, if it is no own write. No request."""
        cache, buffer = self.cache, self.buffer
        with buffer.lock:
            return None if buffer.overlays and key in buffer else cache.look(key)

    def get(self, key: str, ask: Ask | None = None) -> Raw:
        """Return the value, None for a missing key: one request, by `ask` if given.

        Metadata is left out.
        """
        found: Raw = self._cached(key, "get", ask)
        return found

    def entry(self, key: str, *, fresh: bool = False) -> Raw:
        """Return value, expiration and metadata: one request, two for a value that is not text.

        `fresh` asks the service for all that is not our own.
        """
        if fresh:
            return super().entry(key)
        cache, buffer = self.cache, self.buffer
        with buffer.lock:
            if not buffer.overlays or key not in buffer:
                held = cache.look(key, details=True)
                if held is not None:
                    return held.entry(self._clock)
        found: Raw = self._cached(key, "entry", details=True)
        return found

    def about(self, key: str) -> Entry[bytes] | Entry[None] | None:
        """Return the metadata, perhaps with more, None for a missing key: one small request."""
        found: Entry[bytes] | Entry[None] | None = self._cached(key, "about", details=True)
        return found

    def has(self, key: str) -> bool:
        """Tell whether the key is there: one small request, which downloads no value.

        Of a key that is there nothing is cached then: the answer does not tell when it ends.
        """
        return self._cached(key, "about") is not None

    def knows(self, key: str) -> bool:
        """Tell whether a read of the key would need no request."""
        with self.buffer.lock:
            return super().knows(key) or self.cache.peek(key) is not None

    def renew(self, keys: Sequence[str], *, details: bool) -> None:
        """Have what is cached of up to a hundred keys read in the background: one request.

        Not while the service is left alone.
        """
        with self.buffer.lock:
            if not self.breaker.is_open:
                self._renewals.begin(keys, details=details)

    # What the buffer says, who holds the lock

    def written(self, key: str) -> None:
        """Forget what is cached of a key, and do not cache what is just being read."""
        self.cache.forget(key)

    def accepted(self, change: Change) -> None:
        """Cache what the service has accepted."""
        left = change.left(self._clock)
        ends = None if left == math.inf else self._clock.now() + left
        self.cache.forget(change.key)
        self.cache.store(change.key, change.entry(self._clock), ends=ends)

    # Within

    def _soon(self, key: str, details: bool) -> Raw:
        kind: Kind = "entry" if details else "get"
        found: Raw = self._cached(key, kind, _just_now(self.impatient, kind), details=details)
        return found

    def _cached(
        self, key: str, kind: Kind, ask: Ask | None = None, *, details: bool = False
    ) -> Any:
        """Return what own writes or the cache say of a key; else ask, once for all who want it."""
        while True:
            mine = None
            try:
                with self.buffer.lock:
                    known = self._known(key, details)
                    if known:
                        return known.entry(self._clock)
                    self.cache.misses += 1
                    asking = self._under_way(key, kind, details)
                    if asking:
                        self._joined += 1
                    else:
                        asking = mine = Asking(kind, details=details)
                        self.cache.leave_ticket(key, mine)
                if mine:
                    return self._lead(mine, key, ask or _just_now(self.source, kind))
            finally:
                if mine:  # whatever happened, an interrupt too: nobody waits for ever
                    mine.over.open()
            asking.over.wait()
            if asking.error:
                raise asking.error
            if not asking.is_interrupted:
                change = self._own(key)
                return change.entry(self._clock) if change else apart(asking.answer)

    def _known(self, key: str, details: bool) -> Change | Held | None:
        """Return an own write, or what is cached: past its ttl perhaps, and being renewed."""
        change = self.buffer.get(key) if self.buffer.overlays else None
        if change:
            return change
        held = self.cache.look(key, details=details)
        if held is None and self.cache.stale_while_revalidate:
            held = self._renewed(key, details)
        return held

    def _own(self, key: str) -> Change | None:
        """Return the own write that a read of the key is to see after all."""
        return self.buffer.get(key) if self.buffer.overlays else None

    def _renewed(self, key: str, details: bool) -> Held | None:
        """Return what is past its ttl and may still be served, and have it renewed."""
        allowed = self.cache.stale_while_revalidate
        held = self.cache.look_for_stale(key, allowed, details=details)
        if held:
            self.cache.stale += 1
            self.renew([key], details=details)
        return held

    def _under_way(self, key: str, kind: Kind, details: bool) -> Asking | None:
        """Return a read to wait for: not one of this thread, which a signal has interrupted."""
        for ticket in self.cache.tickets(key):
            if isinstance(ticket, Asking) and ticket.serves(kind, details=details):
                return ticket
        return None

    def _lead(self, mine: Asking, key: str, ask: Ask) -> Any:
        """Ask the service for all who wait, and cache the answer if it says what a read sees."""
        age = None
        try:
            answer, age = self._ask(mine, key, ask)
            mine.answered(answer)
        except Exception as error:
            mine.failed(error)
            raise
        finally:
            with self.buffer.lock:
                says_all = mine.answer is None or mine.answer.value is not None
                if self.cache.take_ticket(key, mine) and age is not None and says_all:
                    self.cache.store(key, mine.answer, age=age)
                change = self._own(key)
        return change.entry(self._clock) if change else answer

    def _ask(self, mine: Asking, key: str, ask: Ask) -> tuple[Any, float | None]:
        """Return the answer and its age: none if it is what is cached, as the service is away."""
        rescue = self._rescue(key, mine.details)
        if rescue and not self.breaker.is_open:
            try:
                return self.breaker.ask(partial(_just_now(self.impatient, mine.kind), key))
            except KVError as error:
                if not is_away(error):
                    raise
                log.warning("%s; what is cached is served meanwhile", error)
            rescue = self._rescue(key, mine.details)  # time has passed
        if rescue:
            self.cache.stale += 1
            return rescue.entry(self._clock), None
        return ask(key)

    def _rescue(self, key: str, details: bool) -> Held | None:
        with self.buffer.lock:
            return self.cache.rescue(key, details=details)


def _just_now(source: Source, kind: Kind) -> Ask:
    method = getattr(source, kind)
    return lambda key: (method(key), 0.0)
