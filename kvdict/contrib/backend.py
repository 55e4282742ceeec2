"""`Backend`: what the caches of all frameworks have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar, get_args

from kvdict.codecs import Codec, PickleCodec, decode, encode, find_codec
from kvdict.contrib.names import StoredName, check_room, stored_name
from kvdict.contrib.shared import Buffering, Shared, share
from kvdict.contrib.signed import SignedPickle
from kvdict.deadlines import UNTIL, is_over, lasting
from kvdict.errors import (
    ClosedError,
    CodecError,
    ConfigError,
    KVError,
    LimitError,
    ReadOnlyError,
)
from kvdict.limits import MAX_EXPIRATION
from kvdict.models import Entry
from kvdict.namespace import KVNamespace

__all__ = ["Backend", "SignedPickle", "StoredName"]

_MISSING = object()

T = TypeVar("T")
K = TypeVar("K", bound=str)
N = TypeVar("N", str, Iterable[str])

Failures = Literal["miss", "raise"]
AT_ONCE = 1000
"""Entries that are held in memory while all are gone through."""
CALLERS = LimitError, CodecError, ConfigError, ReadOnlyError, ClosedError
"""Errors of who calls, which no failure mode hides."""


class Backend:
    """A cache below a prefix: times to live to the millisecond, any key, failures as misses.

    where: what `kvdict.open` takes, or an open namespace, whose codec is not used. Backends of
    the same place and options share one namespace in the process, opened at the first use; it
    stays open.
    prefix: put before every key; nothing outside it is touched.
    codec, secret: a codec, or by default pickle, signed by the secret if there is one.
    buffer: None: each write is stored when the call returns; True, or a dict of the options that a
    WriteBuffer takes: write behind.
    cache: as `kvdict.open` takes it.
    failures: "miss": what the service cannot answer in `max_wait` seconds is logged, once a
    minute, and counts as missing (`add` answers True); for the next 10 s reads do not wait for it
    again. "raise": it is a KVError.
    Others: token, account_id, base_url, create, readonly, as `kvdict.open` takes them.

    A time to live is seconds, None for ever; 0 and less is over at once. Keys are str; one that
    KV would not take is stored under its SHA-256. Costs are for values that encode as text.
    Safe to use from many threads and after a fork.
    """

    def __init__(
        self,
        where: str | os.PathLike[str] | KVNamespace[Any] | None = None,
        *,
        prefix: str,
        codec: str | Codec[Any] | None = None,
        secret: str | bytes | None = None,
        buffer: Buffering = None,
        failures: Failures = "miss",
        max_wait: float = 2.0,
        **options: Any,
    ) -> None:
        if failures not in get_args(Failures):
            raise ConfigError(f"failures is {failures!r}; known are 'miss' and 'raise'")
        if codec is not None and secret is not None:
            raise ConfigError("a secret signs pickle; give codec or secret, not both")
        self.prefix = prefix
        self._full_prefix = check_room(prefix, _prefix_of(where))
        self.codec = PickleCodec(secret) if codec is None else find_codec(codec)
        self.failures = failures
        if isinstance(where, KVNamespace):
            if options or buffer is not None:
                raise ConfigError("an open namespace has its options already; leave them out")
            self._shared = Shared(lambda: where.using("bytes"))
        else:
            self._shared = share(where, buffer=buffer, max_wait=max_wait, **options)
        self._opened: tuple[KVNamespace[bytes], KVNamespace[bytes]] | None = None

    @property
    def kv(self) -> KVNamespace[bytes]:
        """The namespace behind the prefix, values as they are stored; opened if it was not."""
        kv, opened = self._shared.kv, self._opened
        if opened is None or opened[0] is not kv:
            opened = self._opened = kv, kv.prefixed(self.prefix)
        return opened[1]

    def name(self, key: str) -> str:
        """Return under which name a key is stored behind the prefix; a `StoredName` is its own."""
        return stored_name(self._full_prefix, key)

    # Reads

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, the default if it is missing: 1 request."""
        entry = self._entry(key)
        return default if entry is None else self._value(key, entry, default)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return those of the keys that are there: a request a hundred."""
        return self._values({key: self.name(key) for key in keys})

    def has(self, key: str) -> bool:
        """Tell whether the key is there: 1 request, which downloads no value.

        So it says True of a value that `get` cannot read and takes for missing.
        """
        name = self.name(key)
        return self._try("has", lambda: self._asked(self._is_there, name), False)

    def names(self) -> Iterator[StoredName]:
        """Yield the keys in order: a request a thousand. A key that KV would not take is hashed."""
        try:
            now = self._now()
            for key in self.kv.scan():
                if not is_over(key.metadata, now):
                    yield StoredName(key.name)
        except CALLERS:
            raise
        except KVError as error:
            self._fail("names", error)

    def items(self) -> Iterator[tuple[StoredName, Any]]:
        """Yield stored names and values: n / 1000 + n / 100 requests."""
        names = self.names()
        while some := list(islice(names, AT_ONCE)):
            yield from self._values({name: name for name in some}).items()

    # Writes

    def set(self, key: str, value: Any, ttl: float | None = None) -> bool:
        """Store a value: 1 request. False if it failed."""
        name, data = self.name(key), encode(self.codec, key, value)
        if _is_over_at_once(ttl):
            return self.delete(key)
        return self._try("set", lambda: self._put(name, data, ttl), False)

    def set_many(self, pairs: Mapping[str, Any], ttl: float | None = None) -> list[str]:
        """Store all pairs: a request ten thousand. Returns the keys that are not stored."""
        keys = {self.name(key): key for key in pairs}
        if _is_over_at_once(ttl):
            return [] if self.delete_many(pairs) else list(pairs)
        data = {name: encode(self.codec, key, pairs[key]) for name, key in keys.items()}
        try:
            self.kv.put_many(data, **self._lasting(ttl))
        except CALLERS:
            raise
        except KVError as error:
            self._fail("set_many", error)
            lost = set(error.keys) or keys.keys()
            return [key for name, key in keys.items() if name in lost]
        return []

    def add(self, key: str, value: Any, ttl: float | None = None) -> bool:
        """Store a value unless there is one: 2 requests, 1 if there is; not atomic.

        Returns whether it was missing; True if the service could not tell, since callers try again
        until they succeed.
        """
        name, data = self.name(key), encode(self.codec, key, value)

        def add() -> bool:
            entry = self._stored(name)
            if entry is not None and self._counts(key, entry):
                return False
            return _is_over_at_once(ttl) or self._put(name, data, ttl)

        return self._try("add", add, True)

    def change(self, key: str, change: Callable[[Any], Any], default: Any = None) -> Any:
        """Store what `change` makes of the value, until the same time: 2 requests, not atomic.

        Returns the new value; the default if the key is missing, for 1 request.
        """
        entry = self._entry(key)
        old = _MISSING if entry is None else self._value(key, entry, _MISSING)
        if entry is None or old is _MISSING:
            return default
        value = change(old)
        self._try("change", lambda: self._put_again(key, entry, value), False)
        return value

    def touch(self, key: str, ttl: float | None = None) -> bool:
        """Let a key that is there last from now on: 2 requests, not atomic. False if missing."""
        if _is_over_at_once(ttl):
            return self.remove(key)
        entry = self._entry(key)
        if entry is None or not self._counts(key, entry):
            return False
        return self._try("touch", lambda: self._put(self.name(key), entry.value, ttl), False)

    def delete(self, key: str) -> bool:
        """Delete a key, missing or not: 1 request. False if it failed."""
        name = self.name(key)
        return self._do("delete", lambda: self.kv.delete(name))

    def remove(self, key: str) -> bool:
        """Delete a key and tell whether it was there: 2 requests.

        It is deleted also where it seems to be missing: the service may say so of a new key.
        """
        there = self.has(key)
        return self.delete(key) and there

    def delete_many(self, keys: Iterable[str]) -> bool:
        """Delete the keys, missing or not: a request ten thousand. False if it failed."""
        names = [self.name(key) for key in keys]
        return self._do("delete_many", lambda: self.kv.delete_many(names))

    def clear(self) -> bool:
        """Delete all keys behind the prefix: n / 1000 + n / 10,000 requests. False if it failed."""
        return self._do("clear", lambda: self.kv.clear())

    def flush(self) -> bool:
        """Send what is pending, if anything was opened: a request ten thousand. False if it failed.

        What could not be sent stays pending.
        """
        opened = self._opened
        with suppress(ClosedError):  # it was flushed when it was closed
            return opened is None or self._do("flush", opened[1].flush)
        return True

    # Within

    def _now(self) -> float:
        return self.kv.client.transport.clock.now()

    def _is_there(self, name: str) -> bool:
        try:
            return not is_over(self.kv.metadata(name), self._now())
        except KeyError:
            return False

    def _entry(self, key: str) -> Entry[bytes] | None:
        """Return the entry as it is stored, None for one that is missing or over."""
        name = self.name(key)
        entry = self._try("get", lambda: self._asked(self._stored, name), None)
        return None if entry and entry.metadata and is_over(entry.metadata, self._now()) else entry

    def _stored(self, name: str) -> Entry[bytes] | None:
        """Return what `kv.entry` does, for a name that was checked and bytes as they are."""
        kv = self.kv
        return kv._backing.reads.entry(kv.prefix + name)

    def _entries(self, names: Iterable[str]) -> dict[str, Entry[bytes]]:
        return self.kv.entries(names)

    def _values(self, names: Mapping[K, str]) -> dict[K, Any]:
        """Return the values that are there, by the keys of these names."""
        nothing: dict[str, Entry[bytes]] = {}
        wanted = names.values()
        found = self._try("get_many", lambda: self._asked(self._entries, wanted), nothing)
        now = self._now() if found else 0.0
        live = {
            key: self._value(key, found[name], _MISSING)
            for key, name in names.items()
            if name in found and not is_over(found[name].metadata, now)
        }
        return {key: value for key, value in live.items() if value is not _MISSING}

    def _value(self, key: str, entry: Entry[bytes], default: Any) -> Any:
        try:
            return decode(self.codec, key, entry.value)
        except CodecError as error:
            self._fail("get", error)
            return default

    def _counts(self, key: str, entry: Entry[bytes]) -> bool:
        """Tell whether `get` would return a value, not take the entry for missing."""
        is_there = not is_over(entry.metadata, self._now())
        return is_there and self._value(key, entry, _MISSING) is not _MISSING

    def _put(self, name: str, data: bytes, ttl: float | None) -> bool:
        self.kv.put(name, data, **self._lasting(ttl))
        return True

    def _put_again(self, key: str, entry: Entry[bytes], value: Any) -> bool:
        about = entry.metadata if isinstance(entry.metadata, dict) else {}
        until = about.get(UNTIL, entry.expiration)
        left = None if until is None else until - self._now()
        name, data = self.name(key), encode(self.codec, key, value)
        return _is_over_at_once(left) or self._put(name, data, left)

    def _lasting(self, ttl: float | None) -> dict[str, Any]:
        now = self._now()
        return lasting(None if ttl is not None and now + ttl > MAX_EXPIRATION else ttl, now)

    def _do(self, what: str, call: Callable[[], object]) -> bool:
        """Tell whether the call came through."""
        return self._try(what, lambda: (call(), True)[1], False)

    def _asked(self, read: Callable[[N], T], wanted: N) -> T:
        """Return what is read; where failures are misses, not from a service that just failed.

        Writes are always tried: a logout must not be skipped.
        """
        if self.failures == "raise":
            return read(wanted)
        breaker = self._shared.breaker
        if breaker.is_open and not self._knows(wanted):
            breaker.check()
        return breaker.watch(partial(read, wanted))

    def _knows(self, wanted: str | Iterable[str]) -> bool:
        """Tell whether a read needs no request; where opening has failed so far it does."""
        if not self._shared.is_open:
            return False
        kv = self.kv
        names = [wanted] if isinstance(wanted, str) else wanted
        return all(kv._backing.reads.knows(kv.prefix + name) for name in names)

    def _try(self, what: str, call: Callable[[], T], instead: T) -> T:
        try:
            return call()
        except CALLERS:
            raise
        except KVError as error:
            self._fail(what, error)
            return instead

    def _fail(self, what: str, error: KVError) -> None:
        if self.failures == "raise":
            raise error
        said = f"{self.prefix!r}: {what} failed and counts as a miss"
        self._shared.complaints.say(said, error)


def _is_over_at_once(ttl: float | None) -> bool:
    """Tell whether a time to live is over at once."""
    return ttl is not None and ttl <= 0


def _prefix_of(where: object) -> str:
    """Return the prefix that an open namespace has already, which counts for the keys' length."""
    return where.prefix if isinstance(where, KVNamespace) else ""
