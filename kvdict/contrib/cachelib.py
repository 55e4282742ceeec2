"""`KVCache`: a cachelib cache, and with it Flask-Session's sessions, in a KV namespace."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, ClassVar

from kvdict.codecs import Codec, find_codec
from kvdict.contrib.backend import Backend
from kvdict.contrib.extras import needs
from kvdict.limits import check_prefix
from kvdict.namespace import KVNamespace

with needs("cachelib"):
    from cachelib import BaseCache

Timeout = float | timedelta | None


class KVCache(BaseCache):
    """A cache in the namespace that `where` says: what `kvdict.open` takes, or an open one.

    default_timeout: seconds or a timedelta, for entries that name none; 0 is for ever.
    key_prefix: put before every key, behind `prefix`.
    ignore_delete_many_errors: if False, `delete_many` raises RuntimeError where it failed.
    Others: those of `kvdict.contrib.backend.Backend`: prefix, secret, codec, buffer, cache,
    failures, max_wait, token, account_id, base_url, create, readonly.

    Values are pickled; a `secret` signs them. A value that cannot be pickled is a CodecError.
    """

    _own: ClassVar[Codec[Any] | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a `serializer` of the class, as cachelib's own have one, be the codec."""
        super().__init_subclass__(**options)
        own: Any = cls.serializer
        if own is not KVCache.serializer:
            cls._own = own
            cls.serializer = KVCache.serializer  # type: ignore[method-assign] # a property

    def __init__(
        self,
        where: str | os.PathLike[str] | KVNamespace[Any] | None = None,
        default_timeout: float | timedelta = 300,
        key_prefix: str | None = "",
        ignore_delete_many_errors: bool = True,
        *,
        prefix: str = "cachelib:",
        **options: Any,
    ) -> None:
        super().__init__()
        self.default_timeout = _seconds(default_timeout)  # type: ignore[assignment] # or half of one
        self.ignore_delete_many_errors = ignore_delete_many_errors
        key_prefix = key_prefix or ""
        for part in (prefix, key_prefix):
            check_prefix(part)
        if options.get("codec") is None:
            options["codec"] = self._own
        self._backend = Backend(where, prefix=prefix + key_prefix, **options)

    @property
    def serializer(self) -> Codec[Any]:
        """What makes bytes of values: anything with dumps and loads."""
        return self._backend.codec

    @serializer.setter
    def serializer(self, serializer: Codec[Any]) -> None:
        self._backend.codec = find_codec(serializer)

    def get(self, key: str) -> Any:
        """Return the value, None if it is missing: 1 request."""
        return self._backend.get(key)

    def get_many(self, *keys: str) -> list[Any]:
        """Return a value or None for each key: a request a hundred."""
        found = self._backend.get_many(keys)
        return [found.get(key) for key in keys]

    def get_dict(self, *keys: str) -> dict[str, Any]:
        """Return a value or None for each key, by key: a request a hundred."""
        found = self._backend.get_many(keys)
        return {key: found.get(key) for key in keys}

    def has(self, key: str) -> bool:
        """Tell whether the key is there: 1 request, which downloads no value."""
        return self._backend.has(key)

    def set(self, key: str, value: Any, timeout: Timeout = None) -> bool:
        """Store a value: 1 request. False if it failed."""
        return self._backend.set(key, value, self._ttl(timeout))

    def set_many(self, mapping: dict[str, Any], timeout: Timeout = None) -> list[str]:
        """Store all pairs: a request ten thousand. Returns the keys that are stored."""
        failed = set(self._backend.set_many(mapping, self._ttl(timeout)))
        return [key for key in mapping if key not in failed]

    def add(self, key: str, value: Any, timeout: Timeout = None) -> bool:
        """Store a value unless there is one: 2 requests, 1 if there is; not atomic, no lock."""
        return self._backend.add(key, value, self._ttl(timeout))

    def delete(self, key: str) -> bool:
        """Delete a key and tell whether it was there: 2 requests; `delete_many` takes 1."""
        return self._backend.remove(key)

    def delete_many(self, *keys: str) -> list[str]:
        """Delete the keys, missing or not: a request ten thousand. Returns the keys, or none."""
        if self._backend.delete_many(keys):
            return list(keys)
        if not self.ignore_delete_many_errors:
            raise RuntimeError(f"the service did not delete {', '.join(map(repr, keys))}")
        return []

    def clear(self) -> bool:
        """Delete all keys behind the prefixes: n / 1000 + n / 10,000 requests."""
        return self._backend.clear()

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to a value, whose timeout goes on: 2 requests. A missing one begins at 0.

        Not atomic: of two that add at the same time one may be lost. None if it failed.
        """
        changed: int | None = self._backend.change(key, lambda value: (value or 0) + delta)
        if changed is None and self.set(key, delta):
            return delta
        return changed

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Subtract from a value, as `inc` adds."""
        return self.inc(key, -delta)

    def _ttl(self, timeout: Timeout) -> float | None:
        """Return the seconds to live: None is the default, 0 for ever."""
        return _seconds(self.default_timeout if timeout is None else timeout) or None


def _seconds(timeout: float | timedelta) -> float:
    if isinstance(timeout, timedelta):
        return timeout.total_seconds()
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"a timeout is seconds or a timedelta, not {type(timeout).__name__}")
    return timeout
