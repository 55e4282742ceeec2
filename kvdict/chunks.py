"""Chunks: what goes into one bulk body."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from kvdict.limits import MAX_BULK_PAIRS
from kvdict.writes import quoted

CHUNK_BYTES = 10_000_000
"""Bytes of one body: a tenth of what the service takes, since 99 MB cost 390 MB of memory."""
SMALLEST_CHUNK_BYTES = 100_000
SMALLEST_CHUNK_PAIRS = 100
"""Chunks are halved down to one pair where it must be, but one bad hour is not held against all
that come later."""


class Item(Protocol):
    """One write of a chunk."""

    @property
    def key(self) -> str:
        """The key that is written."""
        ...

    @property
    def size(self) -> int:
        """The most bytes that it takes in a body."""
        ...


class Deletion:
    """The deletion of a key."""

    __slots__ = ("key", "size")
    write = None

    def __init__(self, key: str) -> None:
        self.key = key
        self.size = len(quoted(key).encode()) + len(",")


ItemT = TypeVar("ItemT", bound=Item)


class Chunk(Generic[ItemT]):
    """What goes into one body: the last write of each key."""

    def __init__(self) -> None:
        self.items: dict[str, ItemT] = {}
        self.size = 0

    def add(self, item: ItemT) -> None:
        """Take the write in, in place of an earlier one of its key."""
        replaced = self.items.pop(item.key, None)
        self.size += item.size - (replaced.size if replaced else 0)
        self.items[item.key] = item


class Chunker:
    """Cuts writes into bodies; smaller ones for good where the service found one too large."""

    def __init__(self) -> None:
        self._max_pairs = MAX_BULK_PAIRS
        self._max_bytes = CHUNK_BYTES

    def is_full(self, chunk: Chunk[ItemT], item: ItemT) -> bool:
        """Tell whether the item has to go into another chunk."""
        if not chunk.items:
            return False
        return len(chunk.items) >= self._max_pairs or chunk.size + item.size > self._max_bytes

    def cut(self, items: Iterable[ItemT]) -> Iterator[Chunk[ItemT]]:
        """Yield chunks of the items, of which no two have the same key."""
        chunk: Chunk[ItemT] = Chunk()
        for item in items:
            if self.is_full(chunk, item):
                yield chunk
                chunk = Chunk()
            chunk.add(item)
        if chunk.items:
            yield chunk

    def halve(self, part: Sequence[ItemT]) -> list[Sequence[ItemT]]:
        """Return the halves of a body that was too much, the second one first."""
        middle = len(part) // 2
        pairs = max(SMALLEST_CHUNK_PAIRS, len(part) - middle)
        self._max_pairs = min(self._max_pairs, pairs)
        half = sum(item.size for item in part) // 2
        self._max_bytes = min(self._max_bytes, max(SMALLEST_CHUNK_BYTES, half))
        return [part[middle:], part[:middle]]
