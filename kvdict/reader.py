"""Reading many values: bulk gets, and single reads for what they cannot carry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final

from cachetools import LRUCache

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
"""Keys of which it is remembered that their values are not text."""
SAMPLE = 2
"""Single reads that tell whether all of a refused request is binary."""


class BulkReader:
    """Reads values of one namespace, as few requests as they fit into.

    Bulk get carries text alone: a value that is not text costs one request instead of a hundredth,
    and finding the few among many costs about a dozen more for each of them.
    """

    def __init__(self, client: Client, namespace_id: str, slots: Slots) -> None:
        self._client = client
        self._namespace_id = namespace_id
        self._slots = slots
        self._binary: LRUCache[str, bool] = LRUCache(KNOWN)

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
        if key in self._binary:
            entry = self.single(key, details=True)
        else:
            ((_, entry),) = Reading(self, details=True).fetch([key])
        if entry is not None:
            self.learn(key, entry.value)
        return entry

    def learn(self, key: str, data: bytes) -> None:
        """Remember of a value that was read or written whether it is text."""
        if not is_text(data):
            self._binary[key] = True
        elif self._binary:
            self._binary.pop(key, None)

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
        self._expects_binary = False

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
        """Yield the keys with their entries, in order, as they arrive."""
        if self._expects_binary or (len(keys) == 1 and not self._details):
            yield from self._one_by_one(keys)
            return
        try:
            yield from self._bulk(keys)
        except KVError as error:
            yield from self._fetch_apart(keys, error)

    def _bulk(self, keys: Sequence[str]) -> Iterator[Found]:
        found = self._reader.bulk(keys, self._with_metadata)
        self._learn(found.values())
        return iter([(key, found[key]) for key in keys])

    def _single(self, key: str) -> Found:
        return key, self._reader.single(key, self._details)

    def _one_by_one(self, keys: Sequence[str]) -> Iterator[Found]:
        """Read single values; once the last ones were text, the rest in bulk again."""
        texts = 0
        for place, key in enumerate(keys):
            if texts >= SAMPLE:
                self._expects_binary = False
                yield from self.fetch(keys[place:])
                return
            found = self._single(key)
            texts = 0 if _is_binary(found) else texts + 1
            yield found
        if texts == len(keys):
            self._expects_binary = False

    def _fetch_apart(self, keys: Sequence[str], error: KVError) -> Iterator[Found]:
        """Read what one request could not: halves, or one by one if it is not text."""
        if _is_not_text(error):
            yield from self._sift(keys)
        elif not self._reader.is_too_much(error):
            raise error
        elif len(keys) > 1:
            self._size = min(self._size, max(1, len(keys) // 2))
            for half in _halves(keys):
                yield from self.fetch(half)
        else:
            yield self._single(keys[0])

    def _sift(self, keys: Sequence[str]) -> Iterator[Found]:
        """Read a chunk in which some value is not text, never in many more requests than keys."""
        sample = [self._single(key) for key in keys[:SAMPLE]]
        yield from sample
        rest = keys[SAMPLE:]
        if len(sample) == SAMPLE and all(map(_is_binary, sample)):
            self._expects_binary = True
            yield from self._one_by_one(rest)
            return
        parts = _halves(rest)[::-1]
        left, refused = len(rest), 1
        while parts:
            part = parts.pop()
            if len(part) <= SAMPLE or 2 * refused > left:
                yield from map(self._single, part)
            else:
                try:
                    yield from self._bulk(part)
                except KVError as error:
                    if _is_not_text(error):
                        refused += 1
                        parts += _halves(part)[::-1]
                        continue
                    yield from self._fetch_apart(part, error)
            left -= len(part)

    def _learn(self, entries: Iterable[Entry[bytes] | None]) -> None:
        sizes = [len(entry.value) for entry in entries if entry]
        average = sum(sizes) / len(sizes) if sizes else 0
        fitting = int(AIM / average) if average else MAX_BULK_GET_KEYS
        self._size = max(1, min(MAX_BULK_GET_KEYS, fitting, self._size * 2))


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


def _is_binary(found: Found) -> bool:
    entry = found[1]
    return entry is not None and not is_text(entry.value)


def is_text(data: bytes) -> bool:
    """Tell whether bulk reads can carry the value."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
