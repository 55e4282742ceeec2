"""Reading many values: bulk gets, and single reads for what they cannot carry."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final

from kvdict.answers import KEY_NOT_FOUND, NOT_TEXT
from kvdict.client import Client
from kvdict.errors import APIError, KVError, NotFoundError
from kvdict.flights import Slots, in_order
from kvdict.limits import MAX_BULK_GET_BYTES, MAX_BULK_GET_KEYS
from kvdict.models import Entry

Raw = Entry[bytes] | None
"""A stored entry, None for a missing key."""
Found = tuple[str, Raw]
Fetch = Callable[[Sequence[str]], Iterable[Found]]
Around = Callable[[Fetch, Sequence[str]], list[Found]]
"""What may stand around the fetching of some keys: sees each as it arrives, or does else."""
Details = bool | Callable[[str], Any]
"""Whether expiration and metadata are wanted; a function gives the metadata that was listed, which
saves a request for each value that is not text."""


class _Mark(Enum):
    UNASKED = "unasked"  # a copy of it is itself, other than of an object()


UNASKED: Final = _Mark.UNASKED
"""Stands for metadata that was not asked for."""

REPLACEMENT = "\ufffd"
"""What a service that does not refuse bytes that are no text puts in their place."""
AIM = MAX_BULK_GET_BYTES * 99 // 100
"""Bytes of values to ask for at once, by the size of the last ones; what is too much is halved."""
KNOWN = 10_000
"""Keys of which it is remembered that their values are not text; with one more it starts anew."""


class BulkReader:
    """Reads values of one namespace, as few requests as they fit into.

    Bulk get carries text alone, and refuses a hundred keys for one value that is not. Such a value
    costs one request, and at its first read about seven more to find it among texts. 2,000 values
    of which one percent is not text take about 180 requests, with a tenth 1,100, with a half 2,300,
    and 2,001 if none is. What was found, or written through, is remembered.
    """

    def __init__(self, client: Client, namespace_id: str, slots: Slots) -> None:
        self._client = client
        self._namespace_id = namespace_id
        self._slots = slots
        self._binary: dict[str, bool] = {}

    def read(
        self,
        keys: Iterable[str],
        *,
        details: Details,
        eager: bool,
        expiry: bool = False,
        around: Around | None = None,
    ) -> Iterator[Found]:
        """Yield each key with its entry, None if it is missing, in the order of the keys.

        Without `details` metadata is left out, and expiration too unless `expiry`.
        """
        reading = Reading(self, details, expiry)
        chunks = reading.chunks(keys)
        fetch = partial(around or _all, reading.fetch)
        for found in in_order(fetch, chunks, self._slots, eager=eager):
            yield from found

    def entry(self, key: str) -> Entry[bytes] | None:
        """Return one value with its expiration and metadata: one request.

        Two for a value that is known not to be text, three for one that turns out not to be.
        """
        ((_, entry),) = Reading(self, details=True).fetch([key])
        return entry

    def learn(self, key: str, data: bytes) -> None:
        """Remember of a value that was read or written whether it is text."""
        if is_text(data):
            self._binary.pop(key, None)
            return
        if len(self._binary) >= KNOWN:
            self._binary.clear()
        self._binary[key] = True

    def is_binary(self, key: str) -> bool:
        """Tell whether the key's value was not text when it was last seen."""
        return key in self._binary

    def bulk(self, keys: Sequence[str], with_metadata: bool) -> dict[str, Entry[bytes] | None]:
        """Return the entries of keys whose values are text: one request."""
        values = self._client.bulk_get(
            self._namespace_id, keys, with_metadata=with_metadata, retry_lost=len(keys) == 1
        )
        return {key: entry and self._as_bytes(key, entry) for key, entry in values.items()}

    def is_too_much(self, error: KVError) -> bool:
        """Tell whether fewer keys in one request may help."""
        return self._client.transport.is_too_much(error)

    def single(self, key: str, details: Details) -> Entry[bytes] | None:
        """Return one entry by the value endpoint: one request, two if details are asked for."""
        try:
            raw = self._client.get_value(self._namespace_id, key)
            self.learn(key, raw.data)
            metadata = self._about(key, details)
        except NotFoundError as error:
            if error.code == KEY_NOT_FOUND:
                return None
            raise
        return Entry(raw.data, raw.expiration, metadata)

    def _about(self, key: str, details: Details) -> Any:
        if callable(details):
            return details(key)
        return self._client.get_metadata(self._namespace_id, key) if details else UNASKED

    def _as_bytes(self, key: str, entry: Entry[str]) -> Entry[bytes] | None:
        data = _encoded(entry.value)
        if data is None:
            raw = self.single(key, details=False)
            return raw and Entry(raw.value, entry.expiration, entry.metadata)
        return Entry(data, entry.expiration, entry.metadata)


class Reading:
    """One bulk read; remembers how large and of what kind its last values were."""

    def __init__(self, reader: BulkReader, details: Details, expiry: bool = False) -> None:
        self._reader = reader
        self._details = details
        self._with_metadata = bool(details) or expiry
        self._size = MAX_BULK_GET_KEYS
        self._texts = 0  # since the last value that is not text
        self._usual = math.inf  # how many come between two of them, about

    def chunks(self, keys: Iterable[str]) -> Iterator[list[str]]:
        """Cut the keys into what fits into a request each."""
        chunk: list[str] = []
        for key in keys:
            chunk.append(key)
            if len(chunk) >= self._size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk

    def fetch(self, keys: Sequence[str]) -> Iterator[Found]:
        """Yield the keys with their entries, in order."""
        binary = {key for key in keys if self._reader.is_binary(key)}
        if not binary:
            yield from self._sift(keys)
            return
        texts = dict(self._sift([key for key in keys if key not in binary]))
        for key in keys:
            yield self._single(key) if key in binary else (key, texts[key])

    def _sift(self, keys: Sequence[str]) -> Iterator[Found]:
        """Read as many at once as texts came in a row, and halve what is refused.

        Once the first of the values that are not text is found, nothing is known of those behind
        it: what is asked for next is not the other half, but as much as may well be text.
        """
        place = suspects = 0  # of the keys at `place` and behind it so many are not all text
        while place < len(keys):
            size = self._group(len(keys) - place, suspects, at_start=place == 0)
            group = keys[place : place + size]
            is_alone = size == 1 and (suspects > 0 or self._usual < math.inf or not self._details)
            try:
                found = [self._single(group[0])] if is_alone else self._bulk(group)
            except KVError as error:
                if _is_not_text(error) and not is_alone:
                    suspects = size
                    continue
                found = list(self._fetch_apart(group, error))
            yield from found
            place += size
            suspects = max(0, suspects - size)
            if is_alone and self._reader.is_binary(group[0]):
                suspects = 0
                self._usual = (min(self._usual, self._texts) + self._texts) / 2
                self._texts = 0
            else:
                self._texts += size

    def _group(self, left: int, suspects: int, *, at_start: bool) -> int:
        """Return how many keys to read at once, one alone where all may be of the other kind."""
        if suspects and at_start and self._usual == math.inf:
            return 1
        most = suspects // 2 if suspects else left
        return int(max(1, min(most, max(self._usual, self._texts))))

    def _bulk(self, keys: Sequence[str]) -> list[Found]:
        found = self._reader.bulk(keys, self._with_metadata)
        self._learn(found.values())
        return [(key, found[key]) for key in keys]

    def _single(self, key: str) -> Found:
        return key, self._reader.single(key, self._details)

    def _fetch_apart(self, keys: Sequence[str], error: KVError) -> Iterator[Found]:
        """Read in halves what was too much for one request."""
        if not self._reader.is_too_much(error):
            raise error
        if len(keys) == 1:
            yield self._single(keys[0])
            return
        self._size = min(self._size, max(1, len(keys) // 2))
        for half in _halves(keys):
            yield from self.fetch(half)

    def _learn(self, entries: Iterable[Entry[bytes] | None]) -> None:
        sizes = [len(entry.value) for entry in entries if entry]
        average = sum(sizes) / len(sizes) if sizes else 0
        fitting = int(AIM / average) if average else MAX_BULK_GET_KEYS
        more = self._size + self._size // 8 + 1  # slowly: what was too much has cost a request
        self._size = max(1, min(MAX_BULK_GET_KEYS, fitting, more))


def _all(fetch: Fetch, keys: Sequence[str]) -> list[Found]:
    return list(fetch(keys))


def _halves(keys: Sequence[str]) -> list[Sequence[str]]:
    middle = len(keys) // 2
    return [half for half in (keys[:middle], keys[middle:]) if half]


def _is_not_text(error: KVError) -> bool:
    return isinstance(error, APIError) and error.code == NOT_TEXT


def _encoded(text: str) -> bytes | None:
    """Return the text's bytes, None where it may stand in the place of others."""
    if REPLACEMENT in text:  # stored so, or put in the place of something else?
        return None
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair: no UTF-8 holds one
        return None


def is_text(data: bytes) -> bool:
    """Tell whether bulk reads can carry the value."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
