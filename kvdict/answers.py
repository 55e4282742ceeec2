"""What an answer of the service means: a result, or which error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kvdict.clock import epoch_of
from kvdict.errors import (
    APIError,
    AuthError,
    KVError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    ServerError,
    TransportError,
)

KEY_NOT_FOUND = 10009
NAMESPACE_NOT_FOUND = 10013
TITLE_EXISTS = 10014
NOT_TEXT = 10029
DAILY_QUOTA = 10048
GATEWAY_TIMEOUTS = {504, 524}
"""Statuses of one who waited in vain for the service, which may still be at it."""
AUTH_CODES = {6003, 7001, 9103, 9106, 9109, 10000, 10031, 10037, 10405}
"""Codes that speak of the token, whatever status they come with; 7001 is "method not available":
the methods sent here are right, and a token without the scope gets the same answer."""
LONGEST_WAIT = 86_400.0
"""Seconds: what a `Retry-After` beyond a day is taken for."""
MOST_ERRORS = 10
LONGEST_TEXT = 500
"""Characters of each that an error repeats of what the service said."""
LARGEST_CODE = 1_000_000
NO_ROUTE_CODES = {7000, 7003}
NOT_FOUND_CODES = {KEY_NOT_FOUND, NAMESPACE_NOT_FOUND}

PERMISSION_HELP = (
    'the token needs the permission "Workers KV Storage: Edit" (Read, if it only reads) for this'
    " account; make one in Cloudflare's dashboard under My Profile, API Tokens, and put it into"
    " CLOUDFLARE_API_TOKEN"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its status, headers and body, and the request it answers.

    `secret` is the token that was sent: an echo of it does not get into an error.
    """

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    data: bytes = field(repr=False)
    secret: str = field(default="", repr=False)

    def envelope(self) -> dict[str, Any]:
        """Return the JSON envelope of a success; raise what it says or lacks."""
        envelope = self._parse()
        if envelope is None or "success" not in envelope:
            raise self.unexpected()
        if envelope["success"] is not True:
            raise self._refused(envelope)
        return envelope

    @property
    def is_html(self) -> bool:
        """Tell whether it is a page of a proxy or a login: the API sends values as bytes."""
        return self.headers.get("Content-Type", "").lower().startswith("text/html")

    def unexpected(self) -> APIError:
        """Return the error for an answer that is not of the API's form."""
        return self._error(
            APIError,
            f"the answer is not of the API's form: {self._excerpt()}; is the base URL right, and"
            " is no proxy or login page between?",
        )

    def refusal(self) -> KVError | None:
        """Return the error that the status means, None for a success."""
        if 200 <= self.status < 300:
            return None
        if 300 <= self.status < 400:
            return self._error(APIError, "the answer is a redirect, which is not followed: is the"
                               " base URL right?")  # fmt: skip
        return self._refused(self._parse() or {})

    @property
    def retry_after(self) -> float | None:
        """Return the seconds that `Retry-After` asks for, None without one that can be read."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isdecimal():
            return min(float(text), LONGEST_WAIT)
        until, sent = epoch_of(text), epoch_of(self.headers.get("Date", ""))
        return None if until is None or sent is None else min(max(0.0, until - sent), LONGEST_WAIT)

    def _parse(self) -> dict[str, Any] | None:
        try:
            envelope = json.loads(self.data)
        except (ValueError, RecursionError):
            return None
        return envelope if isinstance(envelope, dict) else None

    def _refused(self, envelope: Mapping[str, Any]) -> APIError:
        errors = [(code, printable(self._masked(text))) for code, text in _errors(envelope)]
        errors = errors or self._plainly_missing(envelope)
        codes = {code for code, _ in errors}
        kind = self._kind(codes)
        said = "; ".join(f"{text} (code {code})" for code, text in errors) or self._excerpt()
        error = self._error(kind, said + self._advice(kind, codes), errors)
        error.retry_after = self.retry_after
        return error

    def _plainly_missing(self, envelope: Mapping[str, Any]) -> list[tuple[int, str]]:
        """Take a 404 without words for a missing key, as was seen once; HTML speaks of a proxy."""
        about_a_key = "/values/" in self.path or "/metadata/" in self.path
        if self.status == 404 and about_a_key and (envelope or not self.data):
            return [(KEY_NOT_FOUND, "key not found")]
        return []

    def _kind(self, codes: set[int]) -> type[APIError]:
        if DAILY_QUOTA in codes:
            return QuotaError
        if self.status == 429:
            return RateLimitError
        if self.status >= 500:
            return ServerError
        if self.status in {401, 403} or codes & AUTH_CODES:
            return AuthError
        if self.status == 404 or codes & NOT_FOUND_CODES:
            return NotFoundError
        return APIError

    def _advice(self, kind: type[APIError], codes: set[int]) -> str:
        if kind is AuthError and self.status == 405 and self._writes():
            return "; the token may read here but not write: " + PERMISSION_HELP
        if kind is AuthError and not codes:
            return (
                "; that is not the API's form of a refusal: a proxy or a firewall between may have"
                " answered; if none did, look at the account id and the token: " + PERMISSION_HELP
            )
        if kind is AuthError:
            return "; look at the account id and the token: " + PERMISSION_HELP
        if kind is QuotaError:
            return "; the free plan's share is renewed at 00:00 UTC, trying earlier is of no use"
        if NAMESPACE_NOT_FOUND in codes:
            return "; look at the namespace's id: kvdict.Account() lists what there is"
        if NO_ROUTE_CODES & codes:
            return "; look at the account id, and at the base URL, which ends in /client/v4"
        return ""

    def _writes(self) -> bool:
        return self.method != "GET" and not self.path.endswith("/bulk/get")

    def _error(
        self, kind: type[APIError], text: str, errors: list[tuple[int, str]] | None = None
    ) -> APIError:
        ray = printable(self._masked(self.headers.get("cf-ray", "")))
        return kind(
            f"{self.method} {self.path}: {self.status}: {text}",
            status=self.status,
            errors=errors or (),
            method=self.method,
            path=self.path,
            ray=ray,
        )

    def _excerpt(self) -> str:
        if not self.data:
            return "an empty body"
        masked = self.data.replace(self.secret.encode(), b"***") if self.secret else self.data
        return repr(masked[:480].decode("utf-8", "replace")[:120])

    def _masked(self, text: str) -> str:
        return text.replace(self.secret, "***") if self.secret else text


def _errors(envelope: Mapping[str, Any]) -> list[tuple[int, str]]:
    told = envelope.get("errors")
    found = []
    for error in told[:MOST_ERRORS] if isinstance(told, list) else ():
        if isinstance(error, dict):
            code, text = error.get("code"), error.get("message")
            number = code if isinstance(code, int) and abs(code) < LARGEST_CODE else 0
            found.append((number, text if isinstance(text, str) else "no message"))
    return found


def printable(text: str) -> str:
    """Return the text as a line of a log or a terminal can bear it, shortened."""
    cut = text[:LONGEST_TEXT]
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in cut)
    return shown if len(text) <= LONGEST_TEXT else f"{shown}..."


def may_pass(error: Exception) -> bool:
    """Tell whether trying the same again later may help."""
    if isinstance(error, TransportError):
        return error.transient
    if isinstance(error, QuotaError):
        return False
    return isinstance(error, APIError) and (error.status in {408, 429} or error.status >= 500)


def too_much(error: Exception) -> bool:
    """Tell whether less in one request may help: 413, a timeout, ours or a gateway's."""
    if isinstance(error, TransportError):
        return error.timed_out
    return isinstance(error, APIError) and error.status in {413, *GATEWAY_TIMEOUTS}
