"""Writing many pairs: bulk puts and bulk deletes of any number, in order for each key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from kvdict.chunks import Chunk, Chunker, Deletion, Item, ItemT
from kvdict.client import Client
from kvdict.convoy import Convoy
from kvdict.errors import FlushError, KVError
from kvdict.flights import Slots
from kvdict.models import BulkResult
from kvdict.phrases import how_many, name_some
from kvdict.writes import PackedWrite, Write

INTERRUPTED = 5.0
"""Seconds that an interrupted call waits for what is under way; a second interrupt ends that."""


Accepted = Callable[[Sequence[Any]], None]
Watch = Callable[[Sequence[Any]], AbstractContextManager[Accepted]]
"""Of packed writes, or of deletions."""


def unwatched(_: Sequence[Item]) -> AbstractContextManager[Accepted]:
    """Have nobody told of what is sent."""
    return nullcontext(lambda _: None)


class BulkWriter:
    """Stores and deletes any number of pairs of one namespace, streaming.

    Chunks of at most 10,000 pairs and 10 MB, several under way. The chunk size shrinks for good
    where the service found a body too large (413, 504, 524, a timeout).
    """

    def __init__(self, client: Client, namespace_id: str, slots: Slots) -> None:
        self._client = client
        self._namespace_id = namespace_id
        self._slots = slots
        self._chunker = Chunker()

    def put(
        self,
        writes: Iterable[Write],
        watch: Watch = unwatched,
    ) -> int:
        """Store the pairs, the last one where a key repeats; return how many were sent.

        `watch` is entered with each chunk on its way; what it gives is called with those writes
        that the service has taken, before their keys may go again.
        """
        return self._stream(map(PackedWrite, writes), self._put, watch)

    def delete(self, keys: Iterable[str], watch: Watch = unwatched) -> int:
        """Delete the keys, present or not; return how many were sent."""
        return self._stream(map(Deletion, keys), self._delete, watch)

    def _stream(
        self,
        items: Iterable[ItemT],
        send: Callable[[Sequence[ItemT]], BulkResult],
        watch: Watch,
    ) -> int:
        convoy = Convoy(self._slots)
        chunk: Chunk[ItemT] = Chunk()
        full: Chunk[ItemT] = Chunk()

        def launch(chunk: Chunk[ItemT]) -> None:
            items = list(chunk.items.values())
            convoy.send(partial(self._store, items, send, watch), chunk.items.keys(), chunk.size)

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
        watch: Watch,
    ) -> int:
        """Send until all are accepted, in halves where that is too much; return how many."""
        with watch(items) as accepted:
            self._send(items, send, accepted)
        return len(items)

    def _send(
        self,
        items: Sequence[ItemT],
        send: Callable[[Sequence[ItemT]], BulkResult],
        accepted: Accepted,
    ) -> None:
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
            accepted([item for item in part if item.key not in refused])
            if refused:
                again = [item for item in part if item.key in refused]
                if not again or not transport.back_off(attempt, deadline):
                    raise _not_stored(refused, rest)
                rest.append(again)
                attempt += 1

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
