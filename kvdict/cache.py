"""`ReadCache`: what the service served or accepted, for a while. It makes no requests."""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from cachetools import Cache, LRUCache

from kvdict.buffer import WriteBuffer
from kvdict.clock import ServiceClock, since_boot
from kvdict.errors import ConfigError
from kvdict.forks import renew_in_children
from kvdict.models import Entry, Key, apart
from kvdict.options import at_least, whole
from kvdict.reader import UNASKED

IN_MEMORY = 448
"""Bytes of memory that an entry takes beside key, value and metadata: 376 to 499 were measured, as
the tables that hold it are more or less full."""
JITTER: Final = 0.1
"""The part of ttl that is taken off at random, so that a fleet does not expire at once."""


@dataclass(slots=True, eq=False)
class Held:
    """What is held of a key, None for a missing one; metadata may be UNASKED.

    `ends` is the pair's own end by the service's clock, `fresh_until` ours.
    """

    found: Entry[bytes] | None
    ends: float
    fresh_until: float
    size: int

    def entry(self, _clock: ServiceClock) -> Entry[bytes] | None:
        """Return what a read is to see, None for a missing key; its end was looked at."""
        return apart(self.found)

    def tells(self, *, details: bool) -> bool:
        """Tell whether it says enough for a read that wants `details`."""
        return not details or self.found is None or self.found.metadata is not UNASKED


class Recent(LRUCache[str, Held]):
    """What was read last; counts what had to leave for others."""

    def __init__(self, max_bytes: float) -> None:
        super().__init__(max_bytes, getsizeof=attrgetter("size"))
        self.evictions = 0

    def popitem(self) -> tuple[str, Held]:
        """Let the entry leave that was not read for longest."""
        self.evictions += 1
        return super().popitem()

    def clear(self) -> None:
        """Let go of all, which is no eviction: cachetools before 8 pops them one by one."""
        for key in list(self):
            del self[key]

    def glance(self, key: str) -> Held | None:
        """Look without taking it for a read."""
        return Cache.__getitem__(self, key) if key in self else None

    def copy(self) -> Recent:
        """Return another with the same entries, in the order in which they came."""
        copy = Recent(self.maxsize)
        copy.evictions = self.evictions
        for key in self:
            copy[key] = Cache.__getitem__(self, key)
        return copy


class ReadCache:
    """Entries with deadlines: those read last, bounded by items and by bytes.

    max_items, max_bytes: what it holds at most; bytes of memory, about.
    ttl: seconds for which an entry is served without asking; up to a tenth less, at random.
    miss_ttl: the same for "there is no such key".
    stale_while_revalidate: seconds past its ttl for which an entry is still served, while a read
    in the background renews it; of many keys that are read together, one a hundred.
    stale_if_error: seconds past its ttl for which an entry is served if the service does not
    answer within 2 s; for 10 s it is not asked again then.

    An entry never outlives the pair's own expiry. Its ttl counts from when it arrived. Encoded
    values are held, and decoded for each reader: what one does to a value does not change what
    the next gets. A cache belongs to one namespace, whose views share it.
    """

    def __init__(
        self,
        *,
        max_items: int = 10_000,
        max_bytes: int = 64 * 1024 * 1024,
        ttl: float = 60.0,
        miss_ttl: float = 5.0,
        stale_while_revalidate: float = 0.0,
        stale_if_error: float = 0.0,
        timer: Callable[[], float] = since_boot,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.max_items = whole(1, max_items=max_items)
        self.max_bytes = whole(1, max_bytes=max_bytes)
        self.ttl = at_least(0, ttl=ttl)
        self.miss_ttl = at_least(0, miss_ttl=miss_ttl)
        self.stale_while_revalidate = at_least(0, stale_while_revalidate=stale_while_revalidate)
        self.stale_if_error = at_least(0, stale_if_error=stale_if_error)
        self.timer = timer
        self._chance = chance
        self._buffer: WriteBuffer | None = None
        self._clock = ServiceClock()
        self._held = Recent(self.max_bytes)
        self._tickets: dict[str, list[object]] = {}
        self.hits = self.negative_hits = self.misses = self.stale = 0
        renew_in_children(self)

    def check_free(self) -> None:
        """Raise ConfigError if it is a namespace's already."""
        if self._buffer is not None:
            raise ConfigError("this ReadCache belongs to another namespace; make a new one")

    def attach(self, buffer: WriteBuffer, clock: ServiceClock) -> None:
        """Become the cache of one namespace, under its lock; ConfigError for a second one."""
        self.check_free()
        self._buffer = buffer
        self._clock = clock

    def clear(self) -> None:
        """Forget everything; reads under way do not put it back."""
        with self._lock:
            self._held.clear()
            self._tickets.clear()

    def __len__(self) -> int:
        """Count the entries, known misses included."""
        return len(self._held)

    def __repr__(self) -> str:
        return f"<ReadCache ttl={self.ttl:g}, {len(self)} of {self.max_items} entries>"

    def stats(self) -> dict[str, float]:
        """Return what was served, and what is held."""
        return {
            "cache_hits": self.hits,
            "cache_negative_hits": self.negative_hits,
            "cache_misses": self.misses,
            "cache_stale": self.stale,
            "cache_evictions": self._held.evictions,
            "cache_items": len(self._held),
            "cache_bytes": self._held.currsize,
        }

    # What reads ask, who hold the lock

    def look(self, key: str, *, details: bool = False) -> Held | None:
        """Return what is held and fresh, with `details` only if its metadata is known."""
        held = self.peek(key, details=details)
        if held is not None:
            if held.found is None:
                self.negative_hits += 1
            else:
                self.hits += 1
        return held

    def peek(self, key: str, *, details: bool = False) -> Held | None:
        """Look without counting."""
        try:
            held = self._held[key]
        except KeyError:
            return None
        if held.fresh_until <= self.timer():
            return None
        if held.ends != math.inf and held.ends <= self._clock.now():
            self._drop(key)
            return None
        return held if held.tells(details=details) else None

    def look_for_stale(self, key: str, allowed: float, *, details: bool = False) -> Held | None:
        """Return what is held if it is past its ttl by so many seconds at most."""
        held = self._held.get(key)
        if held is None or held.found is None or not held.tells(details=details):
            return None
        if held.ends <= self._clock.now() or held.fresh_until + allowed <= self.timer():
            return None
        return held

    def rescue(self, key: str, *, details: bool) -> Held | None:
        """Return what may be served of a key if the service does not answer."""
        allowed = self.stale_if_error
        return self.look_for_stale(key, allowed, details=details) if allowed else None

    def leave_ticket(self, key: str, ticket: object) -> None:
        """Let it be known that this read is under way: only with its ticket may it store."""
        self._tickets.setdefault(key, []).append(ticket)

    def tickets(self, key: str) -> list[object]:
        """Return the reads of a key that are under way, and were not overtaken by a write."""
        return self._tickets.get(key, [])

    def take_ticket(self, key: str, ticket: object) -> bool:
        """Take a read's own ticket away; tell whether it was still there."""
        tickets = self._tickets.get(key, [])
        if ticket not in tickets:
            return False
        tickets.remove(ticket)
        if not tickets:
            del self._tickets[key]
        return True

    # What reads and writes put in, who hold the lock

    def store(
        self, key: str, found: Entry[bytes] | None, *, ends: float | None = None, age: float = 0.0
    ) -> None:
        """Hold what the service served `age` seconds ago, or accepted.

        Until `ends`, by default its expiration, if that is nearer than its ttl.
        """
        self._drop(key)
        now = self.timer()
        size = sys.getsizeof(key) + IN_MEMORY
        if found is None:
            held = Held(None, math.inf, now + self.miss_ttl - age, size)
        else:
            if ends is None:
                ends = math.inf if found.expiration is None else found.expiration
            ttl = self.ttl * (1 - JITTER * self._chance())
            size += sys.getsizeof(found.value) + _size_of(found.metadata)
            held = Held(apart(found), ends, now + ttl - age, size)
        if held.fresh_until > now and size <= self.max_bytes:
            while len(self._held) >= self.max_items:
                self._held.popitem()
            self._held[key] = held

    def forget(self, key: str) -> None:
        """Hold nothing of a key: it was written, and reads under way have seen what was before."""
        self._drop(key)
        self._tickets.pop(key, None)

    def listed(self, keys: Iterable[Key]) -> None:
        """Take in a listing, which may lag: it ends entries sooner, and known misses."""
        with self._lock:
            for key in keys:
                held = self._held.glance(key.name)
                if held is None:
                    continue
                if held.found is None:
                    self._drop(key.name)
                elif key.expiration is not None:
                    held.ends = min(held.ends, key.expiration)

    def start_again(self) -> None:
        """Forget the reads that were under way: in a forked child, where they are not."""
        self._tickets = {}
        self._held = self._held.copy()  # a thread that the child lacks may have been changing it

    def _drop(self, key: str) -> None:
        self._held.pop(key, None)

    @property
    def _lock(self) -> AbstractContextManager[object]:
        return nullcontext() if self._buffer is None else self._buffer.lock


def _size_of(metadata: Any) -> int:
    if metadata is None or metadata is UNASKED:
        return 0
    try:
        return 2 * len(str(metadata)) + 200
    except RecursionError:  # no legal metadata is so deep: it is not cached
        return sys.maxsize
