"""`KVNamespace`: a namespace as a `MutableMapping`, and what KV does beyond a dict."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from kvdict.codecs import Codec, decode, find_codec
from kvdict.edit import KEEP, NO_DEFAULT, Kept, edit, touch
from kvdict.errors import ConfigError
from kvdict.limits import check_page
from kvdict.mapping import KVMapping
from kvdict.memoize import Memoize, Memoized
from kvdict.models import Entry, Key, KeyPage
from kvdict.pairs import Pairs, pairs_of, several, with_own_options
from kvdict.remembered import OnError
from kvdict.writes import Moment, Seconds

if TYPE_CHECKING:
    from kvdict.memoize_async import AsyncMemoized

P = ParamSpec("P")
V = TypeVar("V")
W = TypeVar("W")
T = TypeVar("T")


class KVNamespace(KVMapping[V]):
    """A Workers KV namespace as a dict from str to whatever the codec takes; see `kvdict.open`.

    A missing key is a `KeyError`. Keys have 1 to 512 bytes of UTF-8, values up to 25 MiB; what
    the service would refuse is a `LimitError` before anything is sent, and a key it cannot have
    reads as missing. Iteration is in the order of the keys' UTF-8 and lazy; writing and deleting
    meanwhile is allowed. The docstrings give the cost in requests, for n keys and values that
    are text. Safe to use from many threads.
    """

    def put(
        self,
        key: str,
        value: V,
        *,
        expiration_ttl: Seconds | None = None,
        expiration: Moment | None = None,
        metadata: Any = None,
    ) -> None:
        """Store a pair in place of value, expiration and metadata: 1 request.

        `expiration_ttl` is seconds or a timedelta, at least 60 s; `expiration` epoch seconds or an
        aware datetime, at least a minute ahead; `metadata` any JSON of up to 1,024 bytes.
        """
        self._backing.writes.put(self._write(key, value, expiration_ttl, expiration, metadata))

    @overload
    def put_many(
        self,
        pairs: Mapping[str, V | Entry[V]],
        *,
        expiration_ttl: Seconds | None = None,
        expiration: Moment | None = None,
        metadata: Any = None,
    ) -> None: ...
    @overload
    def put_many(
        self,
        pairs: Pairs[V | Entry[V]],
        *,
        expiration_ttl: Seconds | None = None,
        expiration: Moment | None = None,
        metadata: Any = None,
    ) -> None: ...
    def put_many(
        self,
        pairs: Any,
        *,
        expiration_ttl: Seconds | None = None,
        expiration: Moment | None = None,
        metadata: Any = None,
    ) -> None:
        """Store all pairs of a mapping or iterable: a request ten thousand, or 10 MB.

        An `Entry` as value carries its own expiration and metadata. Streams; of a repeated key the
        last value stays. A bad pair is an error that names it and says what was sent before.
        """
        self._check_writable()
        writes = (
            self._write(key, *with_own_options(value, expiration_ttl, expiration, metadata))
            for key, value in pairs_of(pairs)
        )
        with self._naming_own_keys():
            self._backing.writes.put_many(writes)

    def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Return those of the keys that are there, in the order given: a request a hundred."""
        wanted = self._readable(dict.fromkeys(several(keys)))
        return dict(self._decoded(self._backing.reads.read(wanted, eager=True)))

    def entries(self, keys: Iterable[str]) -> dict[str, Entry[V]]:
        """Return `entry` of those of the keys that are there, in the order given.

        A request a hundred; a value that is not text takes 3 of its own.
        """
        wanted = self._readable(dict.fromkeys(several(keys)))
        found = self._backing.reads.read(wanted, details=True, eager=True)
        return {
            name: Entry(decode(self.codec, name, entry.value), entry.expiration, entry.metadata)
            for name, entry in ((self._space.name(full), entry) for full, entry in found)
            if entry
        }

    def edit(self, key: str, default: Any = NO_DEFAULT) -> AbstractContextManager[V]:
        """Give a value to change in a `with` block, saved once at its end if it changed.

        2 requests, 1 if it did not change. A missing key is a KeyError, or `default`, which is
        stored if it changes. Expiration and metadata stay; an expiration of less than a minute
        becomes one of a minute, the least that the service takes. An exception in the block saves
        nothing. The last writer wins: what others store meanwhile, other threads too, is lost.
        """
        return edit(self, key, default)

    @overload
    def memoize(  # type: ignore[overload-overlap]  # a coroutine is a result, but not one to keep
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> AsyncMemoized[P, T]: ...
    @overload
    def memoize(self, function: Callable[P, T], /) -> Memoized[P, T]: ...
    @overload
    def memoize(
        self,
        expiration_ttl: Seconds | None = None,
        *,
        key: Callable[..., str] | None = None,
        prefix: str | None = None,
        on_error: OnError = "call",
    ) -> Memoize: ...
    def memoize(
        self,
        expiration_ttl: Any = None,
        *,
        key: Callable[..., str] | None = None,
        prefix: str | None = None,
        on_error: OnError = "call",
    ) -> Any:
        """Return a decorator that keeps the results of a function, method or coroutine here.

        1 request a call, and 1 to keep what was made; with a cache mostly none. Several callers
        with the same arguments make one call. None is remembered where the codec takes it ("text"
        and "bytes" do not), exceptions are not. Works without parentheses too, and above
        `@classmethod` and `@staticmethod`.

        expiration_ttl: seconds or a timedelta, exact below a minute too; None: the namespace's.
        key: makes a str of the arguments, where these have no text that is the same everywhere:
        objects that are no dataclass. Of a dataclass all counts that `==` compares.
        prefix: put before the keys, by default "memoize:MODULE.QUALNAME:"; `clear` deletes all
        keys that begin with it. Functions that a function makes share one, whatever they close
        over: give each its own.
        on_error: "call": if KV does not answer within 2 s the function is called, and the error is
        counted, and logged once a minute; "raise" raises it. What the program has to mend is
        always raised: a result that cannot be stored (CodecError, LimitError), an argument that
        has no key (TypeError), a closed namespace.

        The function gets `cache_info()`, `invalidate(...)`, `refresh(...)`, `clear()` and
        `__wrapped__`; the first call returns the value as the codec gives it back, as all later do.
        """
        if expiration_ttl is None or isinstance(expiration_ttl, int | float | timedelta):
            return Memoize(self, expiration_ttl, key, prefix, on_error)
        return Memoize(self, None, key, prefix, on_error)(expiration_ttl)

    def delete(self, key: str) -> None:
        """Delete a key, missing or not: 1 request."""
        self._check_writable()
        self._backing.writes.delete(self._space.to_write(key))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Delete the keys, missing or not: a request ten thousand; streams any iterable."""
        self._check_writable()
        with self._naming_own_keys():
            self._backing.writes.delete_many(map(self._space.to_write, several(keys)))

    def entry(self, key: str) -> Entry[V]:
        """Return value, expiration and metadata: 1 request.

        2 for a value that is known not to be text, 3 for one that turns out not to be.
        """
        backing = self._backing
        full = self._space.to_read(key)
        entry = None if full is None else backing.reads.entry(full)
        if entry is None:
            raise KeyError(key)
        return Entry(decode(self.codec, key, entry.value), entry.expiration, entry.metadata)

    def metadata(self, key: str) -> Any:
        """Return the key's metadata, None if it has none: 1 request."""
        backing = self._backing
        full = self._space.to_read(key)
        entry = None if full is None else backing.reads.about(full)
        if entry is None:
            raise KeyError(key)
        return entry.metadata

    def touch(
        self,
        key: str,
        *,
        expiration_ttl: Seconds | Kept | None = KEEP,
        expiration: Moment | Kept | None = KEEP,
        metadata: Any = KEEP,
    ) -> None:
        """Change expiry or metadata of a key, keep what is not named: 2 requests.

        None takes it away; with nothing named, the namespace's default time to live starts anew.
        Reads and writes again: another process's write in between is lost. A kept expiration of
        less than a minute becomes one of a minute, the least that the service takes.
        """
        touch(self, key, expiration_ttl, expiration, metadata)

    def scan(self, prefix: str = "") -> Iterator[Key]:
        """Yield keys with expiration and metadata, lazily: a request a thousand."""
        below = self._space.below(prefix)
        return map(self._space.strip, self._backing.listing.scan(below.prefix))

    def pages(
        self, prefix: str = "", cursor: str | None = None, *, limit: int | None = None
    ) -> Iterator[KeyPage]:
        """Yield pages of up to `limit` (10 to 1,000) keys, from `cursor` on: a request each.

        A page's cursor, kept anywhere, goes on behind that page; a page may be empty.
        """
        self._check_open()
        check_page(cursor, limit)
        return self._pages(self._space.below(prefix).prefix, cursor, limit)

    def prefixed(self, prefix: str, *, expiration_ttl: Seconds | None = None) -> KVNamespace[V]:
        """Return the part of this mapping behind a prefix: all of the above, `clear` included."""
        space = self._space.below(prefix)
        return self._view(
            self.codec,
            space.prefix,
            self.expiration_ttl if expiration_ttl is None else expiration_ttl,
        )

    @overload
    def using(self, codec: Literal["text"]) -> KVNamespace[str]: ...
    @overload
    def using(self, codec: Literal["bytes"]) -> KVNamespace[bytes]: ...
    @overload
    def using(self, codec: Literal["json", "pickle"]) -> KVNamespace[Any]: ...
    @overload
    def using(self, codec: Codec[W]) -> KVNamespace[W]: ...
    def using(self, codec: str | Codec[Any]) -> KVNamespace[Any]:
        """Return the same mapping through another codec."""
        return self._view(find_codec(codec), self.prefix, self.expiration_ttl)

    def refresh(self, key: str) -> None:
        """Forget what settles and what is cached of a key: the next read asks. No request."""
        backing = self._backing
        full = self._space.to_read(key)
        if full is not None:
            backing.refresh(full)

    def prefetch(self, keys: Iterable[str]) -> None:
        """Read the keys that are not cached into the cache: a request a hundred.

        Raises ConfigError without a cache.
        """
        backing = self._backing
        if backing.reads.cache is None:
            raise ConfigError("prefetch needs a cache: kvdict.open(..., cache=True)")
        for _ in backing.reads.read(self._readable(dict.fromkeys(several(keys))), eager=True):
            pass

    def _pages(self, prefix: str, cursor: str | None, limit: int | None) -> Iterator[KeyPage]:
        for page in self._backing.listing.pages(prefix, cursor, limit):
            yield KeyPage([self._space.strip(key) for key in page.keys], page.cursor)

    def _view(self, codec: Codec[W], prefix: str, expiration_ttl: Seconds | None) -> KVNamespace[W]:
        return KVNamespace(
            self._backing,
            codec,
            prefix=prefix,
            expiration_ttl=expiration_ttl,
            readonly=self.readonly,
            is_view=True,
        )
