"""Turns: who reads a key and writes it again is not disturbed by other threads of the process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from weakref import WeakValueDictionary

from kvdict.forks import renew_in_children


class Turns:
    """A lock for each key that somebody is at; only those who write the same key wait."""

    def __init__(self) -> None:
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Forget all turns: in a forked child, where those whose turn it is are not."""
        self._lock = threading.RLock()
        self._locks: dict[str, threading.RLock] = {}
        self._users: Counter[str] = Counter()
        self._disturbed: Counter[str] = Counter()

    @contextmanager
    def take(self, key: str) -> Iterator[None]:
        """Hold the key's turn; the same thread may take it again."""
        with self._lock:
            lock = self._locks.setdefault(key, threading.RLock())
            self._users[key] += 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._users[key] -= 1
                if not self._users[key]:
                    del self._users[key], self._locks[key]
                    self._disturbed.pop(key, None)

    def disturb(self, keys: Iterable[str]) -> None:
        """Let those who are at one of the keys know that it was written meanwhile.

        Called behind the write: who takes a turn after a look without the lock sees that.
        """
        if not self._users:
            return
        with self._lock:
            self._disturbed.update(key for key in keys if key in self._users)

    def count(self, key: str) -> int:
        """Return how often the key, whose turn is taken, was disturbed."""
        return self._disturbed[key]


class SharedTurns:
    """The turns of this process: one set for each namespace, however often it is opened."""

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[tuple[str, str], Turns] = WeakValueDictionary()
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Take a lock of its own in a forked child."""
        self._lock = threading.RLock()

    def find(self, place: str, namespace_id: str) -> Turns:
        """Return the turns of a namespace."""
        with self._lock:
            return self._turns.setdefault((place, namespace_id), Turns())


shared_turns = SharedTurns()
