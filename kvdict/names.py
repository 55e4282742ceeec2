"""Names in order, without sorting them all for each listing."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Container

UNSORTED = 500
"""Names that are looked through one by one before they are sorted in."""


class SortedNames:
    """A set of names, of which those behind a point can be had in order.

    Adding costs two insertions into hash tables: new names are sorted in when there are many of
    them and somebody asks, or when the owner has the time.
    """

    def __init__(self) -> None:
        self._all: set[str] = set()
        self._sorted: list[str] = []
        self._fresh: list[str] = []

    def add(self, name: str) -> None:
        """Take a name in."""
        if name not in self._all:
            self._all.add(name)
            self._fresh.append(name)

    def following(self, after: str | None, prefix: str, most: int) -> list[str]:
        """Return the next names with the prefix, behind `after` if given, in order."""
        if len(self._fresh) > UNSORTED:
            self.sort()
        start = bisect_left(self._sorted, prefix)
        if after is not None and after >= prefix:
            start = bisect_right(self._sorted, after)
        names = self._sorted[start : start + most]
        fresh = [
            name
            for name in self._fresh
            if name.startswith(prefix) and (after is None or name > after)
        ]
        names = sorted(names + fresh)[:most] if fresh else names
        return [name for name in names if name.startswith(prefix)]

    def sort(self) -> None:
        """Sort the new names in."""
        if self._fresh:
            self._sorted += sorted(self._fresh)
            self._sorted.sort()  # two sorted runs: merged in one pass
            self._fresh.clear()

    def keep(self, known: Container[str], size: int) -> None:
        """Let go of the names that are not known any more, once they are half of all."""
        if len(self._all) > 2 * size + UNSORTED:
            self.sort()
            self._sorted = [name for name in self._sorted if name in known]
            self._all = set(self._sorted)
