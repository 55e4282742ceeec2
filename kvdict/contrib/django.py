"""`KVCache`: Django's cache, and with it its sessions, in a KV namespace."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from kvdict.contrib.backend import Backend, SignedPickle
from kvdict.contrib.extras import needs
from kvdict.errors import CodecError, ConfigError

with needs("django"):
    from asgiref.sync import sync_to_async
    from django.conf import settings
    from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
    from django.core.exceptions import ImproperlyConfigured

P = ParamSpec("P")
T = TypeVar("T")

SALT = b"kvdict.contrib.django:"


def _in_thread(method: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return the method, or what a subclass makes of it, as one that runs in a thread.

    In any thread: what Django calls thread-sensitive would run one at a time.
    """
    name = method.__name__

    @wraps(method)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        cache, *others = args
        work = sync_to_async(getattr(cache, name), thread_sensitive=False)
        result: T = await work(*others, **kwargs)
        return result

    run.__name__, run.__doc__ = f"a{name}", f"Do as `{name}` in a thread."
    return run


class KVCache(BaseCache):
    """A cache backend: `"BACKEND": "kvdict.contrib.django.KVCache"`, LOCATION as `kvdict.open`.

    OPTIONS are those of `kvdict.contrib.backend.Backend`. Values are pickled and signed with
    SECRET_KEY, those signed with one of SECRET_KEY_FALLBACKS are read; a codec in OPTIONS replaces
    that. The async methods do the same in a thread. A missing LOCATION is KVDICT_URL.
    """

    def __init__(self, location: str | os.PathLike[str], params: dict[str, Any]) -> None:
        super().__init__(params)
        options = {"prefix": "django:", **params.get("OPTIONS", {})}
        if options.get("codec") is None:
            secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
            options["codec"] = SignedPickle(secrets, SALT)
        try:
            self._backend = Backend(location or None, **options)
        except ConfigError as error:
            raise ImproperlyConfigured(f"CACHES: LOCATION or OPTIONS: {error}") from error

    # Reads

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """Return the value, the default if the key is missing: 1 request."""
        return self._backend.get(self._key(key, version), default)

    def get_many(self, keys: Iterable[str], version: int | None = None) -> dict[str, Any]:
        """Return those of the keys that are there: a request a hundred."""
        full = {self._key(key, version): key for key in keys}
        return {full[key]: value for key, value in self._backend.get_many(full).items()}

    def has_key(self, key: str, version: int | None = None) -> bool:
        """Tell whether the key is there: 1 request, which downloads no value."""
        return self._backend.has(self._key(key, version))

    # Writes

    def set(
        self,
        key: str,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> None:
        """Store a value: 1 request."""
        full = self._key(key, version)
        _with_own_errors(lambda: self._backend.set(full, value, self._ttl(timeout)))

    def set_many(
        self,
        data: Mapping[str, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[str]:
        """Store all pairs: a request ten thousand. Returns the keys that are not stored."""
        full = {self._key(key, version): key for key in data}
        pairs = {name: data[key] for name, key in full.items()}
        failed = _with_own_errors(lambda: self._backend.set_many(pairs, self._ttl(timeout)))
        return [full[name] for name in failed]

    def add(
        self,
        key: str,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> bool:
        """Store a value unless there is one: 2 requests, 1 if there is; not atomic, no lock."""
        full = self._key(key, version)
        return _with_own_errors(lambda: self._backend.add(full, value, self._ttl(timeout)))

    def get_or_set(
        self,
        key: str,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> Any:
        """Return the value, or store the default, or what it returns: 1 request, 2 if missing.

        Not atomic: of two callers that both find the key missing each returns its own.
        """
        value = self.get(key, self._missing_key, version)
        if value is not self._missing_key:
            return value
        value = default() if callable(default) else default
        self.set(key, value, timeout, version)
        return value

    def incr(self, key: str, delta: int = 1, version: int | None = None) -> Any:
        """Add to a value, whose timeout goes on: 2 requests. ValueError for a missing key.

        Not atomic: of two that add at the same time one may be lost.
        """
        full = self._key(key, version)
        changed = self._backend.change(full, lambda value: value + delta, self._missing_key)
        if changed is self._missing_key:
            raise ValueError(f"Key {key!r} not found")
        return changed

    def touch(self, key: str, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Let the timeout start anew: 2 requests, not atomic. False for a missing key."""
        return self._backend.touch(self._key(key, version), self._ttl(timeout))

    def delete(self, key: str, version: int | None = None) -> bool:
        """Delete a key and tell whether it was there: 2 requests; `delete_many` takes 1."""
        return self._backend.remove(self._key(key, version))

    def delete_many(self, keys: Iterable[str], version: int | None = None) -> None:
        """Delete the keys, missing or not: a request ten thousand."""
        self._backend.delete_many([self._key(key, version) for key in keys])

    def clear(self) -> None:
        """Delete all keys behind OPTIONS["prefix"], whatever their KEY_PREFIX and VERSION.

        n / 1000 + n / 10,000 requests.
        """
        self._backend.clear()

    # The same off the event loop

    aget = _in_thread(get)
    aget_many = _in_thread(get_many)
    ahas_key = _in_thread(has_key)
    aset = _in_thread(set)
    aset_many = _in_thread(set_many)
    aadd = _in_thread(add)
    aincr = _in_thread(incr)
    atouch = _in_thread(touch)
    adelete = _in_thread(delete)
    adelete_many = _in_thread(delete_many)
    aclear = _in_thread(clear)

    async def aget_or_set(
        self,
        key: str,
        default: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> Any:
        """Do as `get_or_set`; the default is called here, as Django's own does."""
        value = await self.aget(key, self._missing_key, version)
        if value is not self._missing_key:
            return value
        value = default() if callable(default) else default
        await self.aset(key, value, timeout, version)
        return value

    # Within

    def _key(self, key: str, version: int | None) -> str:
        return str(self.make_and_validate_key(key, version=version))

    def _ttl(self, timeout: Any) -> float | None:
        """Return the seconds to live: None is for ever, 0 and less is over at once."""
        seconds: float | None = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return seconds


def _with_own_errors(call: Callable[[], T]) -> T:
    """Raise for a value that cannot be encoded what pickle says: Django's callers catch that."""
    try:
        return call()
    except CodecError as error:
        if error.__cause__ is None:
            raise
        error.__cause__.add_note(str(error))
        raise error.__cause__ from None
