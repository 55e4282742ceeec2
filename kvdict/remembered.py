"""What is remembered of one function: its results in a namespace, found and kept without delay."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from kvdict.argkeys import HASH_SIZE
from kvdict.codecs import decode, encode
from kvdict.complaints import Complaints
from kvdict.deadlines import is_over, lasting
from kvdict.errors import (
    ClosedError,
    CodecError,
    ConfigError,
    FlushError,
    KVError,
    LimitError,
    ReadOnlyError,
)
from kvdict.limits import MAX_EXPIRATION, MAX_KEY_BYTES, check_prefix, check_value
from kvdict.phrases import shorten
from kvdict.writepath import Decision
from kvdict.writes import Seconds, Write

if TYPE_CHECKING:
    from kvdict.models import Entry
    from kvdict.namespace import KVNamespace

T = TypeVar("T")

OnError = Literal["call", "raise"]
OF_THE_PROGRAM = (CodecError, LimitError, ConfigError, ClosedError, ReadOnlyError)
"""Errors that only the program can mend: raised whatever `on_error` says."""


class CacheInfo(NamedTuple):
    """Calls that did not need the function, calls that did, and errors of KV in between."""

    hits: int
    misses: int
    errors: int


class Run(Protocol):
    """A run of the function, whose result is wanted until it is invalidated."""

    is_wanted: bool


class Result:
    """A result as it is stored; each who asks gets a value of its own."""

    def __init__(self, data: bytes, loads: Callable[[bytes], Any], *decoded: Any) -> None:
        self.data = data
        self._loads = loads
        self._decoded = list(decoded)

    def value(self) -> Any:
        """Return the value as the codec gives it back."""
        try:
            return self._decoded.pop()
        except IndexError:
            return self._loads(self.data)


class Remembered:
    """The results of one function, below a prefix of a namespace."""

    def __init__(
        self,
        namespace: KVNamespace[Any],
        name: str,
        prefix: str,
        expiration_ttl: Seconds | None,
        on_error: OnError,
    ) -> None:
        namespace._check_writable()
        if not prefix:
            raise ConfigError(
                f"{name}: memoize needs a prefix of its own: all below is its results"
            )
        check_prefix(prefix)
        self.name = name
        self.prefix = namespace.prefix + prefix
        self._codec = namespace.codec
        self._kv = namespace.prefixed(prefix).using("bytes")
        self._raises = on_error == "raise"
        self._ttl = _seconds(expiration_ttl, name)
        self._has_deadline = "metadata" in lasting(self._ttl, 0.0)
        self.hits = self.misses = self.errors = 0
        self._complaints = Complaints()
        if len(self.prefix.encode()) + HASH_SIZE > MAX_KEY_BYTES:
            raise LimitError(
                f"{name}: the prefix {shorten(self.prefix)} leaves less than {HASH_SIZE} of the"
                f" {MAX_KEY_BYTES} bytes of a key; give memoize a shorter prefix="
            )

    def at_hand(self, key: str) -> Result | None:
        """Return the result if that needs no request."""
        reads = self._kv._backing.reads
        known = reads.at_hand(self.prefix + key, details=self._has_deadline)
        result = self._result(key, known.entry(self._kv._backing.clock)) if known else None
        if result is not None:
            self.hits += 1
        return result

    def find(self, key: str) -> Result | None:
        """Return the result, None if there is none, within 2 s: 1 request."""
        result = self._guarded(partial(self._find, key))
        if result is None:
            self.misses += 1
        else:
            self.hits += 1
        return result

    def made(self, key: str, value: Any) -> Result:
        """Return what the function made; CodecError or LimitError if it cannot be stored."""
        full = self.prefix + key
        named = key or full  # without arguments there is only the prefix to name
        try:
            data = encode(self._codec, named, value)
            check_value(named, data)
        except (CodecError, LimitError) as error:
            kind = type(error)
            advice = "; kv.using('json').memoize(...) remembers None" if value is None else ""
            raise kind(f"{self.name}: its result cannot be remembered: {error}{advice}") from error
        return Result(data, partial(decode, self._codec, full))

    def keep(self, key: str, result: Result, run: Run) -> None:
        """Store a result if it is still wanted, within 2 s: 1 request, or a part of one later."""
        self._guarded(partial(self._keep, key, result.data, run))

    def forget(self, key: str) -> None:
        """Forget one result: 1 request, or a part of one later."""
        self._kv.delete(key)

    def clear(self) -> None:
        """Forget all results: n / 1000 + n / 10,000 requests."""
        self._kv.clear()

    def _find(self, key: str) -> Result | None:
        reads = self._kv._backing.reads
        return self._result(key, reads.soon(self.prefix + key, details=self._has_deadline))

    def _result(self, key: str, entry: Entry[bytes] | None) -> Result | None:
        """Return what is stored, unless it is over, or an older form that is no longer read."""
        now = self._kv._backing.clock.now()
        if entry is None or (self._has_deadline and is_over(entry.metadata, now)):
            return None
        loads = partial(decode, self._codec, self.prefix + key)
        try:
            return Result(entry.value, loads, loads(entry.value))
        except CodecError as error:
            self._count(error)
            return None

    def _keep(self, key: str, data: bytes, run: Run) -> None:
        backing = self._kv._backing
        write = self._kv._write(key, data, **lasting(self._ttl, backing.clock.now()))

        def decide(_seen: None) -> Write | Decision:
            return write if run.is_wanted else Decision.LEAVE

        store = partial(backing.writes.modify, write.key, _do_not_look, decide)
        try:
            backing.reads.without_delay(store, needs_service=backing.buffer.write_through)
        except FlushError as error:  # speaks of others' writes, and to them
            if not self._raises:
                backing.flusher.outcomes.tell_again(error)
            raise

    def _guarded(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except OF_THE_PROGRAM:
            raise
        except KVError as error:
            if self._raises:
                raise
            self._count(error)
            return None

    def _count(self, error: KVError) -> None:
        self.errors += 1
        said = f"a result of {self.name} is not taken from KV, or not kept there"
        self._complaints.say(said, error)


def _do_not_look(_key: str) -> None:
    """Decide without a read."""


def _seconds(ttl: Seconds | None, name: str) -> float | None:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if seconds is not None and (isinstance(seconds, bool) or not 0 < seconds <= MAX_EXPIRATION):
        raise LimitError(f"{name}: expiration_ttl is {ttl!r}, expected seconds, more than 0")
    return seconds
