"""Overlaps: keys of which two writes are under way at once, so that nobody knows the last."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from kvdict.forks import renew_in_children


class Overlaps:
    """The keys of the requests that write at this moment, side by side where calls do."""

    def __init__(self) -> None:
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Know of none: at first, and in a forked child, whose parent's go on without it."""
        self._lock = threading.RLock()
        self._under_way: dict[str, list[set[str]]] = {}

    @contextmanager
    def writing(self, keys: Collection[str]) -> Iterator[set[str]]:
        """Have a write of these keys under way.

        The set holds those of which another one is, or was since, under way too.
        """
        shared: set[str] = set()
        try:
            with self._lock:
                for key in keys:
                    self._enter(key, shared)
            yield shared
        finally:
            with self._lock:
                for key in keys:
                    self._leave(key, shared)

    def _enter(self, key: str, shared: set[str]) -> None:
        others = self._under_way.setdefault(key, [])
        if others:
            shared.add(key)
            for other in others:
                other.add(key)
        others.append(shared)

    def _leave(self, key: str, shared: set[str]) -> None:
        left = [other for other in self._under_way.get(key, ()) if other is not shared]
        if left:
            self._under_way[key] = left
        else:
            self._under_way.pop(key, None)
