"""Auth: who may ask, and how others are turned away."""

from __future__ import annotations

import hmac
import ipaddress
import re
from urllib.parse import urlsplit
from wsgiref.types import WSGIEnvironment

from kvdict.emulator.refusals import Refusal

_is_bearer = re.compile(r"Bearer [A-Za-z0-9._~+/=-]+", re.IGNORECASE).fullmatch


def check_token(environ: WSGIEnvironment, token: str) -> None:
    """Refuse a request that does not bear the token."""
    given: str | None = environ.get("HTTP_AUTHORIZATION")
    if given is None:
        raise _without_bearer(environ)
    expected = f"Bearer {token}".encode()
    if hmac.compare_digest(given.encode("latin-1", "replace"), expected):
        return
    if not _is_bearer(given):
        chain = [{"code": 6111, "message": "Invalid format for Authorization header"}]
        raise Refusal(400, 6003, "Invalid request headers", error_chain=chain)
    if not hmac.compare_digest(given[7:].encode(), token.encode()):
        raise Refusal(401, 10000, "Authentication error")


def check_visitor(environ: WSGIEnvironment) -> None:
    """Refuse what a web page has its reader's browser send; who asks for a token need not.

    A page may post to any local port, and read the answers if a name of its own leads there.
    """
    origin = environ.get("HTTP_ORIGIN")
    is_foreign = origin is not None and not is_loopback(_host_of(origin))
    if is_foreign or environ.get("HTTP_SEC_FETCH_SITE") == "cross-site":  # an image has no origin
        text = "Web pages of other hosts may not ask an emulator that has no --token"
        raise Refusal(403, 10000, text)
    host = environ.get("HTTP_HOST")
    is_private = is_loopback(environ.get("SERVER_NAME", ""))
    if is_private and host is not None and not is_loopback(_host_of(f"//{host}")):
        text = "This emulator is localhost; start it with --token, or --host, for other names"
        raise Refusal(403, 10000, text)


def is_loopback(host: str) -> bool:
    """Tell whether the name or address is this machine's own, of no use to others."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return f".{host.rstrip('.')}".endswith(".localhost")


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _without_bearer(environ: WSGIEnvironment) -> Refusal:
    """Return the answer to a request with a global key, which only the service has, or nothing."""
    if "HTTP_X_AUTH_KEY" in environ and "HTTP_X_AUTH_EMAIL" in environ:
        return Refusal(403, 9103, "Unknown X-Auth-Key or X-Auth-Email")
    text = "Missing X-Auth-Key, X-Auth-Email or Authorization headers"
    return Refusal(400, 9106, text)
