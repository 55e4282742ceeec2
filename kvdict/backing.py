"""What the views of one namespace share: its reads, its writes, its listings, its flusher.

Keys are full keys and checked, values are bytes.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from kvdict.breaker import PATIENCE
from kvdict.buffer import WriteBuffer
from kvdict.cache import ReadCache
from kvdict.cachedreads import CachedReads
from kvdict.client import Client
from kvdict.clock import ServiceClock
from kvdict.flights import Slots
from kvdict.flusher import Flusher
from kvdict.gate import Gate
from kvdict.home import Home
from kvdict.listing import Listing
from kvdict.models import FlushResult
from kvdict.readthrough import ReadThrough
from kvdict.source import Source
from kvdict.turns import shared_turns
from kvdict.writepath import WritePath
from kvdict.writer import BulkWriter

if TYPE_CHECKING:
    from kvdict.journal import Journal
    from kvdict.journalrows import Replay


class Backing:
    """One opened namespace, below codec and prefix: the parts, put together and closed again."""

    def __init__(
        self,
        home: Home,
        namespace_id: str,
        title: str | None,
        buffer: WriteBuffer,
        cache: ReadCache | None = None,
        *,
        reads_ahead: bool = True,
    ) -> None:
        buffer.check_free()
        if cache is not None:
            cache.check_free()
        self.home = home
        self.id = namespace_id
        self._gate = Gate()
        self.reads_ahead = reads_ahead
        self.buffer = buffer
        self.client = home.client
        slots = Slots(home.parallel)
        sources = self._source(slots), self._source(slots, PATIENCE)
        with ExitStack() as undo:  # what fails takes neither buffer nor cache
            self._journal = self._open_journal()
            replay = None
            if self._journal:
                undo.callback(self._journal.close)
                replay = self._journal.replay()
            self.reads = (
                ReadThrough(*sources, buffer)
                if cache is None
                else CachedReads(*sources, buffer, cache)
            )
            undo.pop_all()
        buffer.attach(local=home.local)
        self.flusher = Flusher(home, namespace_id, buffer, self._journal)
        if self._journal and replay:
            self._take_up(replay, self._journal.last_number)
        self._title = title
        self.writes = WritePath(
            self.client,
            namespace_id,
            buffer,
            self.reads,
            self.flusher,
            BulkWriter(self.client, namespace_id, slots),
            shared_turns.find(home.place, namespace_id),
        )
        home.acquire()
        self._is_user = True
        self.listing = Listing(
            self.client, namespace_id, buffer, cache, slots, self._gate.check_open
        )

    @property
    def title(self) -> str:
        """Return the title; one request at the first time if the namespace was opened by id."""
        if self._title is None:
            self._title = self.client.get_namespace(self.id).title
        return self._title

    @property
    def address(self) -> str:
        """Return the URL of the namespace, without a request."""
        return self.home.address(self._title or self.id)

    @property
    def clock(self) -> ServiceClock:
        """The service's clock, and our own."""
        return self.client.transport.clock

    def stats(self) -> dict[str, float]:
        """Return counts since the home was opened, and what is on its way."""
        transport, flushed = self.client.transport, self.flusher.stats()
        return {
            "requests": transport.requests,
            "retries": transport.retries,
            **flushed,
            **self.reads.stats(),
            "requests_saved": flushed["requests_saved"] + self.reads.saved,
        }

    def refresh(self, key: str) -> None:
        """Forget what settles of a key, and what is cached of it."""
        self.buffer.forget(key)
        self.buffer.touched(key)

    def flush(self, timeout: float) -> FlushResult:
        """Send what is pending; FlushError if not all of it was sent in time."""
        return self.flusher.flush(timeout)

    @property
    def closed(self) -> bool:
        """Tell whether it was closed."""
        return self._gate.is_closed

    def close(self, timeout: float) -> None:
        """Flush and let go of the home; after an error it is still open.

        What an interrupt left undone behind the flush, the next call does.
        """
        if not self.closed:
            self._flush_for_the_last_time(timeout)
        self.flusher.stop()
        if self._journal:
            self._journal.close()
        is_user, self._is_user = self._is_user, False
        if is_user:
            self.home.release()

    # Within

    def _flush_for_the_last_time(self, timeout: float) -> None:
        try:
            self.buffer.take_writes(False)  # else what another thread writes now would be lost
            self.flush(timeout)
            self._gate.is_closed = True
        except BaseException:
            self.buffer.take_writes(True)
            raise

    def _source(self, slots: Slots, max_wait: float | None = None) -> Source:
        transport, account = self.client.transport, self.client.account_id
        client = Client(transport, account, max_wait=max_wait)
        return Source(client, self.id, slots, self._gate.check_open)

    def _open_journal(self) -> Journal | None:
        buffer = self.buffer
        if buffer.journal is None:
            return None
        from kvdict.journal import Journal  # costs as much as all the rest of this module

        transport, account = self.client.transport, self.client.account_id
        journal = Journal(
            buffer.journal,
            namespace=f"{self.home.place if self.home.local else transport.base_url}"
            f"/{account}/{self.id}",
            durability=buffer.durability,
            max_age=buffer.journal_max_age,
            wall=transport.clock.wall,
        )
        journal.stands_for = buffer.stands_for
        return journal

    def _take_up(self, replay: Replay, last_number: int) -> None:
        """Take up what an earlier owner of the journal left; it is seen by reads at once."""
        self.buffer.number = last_number
        for key, write in replay.writes:
            self.buffer.add(key, write)
        self.flusher.outcomes.failed.update(replay.failed)
        self.flusher.resume()
