"""Every error of kvdict.

A missing key is a plain `KeyError(key)`, as in a dict; all else is below one root::

    KVError
    ├── APIError            Cloudflare said no: status, errors, method, path, ray
    │   ├── AuthError         the token, or what it may do
    │   ├── NotFoundError     the namespace (at client level also a key)
    │   ├── RateLimitError    429 for longer than max_wait
    │   │   └── QuotaError    the free plan's daily share is used up
    │   └── ServerError       5xx for longer than max_wait
    ├── TransportError      no answer: connection, TLS, timeout
    ├── LimitError          key, value, metadata or expiry outside Cloudflare's limits
    ├── CodecError          a value cannot be encoded or decoded
    ├── ConfigError         nothing to open, no token, unknown scheme or option
    ├── ClosedError         used after close
    ├── ReadOnlyError       a write through a read-only namespace
    ├── ShelveError         a shelf cannot be opened or imported as asked
    ├── JournalError        the journal is locked, of another namespace, or damaged
    ├── BufferFullError     no room for one more pending write: it was not accepted
    ├── TransferError       a file cannot be imported, or a transfer not gone on with
    └── FlushError          some writes are not stored: which, and why

`KVError.keys` holds the keys of a bulk call whose writes are not known to be stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class KVError(Exception):
    """The root: `except kvdict.KVError` catches all that kvdict raises on its own."""

    keys: tuple[str, ...] = ()
    """After a bulk call: the keys that were read from the caller and are not known to be stored."""

    def say_more(self, text: str, keys: tuple[str, ...]) -> None:
        """Add to the message, and name the keys of a bulk call that are not known to be stored."""
        self.args = (f"{self}; {text}",)
        self.keys = keys

    def __str__(self) -> str:
        """Return the message alone, whatever builtin error the class also is."""
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the attributes: the arguments of the kinds differ."""
        return (_rebuild, (type(self), str(self), self.__dict__.copy()))


class APIError(KVError):
    """Cloudflare refused the request; look at `status`, `errors` and the message.

    `errors` is a tuple of (code, message); `ray` is what Cloudflare's support asks for;
    `retry_after` is the seconds after which the service wants to be asked again, if it said so.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        errors: Sequence[tuple[int, str]] = (),
        method: str = "",
        path: str = "",
        ray: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.errors = tuple(errors)
        self.method = method
        self.path = path
        self.ray = ray
        self.retry_after: float | None = None

    @property
    def code(self) -> int | None:
        """Cloudflare's code of the first error, None if the answer held none."""
        return self.errors[0][0] if self.errors else None


class AuthError(APIError, PermissionError):
    """The token is missing, wrong, or lacks a permission: the message says which.

    Make a token with "Workers KV Storage: Edit" (or Read) in the dashboard under My Profile,
    API Tokens, and put it into CLOUDFLARE_API_TOKEN.
    """


class NotFoundError(APIError, LookupError):
    """There is no such namespace: look at its title, or pass `create=True` to `kvdict.open`.

    `Client.get_value` and `Client.get_metadata` raise it for a missing key too.
    """


class RateLimitError(APIError):
    """No allowance for longer than `max_wait`: wait `retry_after` seconds, or raise `max_wait`."""


class QuotaError(RateLimitError):
    """The free plan's daily share of this operation is used up: it is renewed at 00:00 UTC."""


class ServerError(APIError):
    """Cloudflare had trouble (5xx) for longer than `max_wait`: try again later."""


class TransportError(KVError, ConnectionError):
    """No usable answer came: look at the network, the base URL and the proxy settings.

    The outcome of a write is unknown then. `timed_out` tells a timeout from a lost connection,
    `transient` whether the same may succeed later.
    """

    def __init__(self, message: str, *, timed_out: bool = False, transient: bool = True) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.transient = transient


class LimitError(KVError, ValueError):
    """A key, value, metadata or expiry is outside Cloudflare's limits; it was not sent."""


class CodecError(KVError, ValueError, TypeError):
    """A value cannot be encoded or decoded; nothing is lost: `kv.using("bytes")` reads any."""


class ConfigError(KVError, ValueError):
    """There is nothing to open, or an option is wrong: the message says what is understood."""


class ClosedError(KVError, ValueError):
    """The namespace was closed: open it again."""


class ReadOnlyError(KVError, ValueError):
    """The namespace was opened with `readonly=True`; nothing was sent."""


class JournalError(KVError, OSError):
    """The journal cannot be used: the message names the file and says what to do.

    `path` is the file, `pid` the living process that owns it, if that is the reason.
    """

    def __init__(self, message: str, *, path: str = "", pid: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.pid = pid


class ShelveError(KVError, OSError):
    """The shelf cannot be opened or imported as asked; the message says what to do.

    It is an OSError because programs with a shelf catch `dbm.error`, which holds that.
    """


class BufferFullError(KVError, TimeoutError):
    """The service takes writes more slowly than they come, for longer than `put_timeout`.

    This write was not accepted. Write more slowly, or raise `max_pending`.
    """


class TransferError(KVError, ValueError):
    """A file holds something that cannot be imported, or does not fit what is to be gone on with.

    `line` and `key` say where, as far as they are known. Mend the file, or pass
    `skip_invalid=True` to leave such pairs out.
    """

    def __init__(self, message: str, *, line: int | None = None, key: str | None = None) -> None:
        super().__init__(message)
        self.line = line
        self.key = key


class FlushError(KVError):
    """Some writes are not stored.

    `pending` counts those that are still to be sent; `failed` maps each key that the service
    refused to its reason.
    """

    def __init__(self, message: str, *, pending: int = 0, failed: Mapping[str, str] | None = None):
        super().__init__(message)
        self.pending = pending
        self.failed = dict(failed or {})
        self.keys = tuple(self.failed)


def _rebuild(kind: type[KVError], message: str, state: dict[str, object]) -> KVError:
    error = kind(message)
    error.__dict__.update(state)
    return error
