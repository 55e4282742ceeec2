"""The service as reads see it: entries of one namespace, None for a missing key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from kvdict.answers import KEY_NOT_FOUND
from kvdict.client import Client
from kvdict.errors import NotFoundError
from kvdict.flights import Slots
from kvdict.models import Entry
from kvdict.reader import UNASKED, Around, BulkReader, Details, Found, Raw, Reading

L = TypeVar("L")


class Source:
    """Reads from the service, cache and own writes not looked at."""

    def __init__(
        self, client: Client, namespace_id: str, slots: Slots, check_open: Callable[[], None]
    ) -> None:
        self.reader = BulkReader(client, namespace_id, slots)
        self.clock = client.transport.clock
        self.is_local = not client.transport.metered
        self._client = client
        self._namespace_id = namespace_id
        self._check_open = check_open

    def get(self, key: str) -> Raw:
        """Return the value with its expiration: one request."""
        return _unless_missing(self._get, key)

    def entry(self, key: str) -> Raw:
        """Return value, expiration and metadata: one request, two for a value that is not text."""
        return self.reader.entry(key)

    def about(self, key: str) -> Entry[None] | None:
        """Return the metadata alone: one small request."""
        return _unless_missing(self._about, key)

    def read(
        self,
        keys: Iterable[str],
        *,
        details: Details,
        expiry: bool,
        eager: bool,
        around: Around | None,
    ) -> Iterator[Found]:
        """Yield each key with its entry: a request a hundred."""
        found = self.reader.read(keys, details=details, expiry=expiry, eager=eager, around=around)
        for pair in found:
            self._check_open()
            yield pair

    def fetch(self, keys: Sequence[str], *, details: Details) -> Iterator[Found]:
        """Yield up to a hundred keys with their entries, expiration included: one request."""
        return Reading(self.reader, details, expiry=True).fetch(keys)

    def _get(self, key: str) -> Raw:
        raw = self._client.get_value(self._namespace_id, key)
        return Entry(raw.data, raw.expiration, UNASKED)

    def _about(self, key: str) -> Entry[None]:
        return Entry(None, metadata=self._client.get_metadata(self._namespace_id, key))


def _unless_missing(ask: Callable[[str], L], key: str) -> L | None:
    try:
        return ask(key)
    except NotFoundError as error:
        if error.code == KEY_NOT_FOUND:
            return None
        raise
