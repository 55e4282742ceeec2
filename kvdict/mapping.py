"""What a namespace does because it is a dict."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from itertools import chain, zip_longest
from typing import Any, Final, Self, TypeVar, overload

from kvdict.ahead import ReadAhead
from kvdict.cachedreads import CachedReads
from kvdict.codecs import decode, encode
from kvdict.handle import Handle
from kvdict.limits import check_value, encode_metadata
from kvdict.listing import Arrived
from kvdict.models import Entry
from kvdict.pairs import Pairs, pairs_of, several
from kvdict.views import Items, KeyIterator, Keys, Values
from kvdict.writepath import Decision
from kvdict.writes import Moment, Seconds, Write, expiry_of

V = TypeVar("V")
W = TypeVar("W")
T = TypeVar("T")

RAISE: Final = object()


class KVMapping(Handle[V], MutableMapping[str, V]):
    """The dict's side of `KVNamespace`.

    Of the inherited mixins `get` is kept: it asks `[]`, one request. All others are overridden for
    the requests that they would waste.
    """

    def __getitem__(self, key: str) -> V:
        """Return the value: 1 request."""
        entry = self._read(key)
        if entry is None:
            raise KeyError(key)
        return decode(self.codec, key, entry.value)

    def __setitem__(self, key: str, value: V) -> None:
        """Store the value in place of value, expiration and metadata: 1 request."""
        self._backing.writes.put(self._write(key, value))

    def __delitem__(self, key: str) -> None:
        """Delete a key that is there: 2 requests, the first one looks; `delete` takes 1."""
        self._check_writable()
        backing = self._backing
        full = self._space.to_read(key)
        if full is None:
            raise KeyError(key)

        def decide(is_there: bool | None) -> Decision:
            if not is_there:
                raise KeyError(key)
            return Decision.DELETE

        backing.writes.modify(full, backing.reads.has, decide)

    def __contains__(self, key: object) -> bool:
        """Tell whether the key is there: 1 request, which downloads no value."""
        backing = self._backing
        full = self._space.to_read(key)
        return full is not None and backing.reads.has(full)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys: a request a thousand, the first when the first key is asked for."""
        self._check_open()
        iterator = KeyIterator(self)
        self._waiting.iterator = weakref.ref(iterator)
        return iterator

    def __len__(self) -> int:
        """Count the keys: a request a thousand, 1 at least."""
        waiting = self._waiting_iterator()
        if waiting is None:
            return sum(1 for _ in self._names())
        writes = self._writes_made
        names = list(self._trailed())
        waiting.give(names, writes)
        return len(names)

    def __bool__(self) -> bool:
        """Tell whether there is any key: 1 request, where counting them takes n / 1000."""
        return any(True for _ in self._backing.listing.first_keys(self._space.prefix))

    def keys(self) -> Keys:
        """Return a view of the keys; iterating takes a request a thousand."""
        return Keys(self)

    def values(self) -> Values[V]:
        """Return a view of the values; iterating takes n / 1000 + n / 100 requests."""
        return Values(self)

    def items(self) -> Items[V]:
        """Return a view of the pairs; iterating takes n / 1000 + n / 100 requests."""
        return Items(self)

    def __eq__(self, other: object) -> bool:
        """Compare as dicts do: n / 1000 + n / 100 requests, fewer at the first difference."""
        if self is other:
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        mine = self._pairs(iter(self))
        if isinstance(other, KVMapping):  # both come in the same order
            theirs = other._pairs(iter(other))
            return all(one == two for one, two in zip_longest(mine, theirs))
        count = 0
        for key, value in mine:
            if key not in other or other[key] != value:
                return False
            count += 1
        return count == len(other)

    __hash__ = None  # type: ignore[assignment]  # like a dict

    def __or__(self, other: Mapping[str, W]) -> dict[str, V | W]:
        """Return a dict of this namespace's pairs and the other's, which win."""
        return (
            {**self.copy(), **dict(pairs_of(other))}
            if isinstance(other, Mapping)
            else NotImplemented
        )

    def __ror__(self, other: Mapping[str, W]) -> dict[str, V | W]:
        """Return a dict of the other's pairs and this namespace's, which win."""
        return (
            {**dict(pairs_of(other)), **self.copy()}
            if isinstance(other, Mapping)
            else NotImplemented
        )

    def __ior__(self, other: Pairs[V]) -> Self:  # type: ignore[misc] # a dict's differs as well
        """Store all pairs of the other, as `update` does."""
        self.update(other)
        return self

    def copy(self) -> dict[str, V]:
        """Return all pairs as a dict: n / 1000 + n / 100 requests."""
        return dict(self._pairs(iter(self), eager=True))

    @overload
    def pop(self, key: str, /) -> V: ...
    @overload
    def pop(self, key: str, /, default: V | T) -> V | T: ...
    def pop(self, key: str, /, default: Any = RAISE) -> Any:
        """Delete a key and return its value: 2 requests, 1 if it is missing.

        A value that cannot be decoded stays.
        """
        self._check_writable()
        backing = self._backing
        full = self._space.to_read(key)
        value = default

        def decide(entry: Entry[bytes] | None) -> Decision:
            nonlocal value
            value = RAISE if entry is None else decode(self.codec, key, entry.value)
            return Decision.LEAVE if entry is None else Decision.DELETE

        if full is None:
            value = RAISE
        else:
            backing.writes.modify(full, backing.reads.get, decide)
        if value is not RAISE:
            return value
        if default is RAISE:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, V]:
        """Delete the first key in order and return it with its value: 3 requests."""
        self._check_writable()
        for full in self._backing.listing.first_keys(self._space.prefix):
            name = self._space.name(full.name)
            try:
                return name, self.pop(name)
            except KeyError:  # somebody else deleted it meanwhile
                continue
        raise KeyError("popitem(): the namespace is empty")

    @overload
    def setdefault(self: KVMapping[T | None], key: str, default: None = None, /) -> T | None: ...
    @overload
    def setdefault(self, key: str, default: V, /) -> V: ...
    def setdefault(self, key: str, default: Any = None, /) -> Any:
        """Return the value, stored now if the key is missing: 1 request, 2 if it is missing."""
        self._check_writable()
        backing = self._backing
        full = self._space.to_write(key)
        value = default

        def decide(entry: Entry[bytes] | None) -> Write | Decision:
            nonlocal value
            if entry is None:
                value = default
                return self._write(key, default)
            value = decode(self.codec, key, entry.value)
            return Decision.LEAVE

        backing.writes.modify(full, backing.reads.get, decide)
        return value

    def update(self, other: Any = (), /, **named: V) -> None:
        """Store all pairs: a request ten thousand, or 10 MB; streams any iterable."""
        self._check_writable()
        pairs = chain(pairs_of(other), named.items())
        with self._naming_own_keys():
            self._backing.writes.put_many(self._write(key, value) for key, value in pairs)

    def clear(self) -> None:
        """Delete all keys, behind a prefix those below it: n / 1000 + n / 10,000 requests."""
        self._check_writable()
        keys = self._backing.listing.scan(self._space.prefix)
        with self._naming_own_keys():
            self._backing.writes.delete_many(key.name for key in keys)

    @contextmanager
    def _naming_own_keys(self) -> Iterator[None]:
        """Have the error of a bulk call name the keys as they were given, without our prefix."""
        try:
            yield
        except BaseException as error:
            full = getattr(error, "keys", ())
            if full and self.prefix:
                keys = tuple(key.removeprefix(self.prefix) for key in full)
                error.keys = keys  # type: ignore[attr-defined] # foreign ones have it too
            raise

    @property
    def _writes_made(self) -> int:
        """Return a count that every write through this namespace raises."""
        return self._backing.writes.made

    def _names(self, arrived: Arrived | None = None) -> Iterator[str]:
        """Yield the keys' names, lazily."""
        name = self._space.name
        keys = self._backing.listing.scan(self._space.prefix, arrived=arrived)
        return (name(key.name) for key in keys)

    def _trailed(self) -> Iterator[str]:
        """Yield the keys' names to a thread that may read their values one by one."""
        backing, prefix = self._backing, self._space.prefix
        if not backing.reads_ahead:
            return self._names()
        trail = ReadAhead(prefix, backing.listing, backing.reads)
        self._waiting.trail = trail
        return self._names(trail.listed)

    def _pairs(self, names: Iterable[str], *, eager: bool = False) -> Iterator[tuple[str, V]]:
        """Yield the pairs of these names that are still there, in bulk."""
        fulls = (self._space.prefix + name for name in names)
        return self._decoded(self._backing.reads.read(fulls, eager=eager))

    def _present(self, keys: Iterable[Any]) -> set[str]:
        """Return those of the keys that are there: a request a hundred."""
        found = self._backing.reads.read(dict.fromkeys(self._readable(several(keys))), eager=True)
        return {self._space.name(full) for full, entry in found if entry}

    def _read(self, key: object) -> Entry[bytes] | None:
        reads = self._backing.reads
        if isinstance(reads, CachedReads) and isinstance(key, str):
            held = reads.recall(self._space.prefix + key)  # what is cached is a key that can be
            if held is not None:
                return held.found
        full = self._space.to_read(key)
        if full is None:
            return None
        trail = self._waiting.trail
        return reads.get(full, trail.ask if trail else None)

    def _readable(self, keys: Iterable[object]) -> Iterator[str]:
        """Return the full keys of those that can be there."""
        return (full for full in map(self._space.to_read, keys) if full is not None)

    def _write(
        self,
        key: str,
        value: V,
        expiration_ttl: Seconds | None = None,
        expiration: Moment | None = None,
        metadata: Any = None,
    ) -> Write:
        """Return what goes to the wire; whatever the service would refuse is an error here."""
        self._check_writable()
        backing = self._backing
        full = self._space.to_write(key)
        data = encode(self.codec, key, value)
        check_value(key, data)
        if expiration_ttl is None and expiration is None:
            expiration_ttl = self.expiration_ttl
        expiry = None
        if expiration_ttl is not None or expiration is not None:
            clock = backing.clock
            expiry = expiry_of(key, clock.now(), expiration_ttl, expiration, clock.wall())
        return Write(full, data, expiry, encode_metadata(key, metadata))

    def _decoded(self, found: Iterable[tuple[str, Entry[bytes] | None]]) -> Iterator[tuple[str, V]]:
        for full, entry in found:
            if entry is not None:
                name = self._space.name(full)
                yield name, decode(self.codec, name, entry.value)

    def _waiting_iterator(self) -> KeyIterator | None:
        reference = self._waiting.iterator
        iterator = reference() if reference else None
        return iterator if iterator and iterator.is_waiting else None
