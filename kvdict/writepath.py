"""The way of own writes: into the buffer, which is sent later, or to the service at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from enum import Enum
from functools import partial
from typing import TypeVar

from kvdict.buffer import WriteBuffer
from kvdict.changes import Change
from kvdict.chunks import Deletion
from kvdict.client import Client
from kvdict.errors import JournalError, KVError
from kvdict.flusher import Flusher
from kvdict.overlaps import Overlaps
from kvdict.phrases import how_many
from kvdict.readthrough import ReadThrough
from kvdict.turns import Turns
from kvdict.writer import Accepted, BulkWriter
from kvdict.writes import PackedWrite, Write

L = TypeVar("L")
Items = Sequence[PackedWrite | Deletion]

log = logging.getLogger("kvdict")


class Decision(Enum):
    """What may become of a key that was looked at, besides a write."""

    DELETE = "delete"
    LEAVE = "leave"


class WritePath:
    """Takes the writes of one namespace; `made` grows with every call that writes.

    Written through, each is sent before the call returns, and the buffer only remembers what was
    accepted a short while ago.
    """

    def __init__(
        self,
        client: Client,
        namespace_id: str,
        buffer: WriteBuffer,
        reads: ReadThrough,
        flusher: Flusher,
        writer: BulkWriter,
        turns: Turns,
    ) -> None:
        self.made = 0
        self._client = client
        self._namespace_id = namespace_id
        self._buffer = buffer
        self._reads = reads
        self._flusher = flusher
        self._writer = writer
        self._turns = turns
        self._overlaps = Overlaps()

    def put(self, write: Write) -> None:
        """Store one pair: one request, or a part of one later."""
        self._write(write.key, write)

    def delete(self, key: str) -> None:
        """Delete one pair: one request, or a part of one later."""
        self._write(key, None)

    def put_many(self, writes: Iterable[Write]) -> None:
        """Store many pairs: a request ten thousand."""
        if not self._buffer.write_through:
            self._buffer_all((write.key, write) for write in writes)
            return
        self.made += 1
        with self._doubting():
            self._writer.put(writes, self._watch)

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete many keys: a request ten thousand."""
        if not self._buffer.write_through:
            self._buffer_all((key, None) for key in keys)
            return
        self.made += 1
        with self._doubting():
            self._writer.delete(keys, self._watch)

    def send_many(self, writes: Iterable[Write], accepted: Callable[[list[str]], None]) -> None:
        """Store many pairs at once, past the buffer, whose writes the caller has flushed.

        A request ten thousand; `accepted` is called with the keys of each, from its thread.
        """
        self.made += 1
        with self._doubting():
            self._writer.put(writes, partial(self._watch, accepted=accepted))

    def remove_many(self, keys: Iterable[str], accepted: Callable[[list[str]], None]) -> None:
        """Delete many keys the same way."""
        self.made += 1
        with self._doubting():
            self._writer.delete(keys, partial(self._watch, accepted=accepted))

    def modify(
        self,
        key: str,
        look: Callable[[str], L | None],
        decide: Callable[[L | None], Write | Decision],
    ) -> None:
        """Look at a key and do with it what `decide` says, atomically among this process's threads.

        Decides again if the key was written meanwhile.
        """
        with self._turns.take(key):
            while True:
                seen, undisturbed = self._buffer.get(key), self._turns.count(key)
                decision = decide(look(key))
                if decision is Decision.LEAVE:
                    return
                write = decision if isinstance(decision, Write) else None
                if not self._buffer.write_through:
                    self._flusher.make_room()  # others may write meanwhile
                if self._turns.count(key) != undisturbed:
                    continue
                if self._write_after(key, seen, write):
                    return

    # Within

    @property
    def _is_watched(self) -> bool:
        """Tell whether reads look at own writes: those under way always do."""
        return self._buffer.overlays or self._buffer.is_read or bool(self._buffer.listeners)

    def _buffer_all(self, writes: Iterable[tuple[str, Write | None]]) -> None:
        taken = 0
        at_hand: tuple[str, ...] = ()
        try:
            for key, write in writes:
                at_hand = (key,)
                self._write(key, write)
                at_hand = ()
                taken += 1
        except KVError as error:
            keys = dict.fromkeys((*error.keys, *at_hand))
            error.say_more(f"{how_many(taken)} accepted before", tuple(keys))
            raise

    def _write(self, key: str, write: Write | None) -> None:
        if not self._buffer.write_through:
            self.made += 1
            self._flusher.make_room()
            older = self._buffer.pending.get(key)
            change = self._buffer.add(key, write)
            self._turns.disturb([key])
            self._record(change, older)
        else:
            with self._turns.take(key):
                self._send(key, write)

    def _write_after(self, key: str, seen: Change | None, write: Write | None) -> bool:
        if self._buffer.write_through:
            self._send(key, write)
            return True
        self.made += 1
        older = self._buffer.pending.get(key)
        change = self._buffer.replace(key, seen, write)
        if change:
            self._record(change, older)
        return change is not None

    @contextmanager
    def _doubting(self) -> Iterator[None]:
        """Believe nothing that was read of keys whose write failed: it may be stored."""
        try:
            yield
        except BaseException as error:
            for key in getattr(error, "keys", ()):  # the writer names them in foreign errors too
                self._buffer.touched(key)
            if self._reads.cache is not None and not isinstance(error, KVError):
                self._reads.cache.clear()  # an interrupt may have come before they were named
            raise

    def _record(self, change: Change, older: Change | None) -> None:
        """Put a change on disk: the overlay has it, so that an interrupt leaves it pending."""
        try:
            if self._flusher.journal:
                self._flusher.journal.record(change)
        except JournalError:
            if self._buffer.take_back(change, older):
                raise
            log.exception("the write of key %r is on its way, but not in the journal", change.key)
        finally:
            self._flusher.notice()

    def _send(self, key: str, write: Write | None) -> None:
        """Write through: reads see it at once, and no more if it fails."""
        self.made += 1
        with self._overlaps.writing([key]) as overlapping:
            change = self._buffer.begin(key, write) if self._is_watched else None
            try:
                if write is None:
                    self._client.delete_value(self._namespace_id, key)
                else:
                    self._client.put_value(self._namespace_id, write)
                    self._reads.source.reader.learn(key, write.data)
            except BaseException:
                if change:
                    self._buffer.drop(change)
                raise
            if change and not overlapping:
                self._buffer.accepted([change])
            else:
                self._doubt(key, change)  # somebody may have begun to read ahead meanwhile

    @contextmanager
    def _watch(
        self, items: Items, accepted: Callable[[list[str]], None] | None = None
    ) -> Iterator[Accepted]:
        """Follow a chunk of a bulk call on its way."""
        with self._overlaps.writing([item.key for item in items]) as overlapping:

            def take(part: Items) -> None:
                self._remember(part, overlapping)
                if accepted:
                    accepted([item.key for item in part])

            yield take

    def _remember(self, items: Items, overlapping: Set[str]) -> None:
        """Let accepted writes of a bulk call settle, and be seen by who is at one of their keys."""
        self._turns.disturb(item.key for item in items)
        if self._is_watched:
            known = [item for item in items if item.key not in overlapping]
            self._buffer.remember((item.key, item.write) for item in known)
            for item in items:
                if item.key in overlapping:
                    self._doubt(item.key)

    def _doubt(self, key: str, change: Change | None = None) -> None:
        """Ask the service for this key: of two writes at once nobody here knows the last."""
        if change:
            self._buffer.drop(change)
        else:
            self._buffer.touched(key)
        self._buffer.forget(key)
