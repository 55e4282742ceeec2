"""Rounds: what is pending is sealed, sent chunk by chunk, and what was not sent given back."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from kvdict.buffer import WriteBuffer
from kvdict.changes import Change
from kvdict.chunks import Chunk, Chunker
from kvdict.client import Client
from kvdict.delivery import Delivery, Parcel
from kvdict.errors import JournalError
from kvdict.flights import Flight, Slots
from kvdict.forks import renew_in_children
from kvdict.home import Home
from kvdict.outcomes import Outcomes

if TYPE_CHECKING:
    from kvdict.journal import Journal

PATIENT = 5.0
"""Seconds that a request of a round may spend on allowance and retries."""

log = logging.getLogger("kvdict")


class Rounds:
    """Sends what a buffer holds, one round at a time: whoever makes them sees to that.

    What an answer brings is told by who flushes; where nobody does any more, by who got it.
    """

    def __init__(
        self,
        home: Home,
        namespace_id: str,
        buffer: WriteBuffer,
        journal: Journal | None,
        outcomes: Outcomes,
        flushes: Collection[object],
    ) -> None:
        client = Client(home.client.transport, home.client.account_id, max_wait=PATIENT)
        self._transport = client.transport
        self._buffer = buffer
        self._journal = journal
        self._outcomes = outcomes
        self._flushes = flushes
        self._slots = Slots(home.parallel)
        self._chunker = Chunker()
        self._delivery = Delivery(client, namespace_id, buffer, journal, self._chunker, outcomes)
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Have made none, and nothing under way: at first, and in a forked child."""
        self._last = -math.inf
        self._flying: dict[object, Chunk[Parcel]] = {}

    @property
    def next_at(self) -> float:
        """Return when the next is due if half of what is left of the allowance is to pay for all.

        An interval that is no longer than the buffer's own age is none.
        """
        budget = self._transport.budget
        left, seconds = budget.remaining, budget.resets_in
        if left is None or seconds is None:
            return self._last
        interval = seconds / max(1.0, left / 2)
        return self._last + (interval if interval > self._buffer.max_age else 0.0)

    def make(self, deadline: float = math.inf, *, everything: bool = False) -> None:
        """Send what can be sent now; return when it is answered, or at the deadline."""
        buffer = self._buffer
        self._reclaim()
        changes = buffer.seal(everything=everything)
        self._last = buffer.clock()
        launched: set[str] = set()
        sent = self._outcomes.sent
        try:
            for chunk in self._chunks(changes):
                self._wait(deadline, lambda: len(self._flying) < self._slots.width)
                if buffer.clock() >= deadline or self._outcomes.resume_at > buffer.clock():
                    break
                launched |= chunk.items.keys()
                self._launch(chunk)
        finally:
            buffer.give_back(change for change in changes if change.key not in launched)
        self._wait(deadline, lambda: not self._flying)
        if self._journal:
            self._checkpoint(self._journal)
        self._outcomes.flushed(self._outcomes.sent - sent)

    def _checkpoint(self, journal: Journal) -> None:
        try:
            journal.checkpoint()
        except JournalError as error:
            log.exception("the journal could not be brought up to date")
            self._outcomes.tell(self._buffer.on_error, error)

    def _launch(self, chunk: Chunk[Parcel]) -> None:
        """Send a chunk on its way, or, if that is interrupted, leave it to be reclaimed."""
        token = object()
        if self._slots.width == 1:  # here, where an interrupt is not lost
            self._deliver(token, chunk)
            return
        launcher = threading.get_ident()
        unclaimed = [chunk]  # whoever pops it, the flight or the interrupted launch, has the chunk

        def work() -> None:
            if _claim(unclaimed):
                try:
                    self._deliver(token, chunk)
                finally:
                    self._buffer.notify()
                    if threading.get_ident() != launcher and not self._flushes:
                        self._outcomes.pass_on(BaseException)

        try:
            self._flying[token] = chunk  # before its thread says so: it is not to be reclaimed
            Flight(work, self._slots)
        except BaseException:
            if _claim(unclaimed):
                self._flying.pop(token, None)
            raise

    def _deliver(self, token: object, chunk: Chunk[Parcel]) -> None:
        try:
            self._flying[token] = chunk
            self._delivery.deliver(list(chunk.items.values()))
        finally:
            self._flying.pop(token, None)

    def _reclaim(self) -> None:
        """Make pending again what was sealed and does not fly: a flush was interrupted."""
        buffer = self._buffer
        with buffer.lock:
            flying = {key for chunk in list(self._flying.values()) for key in chunk.items}
            lost = [change for key, change in buffer.sealed.items() if key not in flying]
            buffer.give_back(lost)

    def _chunks(self, changes: Iterable[Change]) -> Iterator[Chunk[Parcel]]:
        clock = self._transport.clock
        deletions: list[Parcel] = []
        puts = self._puts((Parcel(change, clock) for change in changes), deletions)
        yield from self._chunker.cut(puts)
        yield from self._chunker.cut(deletions)

    def _puts(self, parcels: Iterable[Parcel], deletions: list[Parcel]) -> Iterator[Parcel]:
        for parcel in parcels:
            if parcel.is_deletion:
                deletions.append(parcel)
            else:
                yield parcel

    def _wait(self, deadline: float, done: Callable[[], bool]) -> None:
        changed = self._buffer.changed
        with self._buffer.lock:
            while not done() and self._buffer.clock() < deadline:
                changed.wait(min(1.0, deadline - self._buffer.clock()))


def _claim(unclaimed: list[Chunk[Parcel]]) -> bool:
    try:
        unclaimed.pop()
    except IndexError:
        return False
    return True
