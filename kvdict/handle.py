"""`Handle`: one opening of a namespace, which knows what it opened and whether it is closed."""

from __future__ import annotations

import warnings
import weakref
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from kvdict.backing import Backing
from kvdict.budget import RateBudget
from kvdict.buffer import WriteBuffer
from kvdict.cache import ReadCache
from kvdict.client import Client
from kvdict.codecs import Codec, codec_name
from kvdict.errors import ClosedError, FlushError, ReadOnlyError
from kvdict.keyspace import Keyspace
from kvdict.limits import check_ttl
from kvdict.models import FlushResult
from kvdict.views import Waiting
from kvdict.writes import Seconds

V = TypeVar("V")


class Handle(Generic[V]):
    """What `KVNamespace` is beside its pairs: open or closed, a name, and parts to look at.

    Views are handles of the same backing; the one that is no view closes it. For the rest of the
    package: `_backing` takes full keys and raw entries, and is a ClosedError after `close`, where
    `_unchecked_backing` still tells what it was; `_space` makes full keys of the mapping's and
    back; `_check_writable` is asked before anything is sent.
    """

    def __init__(
        self,
        backing: Backing,
        codec: Codec[V],
        *,
        prefix: str = "",
        expiration_ttl: Seconds | None = None,
        readonly: bool = False,
        is_view: bool = False,
    ) -> None:
        if expiration_ttl is not None:
            check_ttl(expiration_ttl, "the namespace's default")
        self.codec = codec
        self.expiration_ttl = expiration_ttl
        self.readonly = readonly
        self._space = Keyspace(prefix)
        self._unchecked_backing = backing
        self._closed = False
        self._is_view = is_view
        self._waiting = Waiting()
        if not is_view:
            # The backing, which views and iterators hold as well: who has a view can still flush.
            dropped = weakref.finalize(backing, _warn_of_pending, backing.buffer, repr(self))
            dropped.atexit = False  # then the exit handler flushes
            self._dropped = dropped

    def flush(self, timeout: float = 60) -> FlushResult:
        """Send all writes accepted before this call; a request ten thousand.

        Raises FlushError at the timeout (seconds), or where only a person can help: what is
        pending then stays pending, and the next flush may succeed.
        """
        return self._backing.flush(timeout)

    def close(self, timeout: float = 60) -> None:
        """Flush and close, a view without its parent; closing twice is allowed.

        After a FlushError the namespace is still open.
        """
        if self._closed:
            return
        if self._is_view:
            self._unchecked_backing.flush(timeout)
        else:
            self._unchecked_backing.close(timeout)
            self._dropped.detach()
        self._closed = True

    def __enter__(self) -> Self:
        """Return the namespace, flushed and closed at the end of the block."""
        self._check_open()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Flush and close; an exception passes on, with what was not sent as its note."""
        try:
            self.close()
        except FlushError as unsent:
            if error is None:
                raise
            error.add_note(f"kvdict: {unsent}")

    def stats(self) -> dict[str, float]:
        """Return counts since the home was opened, and what is on its way."""
        return self._unchecked_backing.stats()

    @property
    def buffer(self) -> WriteBuffer:
        """The buffer: its options, and what is on its way."""
        return self._unchecked_backing.buffer

    @property
    def cache(self) -> ReadCache | None:
        """The cache: its options, and `clear`; None without one."""
        return self._unchecked_backing.reads.cache

    @property
    def prefix(self) -> str:
        """The prefix before every key, empty for the whole namespace."""
        return self._space.prefix

    @property
    def client(self) -> Client:
        """The client: one method per operation of the API."""
        return self._unchecked_backing.client

    @property
    def budget(self) -> RateBudget:
        """What is left of the request allowance."""
        return self.client.transport.budget

    @property
    def id(self) -> str:
        """The namespace's id."""
        return self._unchecked_backing.id

    @property
    def title(self) -> str:
        """The namespace's title: 1 request at first if it was opened by id."""
        return self._backing.title

    def __repr__(self) -> str:
        """Return how it was opened, without a request and without a secret."""
        extras = f", prefix={self.prefix!r}" if self.prefix else ""
        extras += ", readonly=True" if self.readonly else ""
        address = self._unchecked_backing.address
        return f"<KVNamespace {address!r} codec={codec_name(self.codec)}{extras}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle how to open it again; the token is taken from the environment then.

        A buffer and a cache are made anew, of the same kind with the default options: whether
        writes are sent at once, and whether reads are cached.
        """
        backing = self._unchecked_backing
        home = backing.home
        if home.reopen is None:
            raise TypeError(f"{self!r} lives in this process alone; name it: memory://NAME")
        reopen = partial(
            home.reopen,
            **home.options,
            codec=self.codec,
            buffer=not backing.buffer.write_through,
            cache=self.cache is not None,
            read_ahead=backing.reads_ahead,
            prefix=self.prefix,
            expiration_ttl=self.expiration_ttl,
            readonly=self.readonly,
        )
        return reopen, (backing.address,)

    @property
    def _backing(self) -> Backing:
        backing = self._unchecked_backing
        if self._closed or backing.closed:
            self._check_open()
        return backing

    def _check_open(self) -> None:
        if self._closed or self._unchecked_backing.closed:
            raise ClosedError(f"{self!r} is closed; open it again")

    def _check_writable(self) -> None:
        if self.readonly:
            raise ReadOnlyError(f"{self!r} was opened with readonly=True; nothing was sent")


def _warn_of_pending(buffer: WriteBuffer, name: str) -> None:
    pending = buffer.waiting
    if pending:
        warnings.warn(
            f"{name} was dropped with {pending} write{'s' if pending > 1 else ''} pending; they"
            " are still sent, but close it, or use it in a with block",
            ResourceWarning,
            stacklevel=2,
        )
