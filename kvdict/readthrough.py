"""Reads: own writes first, the service last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from kvdict.breaker import Breaker
from kvdict.buffer import WriteBuffer
from kvdict.cache import Held, ReadCache
from kvdict.changes import Change
from kvdict.models import Entry
from kvdict.reader import Details, Found, Raw
from kvdict.readmany import ReadMany
from kvdict.source import Source

L = TypeVar("L")

Ask = Callable[[str], tuple[Any, float]]
"""Returns what the service says of a key, and how many seconds ago it did."""


class ReadThrough:
    """Reads one namespace through its buffer: what was written here is seen, sent or not."""

    cache: ReadCache | None = None

    def __init__(
        self,
        source: Source,
        impatient: Source,
        buffer: WriteBuffer,
        breaker: Breaker | None = None,
    ) -> None:
        self.source = source
        self.impatient = impatient
        self.buffer = buffer
        self.breaker = breaker or Breaker()
        self.read_ahead = self.bulk_hits = 0
        self._clock = source.clock

    def stats(self) -> dict[str, float]:
        """Return how many reads were served ahead."""
        return {"read_ahead": self.read_ahead}

    @property
    def saved(self) -> int:
        """Return how many requests reads of single keys did not need."""
        return self.read_ahead

    def get(self, key: str, ask: Ask | None = None) -> Raw:
        """Return the value, None for a missing key: one request, by `ask` if given.

        Metadata is left out.
        """
        if ask is None:
            return self._overlaid(key, self.source.get)
        return self._overlaid(key, lambda key: ask(key)[0])

    def entry(self, key: str, *, fresh: bool = False) -> Raw:  # noqa: ARG002 - all is fresh here
        """Return value, expiration and metadata: one request, two for a value that is not text.

        `fresh` asks the service for all that is not our own.
        """
        return self._overlaid(key, self.source.entry)

    def about(self, key: str) -> Entry[bytes] | Entry[None] | None:
        """Return the metadata, perhaps with more, None for a missing key: one small request."""
        return self._overlaid(key, self.source.about)

    def has(self, key: str) -> bool:
        """Tell whether the key is there: one small request, which downloads no value."""
        return self.about(key) is not None

    def soon(self, key: str, *, details: bool) -> Raw:
        """Return what `get` does, or `entry`; TransportError if the service takes over 2 s."""
        known = self.at_hand(key, details=details)
        if known:
            return known.entry(self._clock)
        return self.without_delay(partial(self._soon, key, details))

    def at_hand(self, key: str, *, details: bool) -> Change | Held | None:
        """Return what own writes or the cache say of a key, without a request."""
        with self.buffer.lock:
            return self._known(key, details)

    def knows(self, key: str) -> bool:
        """Tell whether a read of the key would need no request."""
        return self.buffer.overlays and self.buffer.get(key) is not None

    def renew(self, keys: Sequence[str], *, details: bool) -> None:
        """Have what is cached of up to a hundred keys read in the background: one request."""

    def read(
        self, keys: Iterable[str], *, details: Details = False, eager: bool
    ) -> Iterator[Found]:
        """Yield each key with its entry or None: a request a hundred, of those not known."""
        return ReadMany(self, details, eager=eager).run(keys)

    def without_delay(self, work: Callable[[], L], *, needs_service: bool = True) -> L:
        """Return what the work does; TransportError if it takes over 2 s, or lately did."""
        if self.source.is_local:
            return work()
        if needs_service:
            self.breaker.check()
        return self.breaker.ask(work)

    def _soon(self, key: str, details: bool) -> Raw:
        return self._overlaid(key, self.impatient.entry if details else self.impatient.get)

    def _overlaid(self, key: str, ask: Callable[[str], L | None]) -> L | Entry[bytes] | None:
        """Return what own writes say of a key, else what the service says, unless overtaken."""
        if not self.buffer.overlays:
            return ask(key)
        change = self.buffer.get(key)
        if change is None:
            answer = ask(key)
            change = self.buffer.get(key)
            if change is None:
                return answer
        return change.entry(self._clock)

    def _known(self, key: str, _details: bool) -> Change | Held | None:
        """Return what needs no request, with the lock held."""
        return self.buffer.get(key) if self.buffer.overlays else None
