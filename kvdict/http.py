"""HTTP as requests and urllib3 do it, where they do too much, too little, or raise their own."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPResponse, IncompleteRead
from queue import Empty
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy

from kvdict.errors import TransportError
from kvdict.secret import bare

SLOWEST = 10_000
"""Bytes a second: an answer that comes slower than this on the whole counts as stalled."""
CHUNK = 64 * 1024
ANY_HEADER = 32 + zlib.MAX_WBITS
"""What tells zlib to find out whether it is gzip or deflate."""

TIMEOUTS = requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError
UNCONNECTED = (
    requests.ConnectTimeout,
    urllib3.exceptions.ConnectTimeoutError,
    urllib3.exceptions.NewConnectionError,
)
"""Nothing was sent: a smaller request would not help, the same one later may."""


class OneHostAdapter(HTTPAdapter):
    """Finds out once for its base URL what requests finds out anew for each request.

    Host, proxy and certificates stay the same; looking them up took a sixth of a get's time.
    """

    _pool: urllib3.HTTPConnectionPool | None = None
    _origin = ""

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> urllib3.HTTPConnectionPool:
        """Return the pool that the first request made."""
        pool = self._pool
        if pool is None:
            url = str(request.url)
            pool = super().get_connection_with_tls_context(request, verify, proxies, cert)
            super().cert_verify(pool, url, verify, cert)
            if not select_proxy(url, proxies):
                parts = urlsplit(url)
                self._origin = f"{parts.scheme}://{parts.netloc}"
            self._pool = pool
        return pool

    def cert_verify(self, *_: Any) -> None:
        """Do nothing: the pool got its certificates when it was made."""

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        """Return what follows the origin, where no proxy is between."""
        if self._origin:
            return str(request.url)[len(self._origin) :]
        return super().request_url(request, proxies)

    def close(self) -> None:
        """Close the connections; the next request makes a new pool."""
        pool, self._pool = self._pool, None
        if pool is not None:
            _close_idle(pool)  # urllib3 does so itself, but not behind the exit handlers
        super().close()


def _close_idle(pool: urllib3.HTTPConnectionPool) -> None:
    """Close the connections that wait in the pool: others are in use, and in a closed one fail."""
    with suppress(Empty):
        while pool.pool is not None:
            connection = pool.pool.get(block=False)
            if connection is not None:
                connection.close()


def read_body(
    response: requests.Response, most: int, stall: float, clock: Callable[[], float]
) -> bytes:
    """Read the body of `most` bytes at most, with a deadline that grows with its bytes."""
    started = clock()
    chunks = []
    size = 0
    for chunk in _decoded(response):
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            raise ValueError(f"the answer has more than {most} bytes")
        if clock() - started > stall + size / SLOWEST:
            raise TimeoutError(f"only {size} bytes came")
    return b"".join(chunks)


def lost(what: str, base_url: str | None, cause: Exception) -> TransportError:
    """Return our error for a request that got no usable answer, whatever was raised.

    `base_url` is None where no network is between. What caused the cause is taken off its chain:
    the message holds the root, and a traceback would print each of them above it.
    """
    bare(cause)
    foreseen = isinstance(cause, requests.RequestException | urllib3.exceptions.HTTPError | OSError)
    timed_out = _is_caused_by(cause, *TIMEOUTS) and not _is_caused_by(cause, *UNCONNECTED)
    breaks_off = _is_caused_by(cause, IncompleteRead)
    said = _root(cause) if foreseen else str(cause) or type(cause).__name__
    # http.client finds where a body breaks off by what it cannot read as a number.
    transient = foreseen and (breaks_off or not _is_caused_by(cause, ValueError))
    cause.__cause__ = cause.__context__ = None
    advice = f"is {base_url} right, and to be reached from here (network, proxy settings)?"
    return TransportError(
        f"{what}: {'timed out' if timed_out else 'no answer'}: {said}; {advice}"
        if base_url
        else f"{what}: {said}",
        timed_out=timed_out,
        transient=transient,
    )


def _decoded(response: requests.Response) -> Iterator[bytes]:
    """Yield the body without its compression; urllib3 takes one that breaks off for whole."""
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding in {"", "identity"}:
        yield from _pieces(response)
        return
    if coding not in {"gzip", "x-gzip", "deflate"}:
        raise ValueError(f"the answer is encoded as {coding}, which was not asked for")
    unpacked = zlib.decompressobj(ANY_HEADER)
    for piece in _pieces(response):
        while piece:
            if unpacked.eof:  # gzip may come in several parts, one behind the other
                unpacked = zlib.decompressobj(ANY_HEADER)
            yield unpacked.decompress(piece, CHUNK)
            piece = unpacked.unconsumed_tail or unpacked.unused_data
    if not unpacked.eof:
        raise ConnectionError("the answer breaks off inside its compression")


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it comes: iter_content would wait for a whole chunk, however long."""
    raw = response.raw
    if not isinstance(raw, urllib3.HTTPResponse):
        return response.iter_content(CHUNK)
    if _may_be_cut(raw):
        raise ConnectionError("the answer breaks off in its headers")
    return iter(lambda: raw.read1(CHUNK, decode_content=False) or b"", b"")


def _may_be_cut(raw: urllib3.HTTPResponse) -> bool:
    """Tell whether the end of the headers is missing: http.client takes the lost rest for empty.

    A body that ends with its connection says so, or speaks HTTP/1.0.
    """
    original = getattr(raw, "_original_response", None)
    return (
        isinstance(original, HTTPResponse)
        and original.version == 11
        and raw.length_remaining is None
        and not raw.chunked
        and "close" not in raw.headers.get("Connection", "").lower()
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and what caused it, what urllib3 wraps as arguments included."""
    yield error
    inner = [argument for argument in error.args if isinstance(argument, BaseException)]
    inner += [link for link in (error.__cause__ or error.__context__,) if link]
    for link in inner:
        yield from _causes(link)


def _is_caused_by(error: BaseException, *kinds: type[BaseException]) -> bool:
    return any(isinstance(link, kinds) for link in _causes(error))


def _root(error: BaseException) -> str:
    """Return what the first cause says: what is wrapped round it only repeats the URL."""
    links = [*_causes(error)]
    root = next((link for link in links if isinstance(link, IncompleteRead)), links[-1])
    return str(root) or type(root).__name__
