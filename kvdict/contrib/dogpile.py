"""`KVBackend`: a Workers KV namespace behind the regions of dogpile.cache, by the name "kvdict"."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta
from inspect import signature
from typing import Any

from kvdict.contrib.backend import Backend
from kvdict.contrib.extras import needs
from kvdict.contrib.shared import FOR_THE_HOME, FOR_THE_NAMESPACE
from kvdict.contrib.texts import TextBytes
from kvdict.errors import ConfigError

with needs("dogpile"):
    from dogpile.cache.api import NO_VALUE, BackendArguments, BytesBackend, SerializedReturnType

OWN = "prefix", "secret", "expiration_ttl"
KNOWN = {
    *OWN, *FOR_THE_HOME, *FOR_THE_NAMESPACE, "readonly",
    *signature(Backend.__init__).parameters.keys() - {"self", "codec", "options"},
}  # fmt: skip

log = logging.getLogger("kvdict")


class KVBackend(BytesBackend):
    """A cache backend of dogpile.cache that keeps its values in Workers KV.

    where: what `kvdict.open` takes.
    prefix: put before every key, "dogpile:" if not given.
    secret: signs what the region's serializer made.
    expiration_ttl: how long KV keeps a value, in seconds or as a timedelta, None for ever; let it
    be longer than the region's `expiration_time`.
    Others: those of `kvdict.contrib.backend.Backend` but for the codec: the serializer is it.

    These are the region's `arguments`; one that is unknown is logged and not used. Safe to use
    from many threads.
    """

    def __init__(self, arguments: BackendArguments) -> None:
        unknown = sorted(arguments.keys() - KNOWN)
        if unknown:
            log.warning("dogpile.cache region: unknown arguments %s", ", ".join(unknown))
        options = {name: value for name, value in arguments.items() if name in KNOWN}
        self.ttl = _seconds(options.pop("expiration_ttl", None))
        codec = TextBytes(options.pop("secret", None))
        self.cache = Backend(**{"prefix": "dogpile:", **options, "codec": codec})

    def get_mutex(self, key: str) -> None:
        """Return None: a lock of this process. KV has no write on condition to make one of."""

    def get_serialized(self, key: str) -> SerializedReturnType:
        """Return the value, or NO_VALUE: 1 request."""
        value: SerializedReturnType = self.cache.get(key, NO_VALUE)
        return value

    def get_serialized_multi(self, keys: Iterable[str]) -> list[SerializedReturnType]:
        """Return the values in the order of the keys: a request a hundred."""
        wanted = list(keys)
        found = self.cache.get_many(wanted)
        return [found.get(key, NO_VALUE) for key in wanted]

    def set_serialized(self, key: str, value: bytes) -> None:
        """Store a value: 1 request."""
        self.cache.set(key, value, self.ttl)

    def set_serialized_multi(self, mapping: Mapping[str, bytes]) -> None:
        """Store all values: a request ten thousand, or 10 MB."""
        self.cache.set_many(mapping, self.ttl)

    def delete(self, key: str) -> None:
        """Delete a key, missing or not: 1 request."""
        self.cache.delete(key)

    def delete_multi(self, keys: Iterable[str]) -> None:
        """Delete the keys, missing or not: a request ten thousand."""
        self.cache.delete_many(keys)

    def clear(self) -> None:
        """Delete all keys behind the prefix: n / 1000 + n / 10,000 requests."""
        self.cache.clear()


def _seconds(ttl: Any) -> float | None:
    if isinstance(ttl, timedelta):
        ttl = ttl.total_seconds()
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not ttl > 0:
        raise ConfigError(f"expiration_ttl is {ttl!r}, expected seconds, more than 0, or None")
    return float(ttl)
