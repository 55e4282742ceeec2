"""Listings: the service's pages, with the own writes laid over them."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from functools import partial
from heapq import merge
from itertools import islice
from operator import itemgetter

from kvdict.buffer import WriteBuffer
from kvdict.cache import ReadCache
from kvdict.client import Client
from kvdict.errors import APIError, LimitError
from kvdict.flights import Flight, Slots
from kvdict.limits import MAX_LIST_KEYS, MIN_LIST_KEYS
from kvdict.models import Key, KeyPage

Arrived = Callable[[KeyPage, str | None], None]


class Rounds:
    """Notices a listing that goes round in a circle, in a round and a half at most.

    A cache between that drops the query makes one, and there would be no end to it.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._mark: str | None = None

    def check(self, page: KeyPage) -> None:
        """Take note of a page that has arrived; APIError if its cursor was there before."""
        if page.cursor and page.cursor == self._mark:
            raise APIError(
                "the listing of the keys goes round in a circle: the same cursor came twice; is"
                " the base URL right, and is no cache between that drops the query?"
            )
        self._seen += 1
        if self._seen & (self._seen - 1) == 0:  # 1, 2, 4, 8: a mark for all rounds that are shorter
            self._mark = page.cursor


class Listing:
    """Lists one namespace in the order of the keys' UTF-8.

    Own writes are looked at when a page arrives, and again at the moment a key is yielded.
    """

    def __init__(
        self,
        client: Client,
        namespace_id: str,
        buffer: WriteBuffer,
        cache: ReadCache | None,
        slots: Slots,
        check_open: Callable[[], None],
    ) -> None:
        self._client = client
        self._namespace_id = namespace_id
        self._buffer = buffer
        self._cache = cache
        self._slots = slots
        self._check_open = check_open
        self._clock = client.transport.clock

    def page(self, prefix: str, cursor: str | None = None, limit: int | None = None) -> KeyPage:
        """Return one page of the service's keys, own writes not looked at."""
        self._check_open()
        page = self._client.list_keys(self._namespace_id, prefix=prefix, cursor=cursor, limit=limit)
        if self._cache is not None:
            self._cache.listed(page.keys)
        return page

    def scan(
        self, prefix: str, limit: int | None = None, arrived: Arrived | None = None
    ) -> Iterator[Key]:
        """Yield all keys lazily; the next page is asked for once half of this one is read.

        `arrived` is told of each page, and by which cursor it was asked for.
        """
        with self._buffer.reading():
            after = None
            for page, keys in self._pages(prefix, limit, arrived):
                if page.keys or not page.cursor:
                    last = page.keys[-1].name if page.cursor else None
                    yield from self._overlaid(keys, after, last, prefix)
                    after = last

    def pages(self, prefix: str, cursor: str | None, limit: int | None) -> Iterator[KeyPage]:
        """Yield pages of keys, from a cursor of such a page on: a request each."""
        if not self._buffer.overlays:
            yield from self._plain_pages(prefix, cursor, limit)
            return
        after, theirs = _split_cursor(cursor)
        rounds = Rounds()
        with self._buffer.reading():
            while True:
                page = self.page(prefix, theirs, limit)
                rounds.check(page)
                for keys in self._batches(page, after, prefix, limit or MAX_LIST_KEYS):
                    if keys.cursor:  # more of this page, which is asked for again by then
                        yield KeyPage(keys.keys, _join_cursor(keys.cursor, theirs))
                    else:
                        after = page.keys[-1].name if page.keys else after
                        theirs = page.cursor
                        yield KeyPage(keys.keys, theirs and _join_cursor(after, theirs))
                if theirs is None:
                    return

    def first_keys(self, prefix: str) -> Iterator[Key]:
        """Yield keys in order for who wants few: smallest pages, one request for the first."""
        return self.scan(prefix, MIN_LIST_KEYS)

    def _plain_pages(self, prefix: str, cursor: str | None, limit: int | None) -> Iterator[KeyPage]:
        rounds = Rounds()
        while True:
            page = self.page(prefix, cursor, limit)
            rounds.check(page)
            yield page
            cursor = page.cursor
            if cursor is None:
                return

    def _batches(
        self, page: KeyPage, after: str | None, prefix: str, size: int
    ) -> Iterator[KeyPage]:
        """Yield a page with own keys merged in, in pages of that size; the last has no cursor."""
        if page.cursor and not page.keys:
            yield KeyPage([])
            return
        listed = (key for key in page.keys if after is None or key.name > after)
        last = page.keys[-1].name if page.cursor else None
        merged = self._overlaid(listed, after, last, prefix)
        keys = list(islice(merged, size))
        while following := list(islice(merged, size)):
            yield KeyPage(keys, keys[-1].name)
            keys = following
        yield KeyPage(keys)

    def _pages(
        self, prefix: str, limit: int | None, arrived: Arrived | None
    ) -> Iterator[tuple[KeyPage, Iterator[Key]]]:
        """Yield each page and a walk over it, half through which the next page is asked for."""
        page = self.page(prefix, limit=limit)
        cursor = None
        rounds = Rounds()
        while True:
            rounds.check(page)
            if arrived:
                arrived(page, cursor)
            following = partial(self.page, prefix, page.cursor, limit)
            ahead: list[Flight[KeyPage]] = []
            yield page, self._walk(page, following, ahead)
            if not page.cursor:
                return
            cursor = page.cursor
            page = ahead[0].result() if ahead else following()

    def _walk(
        self, page: KeyPage, following: Callable[[], KeyPage], ahead: list[Flight[KeyPage]]
    ) -> Iterator[Key]:
        half = len(page.keys) // 2
        for position, key in enumerate(page.keys):
            if position == half and position and page.cursor and self._slots.width > 1:
                ahead.append(Flight(following, self._slots))
            yield key

    def _overlaid(
        self, listed: Iterator[Key], after: str | None, last: str | None, prefix: str
    ) -> Iterator[Key]:
        """Merge a page with the own names of its range; what the overlay hides is left out."""
        theirs = ((key.name, key) for key in listed)
        ours = ((name, None) for name in self._buffer.names(after, last, prefix))
        previous = after
        for name, key in merge(theirs, ours, key=itemgetter(0)):
            if name == previous:
                continue
            previous = name
            change = self._buffer.get(name, listing=True)
            entry = change.entry(self._clock) if change else None
            if entry is not None:
                yield Key(name, entry.expiration, entry.metadata)
            elif change is None and key is not None:
                yield key


def _join_cursor(after: str | None, cursor: str | None) -> str:
    """Put the last name before the service's cursor: own names are merged in from there."""
    return f"{urlsafe_b64encode((after or '').encode()).decode()}.{cursor or ''}"


def _split_cursor(cursor: str | None) -> tuple[str | None, str | None]:
    if cursor is None:
        return None, None
    name, _, theirs = cursor.partition(".")
    try:
        return urlsafe_b64decode(name).decode() or None, theirs or None
    except ValueError:
        raise LimitError(f"{cursor!r} is no cursor of this namespace's pages()") from None
