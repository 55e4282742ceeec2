"""The delivery of one chunk of a buffer: sent, in parts where it has to be, and taken in."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kvdict.answers import GATEWAY_TIMEOUTS, too_much
from kvdict.buffer import WriteBuffer
from kvdict.changes import Change
from kvdict.chunks import Chunker, Deletion
from kvdict.client import Client
from kvdict.clock import ServiceClock
from kvdict.errors import APIError, JournalError, ServerError, TransportError
from kvdict.limits import MIN_TTL
from kvdict.outcomes import Outcomes
from kvdict.phrases import how_many
from kvdict.writes import PackedWrite

if TYPE_CHECKING:
    from kvdict.journal import Journal

ABOUT_A_PAIR = {10012, 10023, 10024, 10030, 10033, 10034, 10042, 10047, 10147}
"""Codes of a bulk refusal that one pair is to blame for."""
SEARCHES = 64
"""Requests that one search for refused pairs in a chunk may take."""
GIVEN_UP = 120.0
"""Seconds after which the service no longer works on a request whose answer was lost."""

log = logging.getLogger("kvdict")


class Parcel:
    """A change packed for the wire: a put, or the deletion of what is to be gone."""

    __slots__ = ("change", "item")

    def __init__(self, change: Change, clock: ServiceClock) -> None:
        self.change = change
        write = change.write if change.left(clock) > 0 else None
        self.item = PackedWrite(write) if write else Deletion(change.key)

    @property
    def key(self) -> str:
        """Return the key that is written."""
        return self.change.key

    @property
    def size(self) -> int:
        """Return the most bytes that it takes in a body."""
        return self.item.size

    @property
    def is_deletion(self) -> bool:
        """Tell which of the two it is."""
        return isinstance(self.item, Deletion)


class Delivery:
    """Sends chunks of sealed changes; what became of each goes to buffer, journal and outcomes.

    An answer is taken in by the thread that got it, and off the journal before anything else is
    sent: after a crash at most the requests under way are sent twice. What the journal cannot let
    go of at once, because its disk, or a signal handler in the middle of a record, holds it up,
    is later, and may be sent once more until then.
    """

    def __init__(
        self,
        client: Client,
        namespace_id: str,
        buffer: WriteBuffer,
        journal: Journal | None,
        chunker: Chunker,
        outcomes: Outcomes,
    ) -> None:
        self._client = client
        self._namespace_id = namespace_id
        self._buffer = buffer
        self._journal = journal
        self._chunker = chunker
        self._outcomes = outcomes

    def deliver(self, parcels: Sequence[Parcel]) -> None:
        """Send a chunk: one request, more where it is too large or some pair is refused."""
        rest = [parcels]
        searches = SEARCHES
        unknown = False
        while rest:
            part = rest.pop()
            try:
                not_stored = set(self._request(part))
            except Exception as error:  # noqa: BLE001 - a token callable's own errors come here too
                unknown = unknown or is_of_unknown_outcome(error)
                if too_much(error) and len(part) > 1:
                    rest += self._chunker.halve(part)
                elif is_about_a_pair(error) and len(part) == 1:
                    self._refused(part[0].change, error)
                elif is_about_a_pair(error) and searches:
                    searches -= 1
                    rest += narrow(part, str(error))
                else:
                    self._back([parcel for piece in (part, *rest) for parcel in piece], error)
                    return
            else:
                self._accept(part, not_stored, GIVEN_UP if unknown else 0.0)

    def _request(self, part: Sequence[Parcel]) -> Iterable[str]:
        """Send it; return the keys of those that could not be stored everywhere."""
        self._outcomes.requested()
        client, namespace = self._client, self._namespace_id
        if part[0].is_deletion:
            if len(part) == 1:
                client.delete_value(namespace, part[0].key, retry_lost=False)
                return ()
            keys = [parcel.key for parcel in part]
            return client.bulk_delete(namespace, keys, retry_lost=False).unsuccessful_keys
        writes = [parcel.item for parcel in part if isinstance(parcel.item, PackedWrite)]
        if len(writes) == 1:
            client.put_value(namespace, writes[0].write, retry_lost=False)
            return ()
        return client.bulk_put(namespace, writes, retry_lost=False).unsuccessful_keys

    def _accept(self, part: Sequence[Parcel], not_stored: set[str], hold_for: float) -> None:
        clock = self._client.transport.clock
        accepted = [parcel.change for parcel in part if parcel.key not in not_stored]
        self._buffer.accepted(accepted, partial(lives_on, clock), hold_for)
        self._forget(accepted)
        again = [parcel for parcel in part if parcel.key in not_stored]
        if again:
            self._back(again, NotStoredError(f"{how_many(len(again))} not stored everywhere"))
        self._outcomes.stored(len(accepted), all_of_them=not again)

    def _refused(self, change: Change, error: Exception) -> None:
        """Give a write up that the service will never take."""
        self._outcomes.refused(change.key, error)
        self._buffer.drop(change)
        self._forget([change])

    def _forget(self, changes: Sequence[Change]) -> None:
        """Take what is settled off the journal, before anything else is sent."""
        if self._journal:
            try:
                self._journal.forget(changes)
            except JournalError as error:  # it tries again: at worst they are sent once more
                log.exception("%s accepted, and not taken off the journal", how_many(len(changes)))
                self._outcomes.tell(self._buffer.on_error, error)

    def _back(self, parcels: Sequence[Parcel], error: Exception) -> None:
        """Keep writes pending."""
        unknown_for = GIVEN_UP if is_of_unknown_outcome(error) else 0.0
        self._buffer.give_back((parcel.change for parcel in parcels), unknown_for=unknown_for)
        self._outcomes.put_off(error)


class NotStoredError(ServerError):
    """The service took the request and named keys that it could not store everywhere."""


def is_of_unknown_outcome(error: Exception) -> bool:
    """Tell whether the service may still be working on the request: a timeout, ours or the gate's.

    Another write of its keys could be overtaken by it.
    """
    if isinstance(error, TransportError):
        return error.timed_out
    return isinstance(error, APIError) and error.status in GATEWAY_TIMEOUTS


def is_about_a_pair(error: Exception) -> bool:
    """Tell whether one pair of a bulk request is to blame for its refusal."""
    return isinstance(error, APIError) and error.code in ABOUT_A_PAIR


def narrow(part: Sequence[Parcel], text: str) -> list[Sequence[Parcel]]:
    """Split a refused part: off the key that the message names, or in halves."""
    named = [parcel for parcel in part if f'"{parcel.key}"' in text or f"'{parcel.key}'" in text]
    if len(named) == 1:
        return [[parcel for parcel in part if parcel is not named[0]], named]
    middle = len(part) // 2
    return [part[middle:], part[:middle]]


def lives_on(clock: ServiceClock, change: Change) -> float:
    """Return the seconds for which the service keeps a pair whose own time is nearly over."""
    return MIN_TTL + 1.0 if change.left(clock) < MIN_TTL else 0.0
