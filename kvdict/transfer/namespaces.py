"""The raw side of a namespace: its pairs in order, from any place on."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from kvdict.errors import APIError, LimitError
from kvdict.models import Entry, KeyPage
from kvdict.namespace import KVNamespace

KV = KVNamespace[Any]
BAD_REQUEST = 400


@dataclass(frozen=True, slots=True)
class Place:
    """Where to go on: behind the key `last`, which is on the page of that cursor or before it."""

    cursor: str | None = None
    last: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair as it is stored, its entry None if it was deleted since it was listed."""

    key: str
    entry: Entry[bytes] | None
    place: Place


def raw_pairs(kv: KV, prefix: str = "", start: Place | None = None) -> Generator[Pair, None, None]:
    """Yield the pairs in order, from a place on: n / 1000 + n / 100 requests.

    A value that is not text takes one of its own: its metadata is that of the listing.
    """
    start = start or Place()
    space, backing = kv._space, kv._backing
    listed: dict[str, tuple[Any, str | None]] = {}

    def names() -> Iterator[str]:
        own = start.cursor
        for page in _pages(kv, prefix, start.cursor):
            fulls = [(space.prefix + key.name, key.metadata) for key in page.keys]
            for number, (full, metadata) in enumerate(fulls, 1):
                if full in listed or (start.last is not None and space.name(full) <= start.last):
                    continue
                after = page.cursor if number == len(fulls) and page.cursor else own
                listed[full] = metadata, after
                yield full
            own = page.cursor

    def metadata_of(full: str) -> Any:
        return listed[full][0]

    for full, entry in backing.reads.read(names(), details=metadata_of, eager=True):
        _, cursor = listed.pop(full)
        name = space.name(full)
        yield Pair(name, entry, Place(cursor, name))


def _pages(kv: KV, prefix: str, cursor: str | None) -> Iterator[KeyPage]:
    """Yield the pages from a cursor on, all of them if the service no longer knows it."""
    pages = kv.pages(prefix, cursor)
    try:
        first = next(pages)
    except (APIError, LimitError) as error:
        if cursor is None or (isinstance(error, APIError) and error.status != BAD_REQUEST):
            raise
        return kv.pages(prefix)
    return chain([first], pages)


def count_keys(kv: KV, prefix: str) -> int:
    """Count the keys: a request a thousand."""
    return sum(len(page.keys) for page in kv.pages(prefix))


def cursor_kind(kv: KV) -> str:
    """Say which kind of cursors the namespace gives: with own writes merged in, or without."""
    return "merged" if kv._backing.buffer.overlays else "plain"
