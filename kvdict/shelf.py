"""`KVShelf`: a shelf over a KV namespace."""

from __future__ import annotations

import atexit
import hashlib
import os
import pickle
import sys
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    MutableMapping,
    ValuesView,
)
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from kvdict.anyshelf import Deserializer, Serializer, Shelf, as_bytes
from kvdict.codecs import decode, encode
from kvdict.envelope import Envelope, hide
from kvdict.errors import KVError, ReadOnlyError
from kvdict.limits import check_value
from kvdict.namespace import KVNamespace
from kvdict.pairs import pairs_of

V = TypeVar("V")


class KVShelf(Shelf[V]):
    """A shelf over an open namespace of bytes, its attribute `kv`, which it closes.

    Costs what the namespace costs. With `writeback` each value that was read or assigned stays in
    `cache`, and `sync` and `close` send those that have changed, in bulk: a request ten thousand.
    A value that cannot be pickled, unpickled or verified is a CodecError that names its key.
    """

    def __init__(
        self,
        kv: KVNamespace[bytes],
        protocol: int | None = None,
        writeback: bool = False,
        *,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        secret: str | bytes | None = None,
    ) -> None:
        secret = hide(secret)
        super().__init__(
            cast("MutableMapping[bytes, bytes]", kv),  # keys are text in KV: none is encoded below
            protocol,
            writeback,
            serializer=serializer,
            deserializer=deserializer,
        )
        self.kv = kv
        self._envelope = Envelope(secret, self.kv.prefix, as_it_is=serializer is not None)
        self._stored: dict[str, bytes] = {}
        self._is_open = True
        self.process = os.getpid()
        _open_shelves[id(self)] = self

    def __getitem__(self, key: str) -> V:
        """Return the value: 1 request, none if it is in the cache."""
        if key in self.cache:
            return self.cache[key]
        return self._value(key, self.kv[key])

    def __setitem__(self, key: str, value: V) -> None:
        """Store the value at once, `writeback` or not: 1 request."""
        data = encode(self._codec(key), key, value)
        self.kv[key] = data
        self._remember(key, value, data)

    def __delitem__(self, key: str) -> None:
        """Delete a key that is there: 2 requests."""
        del self.kv[key]
        self._forget(key)

    def __contains__(self, key: object) -> bool:
        """Tell whether the key is there: 1 request, which downloads no value."""
        return key in self.kv

    def __iter__(self) -> Iterator[str]:
        """Yield the keys: a request a thousand."""
        return iter(self.kv)

    def __len__(self) -> int:
        """Count the keys: a request a thousand."""
        return len(self.kv)

    def __bool__(self) -> bool:
        """Tell whether there is any key: 1 request."""
        return bool(self.kv)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value, the default if it is missing: 1 request."""
        try:
            return self[key]
        except KeyError:
            return default

    def keys(self) -> KeysView[str]:
        """Return a view of the keys; iterating takes a request a thousand."""
        return self.kv.keys()

    def values(self) -> ValuesView[V]:
        """Return a view of the values; iterating takes n / 1000 + n / 100 requests."""
        return _Values(self)

    def items(self) -> ItemsView[str, V]:
        """Return a view of the pairs; iterating takes n / 1000 + n / 100 requests."""
        return _Items(self)

    def pop(self, key: str, *default: Any) -> Any:
        """Delete a key and return its value: 2 requests, 1 if it is missing."""
        if key not in self.cache:
            return self.kv.using(self._codec(key)).pop(key, *default)
        value = self.cache[key]  # as it was changed since
        found = self.kv.pop(key, None)
        self._forget(key)
        if found is None and not default:
            raise KeyError(key)
        return value if found is not None else default[0]

    def popitem(self) -> tuple[str, V]:
        """Delete the first key in order and return it with its value: 3 requests."""
        self.kv._check_writable()
        for key in self.kv:
            return key, self.pop(key)
        raise KeyError("popitem(): the shelf is empty")

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value, stored now if the key is missing: 1 request, 2 if it is missing."""
        if key in self.cache:
            return self.cache[key]
        data = self.kv.setdefault(key, encode(self._codec(key), key, default))
        return self._value(key, data)

    def update(self, other: Any = (), /, **named: V) -> None:
        """Store all pairs: a request ten thousand; streams any iterable."""
        try:
            self.kv.update(self._encoded(chain(pairs_of(other), named.items())))
        except BaseException:
            self._stored.clear()  # who knows which: what is in the cache is to be sent again
            raise

    def update_pickled(self, pairs: Iterable[tuple[str, bytes]]) -> None:
        """Store pairs that are pickled already, without unpickling: a request ten thousand."""
        self.sync()
        self.kv.update((key, self._envelope.seal(key, data)) for key, data in pairs)

    def clear(self) -> None:
        """Delete all keys, behind a prefix those below it: n / 1000 + n / 10,000 requests."""
        self.kv.clear()
        self.cache.clear()
        self._stored.clear()

    def write_back(self) -> None:
        """Send what has changed in the cache, and empty it: a request ten thousand.

        What cannot be stored stays in the cache, and is an error that names it.
        """
        changed: dict[str, bytes] = {}
        refused: dict[str, KVError] = {}
        for key, value in list(self.cache.items()):
            try:
                data = encode(self._codec(key), key, value)
                check_value(key, data)
            except KVError as error:
                refused[key] = error
            else:
                if _digest(data) != self._stored.get(key):
                    changed[key] = data
        if changed:
            self.kv.update(changed)
        for key in [key for key in self.cache if key not in refused]:
            self._forget(key)
        if refused:
            first = next(iter(refused.values()))
            first.say_more("it stays in the shelf's cache: change or delete it", tuple(refused))
            raise first

    def sync(self) -> None:
        """Write back and flush: a request ten thousand."""
        if self._is_open:
            self.write_back()
            self.kv.flush()

    def close(self) -> None:
        """Send what has changed, and close; closing twice is allowed.

        After an error the shelf is still open, and nothing is lost.
        """
        if not self._is_open:
            return
        try:
            self.write_back()
        except ReadOnlyError:  # it can never be stored
            self.cache.clear()
            self._finish()
            raise
        self._finish()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Sync and close; an exception passes on, with what was not stored as its note."""
        try:
            self.close()
        except KVError as unsent:
            if error is None:
                raise
            error.add_note(f"kvdict: {unsent}")

    def __del__(self) -> None:
        """Write back what a program that does not close its shelf has changed, as it is used to.

        Nothing is sent unless something has changed, and a buffer takes what is.
        """
        if getattr(self, "_is_open", False) and self.process == os.getpid():
            self.write_back()

    def __repr__(self) -> str:
        if not hasattr(self, "kv"):
            return "<KVShelf, not open>"
        return f"<KVShelf over {self.kv!r}{', writeback=True' if self.writeback else ''}>"

    # Within

    def _codec(self, key: str) -> _KeyCodec:
        return _KeyCodec(self, key)

    def _value(self, key: str, data: bytes) -> V:
        """Return what is in the cache of the key, else the value of these bytes."""
        if key in self.cache:
            return self.cache[key]
        value: V = decode(self._codec(key), key, data)
        self._remember(key, value, data)
        return value

    def _remember(self, key: str, value: V, data: bytes) -> None:
        if self.writeback:
            self.cache[key] = value
            self._stored[key] = _digest(data)

    def _forget(self, key: str) -> None:
        self.cache.pop(key, None)
        self._stored.pop(key, None)

    def _encoded(self, pairs: Iterable[tuple[str, V]]) -> Iterator[tuple[str, bytes]]:
        for key, value in pairs:
            data = encode(self._codec(key), key, value)
            yield key, data
            self._remember(key, value, data)

    def _pairs(self) -> Iterator[tuple[str, V]]:
        return ((key, self._value(key, data)) for key, data in self.kv.items())

    def _finish(self) -> None:
        self.kv.close()
        self._is_open = False
        _open_shelves.pop(id(self), None)


@dataclass(frozen=True, slots=True)
class _KeyCodec:
    """The codec of one key: a signature holds for its key alone."""

    shelf: KVShelf[Any]
    key: str

    def dumps(self, value: Any, /) -> bytes:
        data = as_bytes(self.shelf.serializer(value, self.shelf._protocol))
        return self.shelf._envelope.seal(self.key, data)

    def loads(self, data: bytes, /) -> Any:
        return self.shelf.deserializer(self.shelf._envelope.unseal(self.key, data))

    def __repr__(self) -> str:
        return "pickle" if self.shelf.serializer is pickle.dumps else "the serializer"


class _Items(ItemsView[str, V]):
    _mapping: KVShelf[V]

    def __iter__(self) -> Iterator[tuple[str, V]]:
        return self._mapping._pairs()


class _Values(ValuesView[V]):
    _mapping: KVShelf[V]

    def __iter__(self) -> Iterator[V]:
        return (value for _, value in self._mapping._pairs())

    def __contains__(self, value: object) -> bool:
        return any(mine is value or mine == value for mine in self)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _write_back_all() -> None:
    """Write back at exit what is in the caches of shelves that nobody closed."""
    for shelf in [shelf for shelf in _open_shelves.values() if shelf.process == os.getpid()]:
        try:
            shelf.write_back()
        except KVError as error:
            print(f"kvdict: at exit {shelf!r}: {error}", file=sys.stderr)  # noqa: T201 - the last word


_open_shelves: WeakValueDictionary[int, KVShelf[Any]] = WeakValueDictionary()
atexit.register(_write_back_all)  # registered last, so that it runs before what flushes
