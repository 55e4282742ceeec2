"""Past: a store as a distant reader sees it, some time after it was written."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Protocol

from kvdict.emulator.knobs import Knobs
from kvdict.emulator.store import Listed, Namespace, OversizeError, Pair, Store

EVERYTHING = 2**62
"""The limit of a listing of all there is: SQLite takes no more than 63 bits."""

History = deque[tuple[float, "Pair | None"]]
"""What was stored under a key, and until when."""


class Pairs(Protocol):
    """What routes need of a store: the pairs of a namespace."""

    def clock(self) -> float:
        """Return the present."""

    def namespace(self, account: str, namespace: str) -> Namespace:
        """Return one namespace."""

    def get(self, account: str, namespace: str, key: str) -> Pair | None:
        """Return what is stored under a key."""

    def metadata(self, account: str, namespace: str, key: str) -> Listed | None:
        """Return what is known of a key without its value."""

    def get_many(
        self, account: str, namespace: str, keys: Sequence[str], *, most_bytes: int
    ) -> dict[str, Pair]:
        """Return what is stored under the keys."""

    def keys(
        self, account: str, namespace: str, *, prefix: str = "", after: str = "", limit: int
    ) -> list[Listed]:
        """Return the keys behind `after`, in order."""

    def put(self, account: str, namespace: str, key: str, pair: Pair) -> None:
        """Store a pair."""

    def put_many(self, account: str, namespace: str, pairs: Iterable[tuple[str, Pair]]) -> None:
        """Store all of the pairs, or none."""

    def delete_many(self, account: str, namespace: str, keys: Iterable[str]) -> None:
        """Forget the keys."""


class Past:
    """A store whose writes show late, and whose misses linger, as the knobs say."""

    def __init__(self, store: Store, knobs: Knobs, lock: threading.RLock) -> None:
        self._store = store
        self._knobs = knobs
        self._lock = lock
        self._before: dict[str, dict[str, History]] = {}
        self._missing: dict[tuple[str, str], float] = {}

    def clock(self) -> float:
        """Return the store's present."""
        return self._store.clock()

    def namespace(self, account: str, namespace: str) -> Namespace:
        """Return one namespace: those are never late."""
        return self._store.namespace(account, namespace)

    def get(self, account: str, namespace: str, key: str) -> Pair | None:
        """Return what a reader sees under a key."""
        pair = self._store.get(account, namespace, key)
        if self._knobs.stale_reads:
            pair = self._as_of(namespace, key, self._knobs.stale_reads, pair)
        return self._unless_missed(namespace, key, pair) if self._knobs.cache_misses else pair

    def metadata(self, account: str, namespace: str, key: str) -> Listed | None:
        """Return what a reader sees of a key without its value."""
        pair = self.get(account, namespace, key)
        return None if pair is None else Listed(key, pair.expiration, pair.metadata)

    def get_many(
        self, account: str, namespace: str, keys: Sequence[str], *, most_bytes: int
    ) -> dict[str, Pair]:
        """Return what a reader sees under the keys."""
        if not (self._knobs.stale_reads or self._knobs.cache_misses):
            return self._store.get_many(account, namespace, keys, most_bytes=most_bytes)
        pairs = {key: self.get(account, namespace, key) for key in keys}
        found = {key: pair for key, pair in pairs.items() if pair is not None}
        size = sum(len(pair.value) for pair in found.values())
        if size > most_bytes:
            raise OversizeError(size)
        return found

    def keys(
        self, account: str, namespace: str, *, prefix: str = "", after: str = "", limit: int
    ) -> list[Listed]:
        """Return the keys that a reader sees listed."""
        lag = self._knobs.list_lag
        most = EVERYTHING if lag else limit
        found = self._store.keys(account, namespace, prefix=prefix, after=after, limit=most)
        return self._relisted(namespace, found, prefix, after, lag)[:limit] if lag else found

    def put(self, account: str, namespace: str, key: str, pair: Pair) -> None:
        """Store a pair, for readers to see later."""
        self._remember(account, namespace, [key])
        self._store.put(account, namespace, key, pair)

    def put_many(self, account: str, namespace: str, pairs: Iterable[tuple[str, Pair]]) -> None:
        """Store pairs, for readers to see later."""
        pairs = list(pairs)
        self._remember(account, namespace, [key for key, _ in pairs])
        self._store.put_many(account, namespace, pairs)

    def delete_many(self, account: str, namespace: str, keys: Iterable[str]) -> None:
        """Forget keys, for readers to miss later."""
        keys = list(keys)
        self._remember(account, namespace, keys)
        self._store.delete_many(account, namespace, keys)

    def _remember(self, account: str, namespace: str, keys: list[str]) -> None:
        if not self._longest:
            return
        for key in keys:
            before = self._store.get(account, namespace, key)
            now = self.clock()
            with self._lock:
                history = self._before.setdefault(namespace, {}).setdefault(key, deque())
                while history and history[0][0] <= now - self._longest:
                    history.popleft()
                history.append((now, before))

    @property
    def _longest(self) -> float:
        return max(self._knobs.stale_reads, self._knobs.list_lag)

    def _histories(self, namespace: str) -> dict[str, History]:
        """Return what is remembered of a namespace, without what no reader sees any more."""
        over = self.clock() - self._longest
        known = self._before.get(namespace, {})
        self._before[namespace] = {key: past for key, past in known.items() if past[-1][0] > over}
        return self._before[namespace]

    def _as_of(self, namespace: str, key: str, lag: float, present: Pair | None) -> Pair | None:
        """Return what was stored `lag` seconds ago, unless it has expired since."""
        now = self.clock()
        with self._lock:
            history = self._before.get(namespace, {}).get(key, ())
            past = next((pair for at, pair in history if at > now - lag), present)
        if past is not None and past.expiration is not None and past.expiration <= now:
            return None
        return past

    def _unless_missed(self, namespace: str, key: str, pair: Pair | None) -> Pair | None:
        now = self.clock()
        with self._lock:
            if now < self._missing.get((namespace, key), now):
                return None
            if pair is None:
                self._missing[namespace, key] = now + self._knobs.cache_misses
        return pair

    def _relisted(
        self, namespace: str, found: list[Listed], prefix: str, after: str, lag: float
    ) -> list[Listed]:
        with self._lock:
            touched = list(self._histories(namespace))
        listed = {key.name: key for key in found}
        for key in touched:
            if key.startswith(prefix) and key > after:
                now = listed.pop(key, None)
                present = None if now is None else Pair(b"", now.expiration, now.metadata)
                past = self._as_of(namespace, key, lag, present)
                if past is not None:
                    listed[key] = Listed(key, past.expiration, past.metadata)
        return [listed[key] for key in sorted(listed)]
