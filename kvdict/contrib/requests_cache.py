"""`KVCache`: the responses of a requests-cache session in a Workers KV namespace."""

from __future__ import annotations

import logging
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain, islice
from typing import Any
from urllib.parse import quote

from requests import Response

from kvdict.contrib.backend import AT_ONCE, Backend
from kvdict.contrib.extras import needs
from kvdict.contrib.texts import TextBytes
from kvdict.errors import LimitError
from kvdict.namespace import KVNamespace
from kvdict.pairs import pairs_of

with needs("requests-cache"):
    import attrs
    from requests_cache.backends.base import BaseCache, BaseStorage
    from requests_cache.models.response import CachedResponse
    from requests_cache.policy import CacheSettings, ExpirationTime, utcnow
    from requests_cache.serializers import SerializerType, pickle_serializer, utf8_serializer

Where = str | os.PathLike[str] | KVNamespace[Any] | None

KEPT_STALE = 3600
"""Seconds for which a response is kept after it expired: to be revalidated, or used on an error."""
MISSING = object()
SETTINGS = attrs.fields_dict(CacheSettings).keys()
"""What a session's cache may be given and leaves to the session."""

log = logging.getLogger("kvdict")


class KVStorage(BaseStorage[str, Any]):
    """A mapping of requests-cache on a part of a KV namespace.

    where: what `kvdict.open` takes.
    connection: an open namespace in place of `where`.
    secret: signs what the serializer made.
    ttl: let KV drop a response `ttl_offset` seconds after it expires, or was stored if that is
    later; False: keep all.
    Others: as `kvdict.contrib.backend.Backend` takes them.

    Safe to use from many threads.
    """

    def __init__(
        self,
        cache_name: str = "http_cache",
        collection_name: str = "responses",
        *,
        where: Where = None,
        connection: KVNamespace[Any] | None = None,
        prefix: str = "requests-cache:",
        serializer: SerializerType | None = None,
        decode_content: bool = False,
        secret: str | bytes | None = None,
        ttl: bool = True,
        ttl_offset: float = KEPT_STALE,
        **options: Any,
    ) -> None:
        super().__init__(serializer or pickle_serializer, decode_content)
        self.ttl = ttl
        self.ttl_offset = ttl_offset
        self.backend = Backend(
            where if connection is None else connection,
            prefix="".join([prefix, quote(cache_name, ""), ":", quote(collection_name, ""), ":"]),
            codec=TextBytes(secret),
            **options,
        )

    def __getitem__(self, key: str) -> Any:
        """Return the value: 1 request."""
        data = self.backend.get(key, MISSING)
        if data is MISSING:
            raise KeyError(key)
        return self.deserialize(key, data)

    def __setitem__(self, key: str, value: Any) -> None:
        """Store the value, until its expiry if it has one: 1 request."""
        self.backend.set(key, self.serialize(value), self.left(value))

    def __delitem__(self, key: str) -> None:
        """Delete a key that is there: 2 requests."""
        if not self.backend.remove(key):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        """Tell whether the key is there: 1 request, which downloads no value."""
        return isinstance(key, str) and self.backend.has(key)

    def __iter__(self) -> Iterator[str]:
        """Yield the keys: a request a thousand."""
        return self.backend.names()

    def __len__(self) -> int:
        """Count the keys: a request a thousand."""
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        """Tell whether there is any key: 1 request."""
        return any(True for _ in self)

    # A view would be counted too when it is made a list: as in the framework's own storages, these
    # are iterators.

    def keys(self) -> Iterator[str]:  # type: ignore[override] # see above
        """Yield the keys: a request a thousand."""
        return iter(self)

    def values(self) -> Iterator[Any]:  # type: ignore[override] # see above
        """Yield the values: n / 1000 + n / 100 requests."""
        return (value for _, value in self.items())

    def items(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override] # see above
        """Yield the pairs: n / 1000 + n / 100 requests."""
        return ((key, self.deserialize(key, data)) for key, data in self.backend.items())

    def update(self, other: Any = (), /, **named: Any) -> None:
        """Store all pairs: a request for a thousand that expire at the same time."""
        pairs = chain(pairs_of(other), named.items())
        while some := dict(islice(pairs, AT_ONCE)):
            groups: dict[float | None, dict[str, Any]] = defaultdict(dict)
            for key, value in some.items():
                groups[self.left(value)][key] = self.serialize(value)
            for ttl, group in groups.items():
                self.backend.set_many(group, ttl)

    def bulk_delete(self, keys: Iterable[str]) -> None:
        """Delete the keys, missing or not: a request ten thousand."""
        self.backend.delete_many(keys)

    def clear(self) -> None:
        """Delete all keys of this storage: n / 1000 + n / 10,000 requests."""
        self.backend.clear()

    def close(self) -> None:
        """Send what is pending; the namespace stays open for others, and for a later use."""
        self.backend.flush()

    def left(self, value: Any) -> float | None:
        """Return the seconds for which to keep a value, None: for ever."""
        expires = getattr(value, "expires", None)
        if not self.ttl or expires is None:
            return None
        seconds: float = max(0, math.ceil((expires - utcnow()).total_seconds()))
        return seconds + self.ttl_offset


class KVCache(BaseCache):
    """A backend of requests-cache that keeps responses and redirects in Workers KV.

    Takes what `KVStorage` takes. `cache_name` tells several caches of one namespace apart; what is
    a setting of the session is left to the session.
    """

    def __init__(
        self,
        cache_name: str = "http_cache",
        *,
        serializer: SerializerType | None = None,
        decode_content: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(cache_name)
        own = {name: value for name, value in options.items() if name not in SETTINGS}
        self.responses: KVStorage = KVStorage(
            cache_name, serializer=serializer, decode_content=decode_content, **own
        )
        self.redirects: KVStorage = KVStorage(
            cache_name, "redirects", serializer=utf8_serializer, **own
        )

    def save_response(
        self,
        response: Response,
        cache_key: str | None = None,
        expires: datetime | None = None,
    ) -> None:
        """Store a response and, until the same time, the redirects to it: 1 request, 2 with any.

        One of more than 25 MiB is logged and not stored; with failures="raise" it is a LimitError.
        """
        taken = self._in_memory()
        taken.save_response(response, cache_key, expires)
        redirects = {name: to.encode() for name, to in taken.redirects.items()}
        for key, saved in taken.responses.items():
            try:
                self.responses[key] = saved
            except LimitError as error:
                self._leave_out(key, error)
            else:
                if redirects:
                    self.redirects.backend.set_many(redirects, self.responses.left(saved))

    def filter(
        self,
        valid: bool = True,
        expired: bool = True,
        invalid: bool = False,
        older_than: ExpirationTime = None,
    ) -> Iterator[CachedResponse]:
        """Yield the responses to which any of these applies: n / 1000 + n / 100 requests."""
        if valid or expired or invalid or older_than:
            pairs = self.responses.items()
            while some := dict(islice(pairs, AT_ONCE)):
                page = self._in_memory()
                page.responses.update(some)
                yield from page.filter(valid, expired, invalid, older_than)

    def reset_expiration(self, expire_after: ExpirationTime = None) -> None:
        """Let all responses expire so long from now: n / 1000 + n / 100 requests twice."""
        responses = self.filter()
        while some := list(islice(responses, AT_ONCE)):
            for response in some:
                response.reset_expiration(expire_after)
            self.responses.update((response.cache_key, response) for response in some)

    def _prune_redirects(self) -> None:
        """Delete the redirects to nothing: n / 1000 requests where looking for each takes n."""
        redirects = dict(self.redirects.items())
        if redirects:
            there = set(self.responses)
            self.redirects.bulk_delete([key for key, to in redirects.items() if to not in there])

    def _leave_out(self, key: str, error: LimitError) -> None:
        """Let the session have a response that KV cannot keep, and nothing older in its place."""
        if self.responses.backend.failures == "raise":
            raise error
        log.warning("a response is not cached: %s", error)
        self.responses.backend.delete(key)

    def _in_memory(self) -> BaseCache:
        """Return a cache of requests-cache's own, with this one's settings and keys."""
        cache = BaseCache(self.cache_name)
        cache._settings = self._settings
        cache.responses.serializer = self.responses.serializer
        return cache
