"""Namespaces that the backends of one process share."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any

from kvdict.breaker import Breaker
from kvdict.buffer import WriteBuffer
from kvdict.complaints import Complaints
from kvdict.config import open_home, open_in, parse_namespace
from kvdict.credentials import ACCOUNT_VARIABLE, BASE_URL_VARIABLE
from kvdict.errors import ConfigError, KVError
from kvdict.forks import renew_in_children
from kvdict.namespace import KVNamespace
from kvdict.secret import Secret
from kvdict.where import Target

SHORTEST_TIMEOUT = 1.0
"""Seconds that an attempt has at least: a namespace far away needs some of it to answer."""
FOR_THE_HOME = "token", "account_id", "base_url"
FOR_THE_NAMESPACE = "cache", "create", "expiration_ttl"

Buffering = bool | WriteBuffer | Mapping[str, Any] | None
"""True: write behind; a mapping: options of `WriteBuffer`; None and False: write through."""


class Shared:
    """A namespace that is opened at its first use, and stays open while the process lives."""

    def __init__(self, open_it: Callable[[], KVNamespace[bytes]]) -> None:
        self._open_it = open_it
        self._kv: KVNamespace[bytes] | None = None
        self._failure: KVError | None = None
        self._failures = 0
        self.complaints = Complaints()
        self.breaker = Breaker()
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Take a lock of its own in a forked child; the namespace renews itself."""
        self._lock = threading.RLock()

    @property
    def kv(self) -> KVNamespace[bytes]:
        """The namespace: what opening costs at first, then nothing."""
        kv, failures = self._kv, self._failures
        if kv is not None:
            return kv
        with self._lock:
            if self._failures != failures:  # who waited for another's attempt need not try again
                assert self._failure
                raise copy(self._failure)
            if self._kv is None:
                self._kv = self._open()
            return self._kv

    @property
    def is_open(self) -> bool:
        """Tell whether it was opened: what asks it first may have to wait for that."""
        return self._kv is not None

    def close(self) -> None:
        """Flush and close; the next use opens anew. After a FlushError it is still open."""
        with self._lock:
            if self._kv is not None:
                self._kv.close()
                self._kv = None

    def _open(self) -> KVNamespace[bytes]:
        try:
            return self._open_it()
        except KVError as error:
            self._failure = error
            self._failures += 1
            raise


class _All:
    """What is shared in this process, by place and options."""

    def __init__(self) -> None:
        self.known: dict[Hashable, Shared] = {}
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        self._lock = threading.RLock()

    def find(self, key: Hashable, open_it: Callable[[], KVNamespace[bytes]]) -> Shared:
        with self._lock:
            if key not in self.known:
                self.known[key] = Shared(open_it)
            return self.known[key]


_all = _All()


def share(
    where: str | os.PathLike[str] | None,
    *,
    buffer: Buffering = None,
    max_wait: float = 2.0,
    readonly: bool = False,
    **options: Any,
) -> Shared:
    """Return the namespace of that place and those options, the same for all who ask so.

    Options are those of `kvdict.open` that concern the namespace; ConfigError for others.
    """
    unknown = sorted(options.keys() - {*FOR_THE_HOME, *FOR_THE_NAMESPACE})
    if unknown:
        raise ConfigError(f"unknown option {unknown[0]!r}; see kvdict.open and the backend's page")
    target = _absolute(parse_namespace(where))
    if isinstance(options.get("token"), str):
        options["token"] = Secret(options["token"])
    if isinstance(options.get("cache"), Mapping):
        raise ConfigError("cache takes True, or a ReadCache with options of its own, not a dict")
    _buffer(buffer, max_wait)  # a wrong option is an error now, not at the first use

    def open_it() -> KVNamespace[bytes]:
        home = {name: options[name] for name in FOR_THE_HOME if name in options}
        rest = {name: options[name] for name in FOR_THE_NAMESPACE if name in options}
        return _open(
            target, {**home, "max_wait": max_wait, "readonly": readonly},
            {**rest, "buffer": _buffer(buffer, max_wait), "readonly": readonly},
        )  # fmt: skip

    surroundings = tuple(os.environ.get(name) for name in (ACCOUNT_VARIABLE, BASE_URL_VARIABLE))
    key = (target, surroundings, max_wait, readonly, _frozen(buffer or None), _frozen(options))
    return _all.find(key, open_it)


def close_all() -> None:
    """Flush and close all namespaces that backends opened; one that is used again opens anew."""
    for shared in list(_all.known.values()):
        shared.close()


def _absolute(target: Target) -> Target:
    """Return the target, a file by a path that is the same from wherever it is opened."""
    if target.kind != "file":
        return target
    return replace(target, location=os.path.abspath(target.location))


def _open(
    target: Target, home_options: dict[str, Any], options: dict[str, Any]
) -> KVNamespace[bytes]:
    with open_home(target, **home_options) as home:
        transport = home.client.transport
        if transport.metered:  # else a service that hangs holds a page up for a minute
            longest = max(SHORTEST_TIMEOUT, transport.max_wait)
            connect, read = transport.timeout
            transport.timeout = min(connect, longest), min(read, longest)
        return open_in(home, target.namespace, codec="bytes", **options)


def _buffer(buffer: Buffering, max_wait: float) -> WriteBuffer:
    if isinstance(buffer, WriteBuffer):  # of one namespace: what is opened anew has another
        return replace(buffer) if buffer.is_taken else buffer
    if not buffer:
        return WriteBuffer(write_through=True, settle=0)
    options = dict(buffer) if isinstance(buffer, Mapping) else {}
    try:
        return WriteBuffer(**{"put_timeout": max_wait, **options})
    except TypeError as error:
        raise ConfigError(f"buffer={dict(options)!r}: {error}") from None


def _frozen(value: Any) -> Hashable:
    """Return something that is equal for equal options: what cannot be hashed counts by itself."""
    if isinstance(value, Mapping):
        return frozenset((name, _frozen(each)) for name, each in value.items())
    return value if isinstance(value, Hashable) else id(value)
