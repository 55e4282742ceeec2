"""Writing many pairs: bulk puts and bulk deletes of any number, in order for each key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from functools import partial
from typing import Generic, Protocol, TypeVar

from kvdict.client import Client
from kvdict.convoy import Convoy
from kvdict.errors import FlushError, KVError
from kvdict.flights import Slots
from kvdict.limits import MAX_BULK_PAIRS
from kvdict.models import BulkResult
from kvdict.phrases import how_many, name_some
from kvdict.writes import PackedWrite, Write, quoted

CHUNK_BYTES = 10_000_000
"""Bytes of one body: a tenth of what the service takes, since 99 MB cost 390 MB of memory."""
SMALLEST_CHUNK_BYTES = 100_000
SMALLEST_CHUNK_PAIRS = 100
"""Chunks are halved down to one pair where it must be, but one bad hour is not held against all
that come later."""
INTERRUPTED = 5.0
"""Seconds that an interrupted call waits for what is under way; a second interrupt ends that."""


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


class BulkWriter:
    """Stores and deletes any number of pairs of one namespace, streaming.

    Chunks of at most 10,000 pairs and 10 MB, several under way. The chunk size shrinks for good
    where the service found a body too large (413, 524, a timeout).
    """

    def __init__(self, client: Client, namespace_id: str, slots: Slots) -> None:
        self._client = client
        self._namespace_id = namespace_id
        self._slots = slots
        self._chunker = Chunker()

    def put(
        self,
        writes: Iterable[Write],
        accepted: Callable[[Sequence[PackedWrite]], None] | None = None,
    ) -> int:
        """Store the pairs, the last one where a key repeats; return how many were sent.

        `accepted` is called with those that the service has taken, before their keys may go again.
        """
        return self._stream(map(PackedWrite, writes), self._put, accepted)

    def delete(
        self, keys: Iterable[str], accepted: Callable[[Sequence[Deletion]], None] | None = None
    ) -> int:
        """Delete the keys, present or not; return how many were sent."""
        return self._stream(map(Deletion, keys), self._delete, accepted)

    def _stream(
        self,
        items: Iterable[ItemT],
        send: Callable[[Sequence[ItemT]], BulkResult],
        accepted: Callable[[Sequence[ItemT]], None] | None,
    ) -> int:
        convoy = Convoy(self._slots)
        chunk: Chunk[ItemT] = Chunk()
        full: Chunk[ItemT] = Chunk()

        def launch(chunk: Chunk[ItemT]) -> None:
            items = list(chunk.items.values())
            convoy.send(partial(self._store, items, send, accepted), chunk.items.keys(), chunk.size)

        try:
            for item in items:
                if self._chunker.is_full(chunk, item):
                    full, chunk = chunk, Chunk()
                chunk.add(item)
                if full.items:
                    launch(full)
                    full = Chunk()
            if chunk.items:
                launch(chunk)
                chunk = Chunk()
            return convoy.land()
        except BaseException as error:
            convoy.wait(None if isinstance(error, Exception) else INTERRUPTED)
            _say_how_far(error, convoy.done, (*convoy.lost, *full.items, *chunk.items))
            raise

    def _store(
        self,
        items: Sequence[ItemT],
        send: Callable[[Sequence[ItemT]], BulkResult],
        accepted: Callable[[Sequence[ItemT]], None] | None,
    ) -> int:
        """Send until all are accepted, in halves where that is too much; return how many."""
        transport = self._client.transport
        deadline = transport.deadline()
        rest = [items]
        attempt = 0
        while rest:
            part = rest.pop()
            try:
                result = send(part)
            except KVError as error:
                if transport.is_too_much(error) and len(part) > 1:
                    rest += self._chunker.halve(part)
                    continue
                error.keys = tuple(item.key for chunk in [part, *rest] for item in chunk)
                raise
            refused = set(result.unsuccessful_keys)
            if accepted:
                accepted([item for item in part if item.key not in refused])
            if refused:
                again = [item for item in part if item.key in refused]
                if not again or not transport.back_off(attempt, deadline):
                    raise _not_stored(refused, rest)
                rest.append(again)
                attempt += 1
        return len(items)

    def _put(self, part: Sequence[PackedWrite]) -> BulkResult:
        if len(part) == 1:
            self._client.put_value(self._namespace_id, part[0].write)
            return BulkResult(1)
        return self._client.bulk_put(self._namespace_id, part, retry_lost=False)

    def _delete(self, part: Sequence[Deletion]) -> BulkResult:
        if len(part) == 1:
            self._client.delete_value(self._namespace_id, part[0].key)
            return BulkResult(1)
        keys = [item.key for item in part]
        return self._client.bulk_delete(self._namespace_id, keys, retry_lost=False)


def _not_stored(refused: Set[str], rest: Sequence[Sequence[Item]]) -> FlushError:
    reason = "not written to all of Cloudflare's storage (unsuccessful_keys), tried again in vain"
    failed = dict.fromkeys(sorted(refused), reason)
    failed |= {item.key: "not sent" for chunk in rest for item in chunk}
    return FlushError("the service did not store all writes; send them again later", failed=failed)


def _say_how_far(error: BaseException, done: int, lost: Iterable[str]) -> None:
    """Tell in the error what became of the writes before it."""
    keys = tuple(dict.fromkeys(lost))
    text = f"{how_many(done)} accepted before" if done else "no other write was accepted"
    if keys:
        verb = "is" if len(keys) == 1 else "are"
        text += f", {len(keys)} {verb} not known to be stored: {name_some(keys)}"
    if isinstance(error, FlushError):
        error.pending = len(keys) - len(error.failed.keys() & set(keys))
    if isinstance(error, KVError):
        error.say_more(text, keys)
    elif done or keys:
        error.keys = keys  # type: ignore[attr-defined] # a foreign error names them the same way
        error.add_note(f"kvdict: {text}")
