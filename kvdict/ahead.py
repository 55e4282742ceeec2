"""Reading ahead: who reads the keys one by one, in the order listed, is served in bulk."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Final

from cachetools import LRUCache

from kvdict.answers import too_much
from kvdict.changes import Change
from kvdict.errors import KVError
from kvdict.limits import MAX_BULK_GET_KEYS
from kvdict.listing import Listing
from kvdict.models import KeyPage
from kvdict.reader import Raw, is_text
from kvdict.readthrough import ReadThrough

IN_A_ROW = 3
"""Reads in listing order after which the next ones come in bulk."""
FIRST_WINDOW = 4
MAX_AGE: Final = 5.0
"""Seconds for which a value that was read ahead may be used."""
MAX_BYTES = 4_000_000
"""Bytes of values to read ahead at once, by the size of the last ones."""
PAGES = 20
"""Pages of names kept; an earlier one is listed again when its keys are read."""


class ReadAhead:
    """What one thread listed last, and the values read ahead of its reads.

    A value is used once, and not after its key was written. It is all given up where bulk reads do
    not serve: for values that are not text, and errors.
    """

    def __init__(
        self,
        prefix: str,
        listing: Listing,
        reads: ReadThrough,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._prefix = prefix
        self._listing = listing
        self._reads = reads
        self._is_listening = False
        self._clock = clock
        self._firsts: list[str] = []
        self._cursors: list[str | None] = []
        self._names: LRUCache[int, list[str]] = LRUCache(PAGES)
        self._awaited: set[str] = set()
        self._values: dict[str, Raw] = {}
        self._read_at = 0.0
        self._last = ""
        self._in_a_row = 0
        self._window = FIRST_WINDOW
        self._is_off = False

    def listed(self, page: KeyPage, cursor: str | None) -> None:
        """Take in a page of the listing, and the cursor that names it."""
        if page.keys:
            self._names[len(self._firsts)] = [key.name for key in page.keys]
            self._firsts.append(page.keys[0].name)
            self._cursors.append(cursor)

    def ask(self, key: str) -> tuple[Raw, float]:
        """Return the value of a key and its age: read ahead, or from the service now."""
        taken = self._take(key)
        if taken:
            self._last = key
            self._reads.read_ahead += 1
        elif not self._is_off and self._goes_on(key):
            self._fetch(key)
            taken = self._take(key)
        return taken or (self._single(key), 0.0)

    def written(self, key: str) -> None:
        """Forget what was read ahead of a key that is written."""
        self._values.pop(key, None)
        self._awaited.discard(key)

    def accepted(self, change: Change) -> None:
        """Forget it once more: it may have been read meanwhile."""
        self.written(change.key)

    def _take(self, key: str) -> tuple[Raw, float] | None:
        """Take what was read ahead of a key, not long ago, and is not past its own end."""
        age = self._clock() - self._read_at
        if self._values and age >= MAX_AGE:
            self._values = {}
        try:
            entry = self._values.pop(key)
        except KeyError:  # not read, or written meanwhile
            return None
        ends = entry.expiration if entry else None
        is_over = ends is not None and ends <= self._reads.source.clock.now()
        return None if is_over else (entry, age)

    def _single(self, key: str) -> Raw:
        """Read one value by itself; learn whether to go on with more."""
        entry = self._reads.source.get(key)
        if entry and not is_text(entry.value):
            self._in_a_row = 0
        if self._window == 1:
            self._adapt([entry])
        return entry

    def _fetch(self, key: str) -> None:
        """Read this key's value and those behind it, if bulk reads serve."""
        try:
            names = self._following(key)
            if len(names) > 1:
                self._read(names)
        except KVError as error:
            self._is_off = not too_much(error)
            self._window = 1

    def _goes_on(self, key: str) -> bool:
        """Tell whether enough reads came in listing order, this one included."""
        last, self._last = self._last, key
        self._in_a_row = self._in_a_row + 1 if last and self._follows(last, key) else 1
        return self._in_a_row > IN_A_ROW

    def _follows(self, last: str, key: str) -> bool:
        """Tell whether all between needs no request; if in doubt, whether the keys are near."""
        number, previous = self._number(key), self._number(last)
        if key <= last or not 0 <= previous <= number <= previous + 1:
            return False
        between = self._names.get(previous, [])[:]
        if number > previous:
            between += self._names.get(number, [])
        start, end = bisect_right(between, last), bisect_left(between, key)
        return all(map(self._reads.knows, between[start:end]))

    def _following(self, key: str) -> list[str]:
        """Return the key and the names behind it that a read would have to ask for."""
        names = self._page(self._number(key))
        start = bisect_left(names, key)
        window = names[start : start + self._window]
        return [key, *(name for name in window if name != key and not self._reads.knows(name))]

    def _number(self, key: str) -> int:
        """Return the number of the page that the key stands in, -1 for none."""
        return bisect_right(self._firsts, key) - 1

    def _page(self, number: int) -> list[str]:
        """Return the names of a page; a request if it was let go of."""
        if number not in self._names:
            page = self._listing.page(self._prefix, self._cursors[number])
            self._names[number] = [key.name for key in page.keys]
        return self._names[number]

    def _read(self, names: list[str]) -> None:
        """Read the values of the names: one request."""
        if not self._is_listening:
            self._reads.buffer.listen(self)
            self._is_listening = True
        self._values, self._awaited = {}, set(names)
        try:
            found = self._reads.source.reader.bulk(names, with_metadata=True)
            with self._reads.buffer.lock:  # what was written meanwhile is no longer awaited
                self._values = {name: found[name] for name in names if name in self._awaited}
                self._read_at = self._clock()
        finally:
            self._awaited = set()
        self._adapt(list(found.values()))

    def _adapt(self, entries: list[Raw]) -> None:
        """Double the window, as far as values of this size fit into it."""
        sizes = [len(entry.value) for entry in entries if entry]
        fitting = MAX_BYTES * len(sizes) // max(1, sum(sizes)) if sizes else MAX_BULK_GET_KEYS
        self._window = max(1, min(2 * self._window, fitting, MAX_BULK_GET_KEYS))
