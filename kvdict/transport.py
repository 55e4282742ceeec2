"""One session to the service: auth, timeouts, retries, pacing, and no foreign exception."""

from __future__ import annotations

import io
import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from math import ceil
from typing import Any

import requests
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from kvdict.answers import NAMESPACE_NOT_FOUND, Answer, may_pass, too_much
from kvdict.budget import MOST_IN_FLIGHT, RateBudget, shared_budgets
from kvdict.clock import ServiceClock, steady_wall
from kvdict.errors import (
    AuthError,
    KVError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TransportError,
)
from kvdict.forks import renew_in_children
from kvdict.http import OneHostAdapter, lost, read_body
from kvdict.secret import Secret, check_token
from kvdict.version import __version__

BASE_URL = "https://api.cloudflare.com/client/v4"
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 60.0
BULK_READ_TIMEOUT = 120.0
"""Seconds, longer than the 100 after which Cloudflare's gateway itself answers 524."""
MAX_ANSWER = 32_000_000
"""Bytes: a value of 25 MiB; ten thousand keys, each byte written as a JSON escape."""
MAX_BULK_ANSWER = 200_000_000
"""Bytes: a bulk get of 25 MB, each byte written as a JSON escape, with metadata beside it."""
SENT_AS_FILE = 64 * 1024
"""Bytes: the connect timeout bounds the upload of a bytes body as a whole, of a file by block."""
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 30.0
NEWBORN = 10.0
"""Seconds for which "namespace not found" is not believed of one that was just created."""
PATIENCE = 5.0
"""Seconds of trying after which a person who waits is told what is going on."""
REMINDER = 60.0
"""Seconds after which that person is told again."""
USER_AGENT = f"kvdict/{__version__}"

log = logging.getLogger("kvdict")

TokenSource = str | Callable[[], str] | None
Timeout = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `query` and `body` are asked again for each attempt if they are callable.

    Without `retry_lost` a 413, 504, 524 or a timeout is the caller's at once, who halves the work,
    or minds that the service may still be at it. An answer has `most` bytes at most.
    """

    method: str
    path: str
    query: str | Callable[[], str] = ""
    body: bytes | Callable[[], bytes] | None = None
    content_type: str = "application/json"
    read_timeout: float | None = None
    idempotent: bool = True
    retry_lost: bool = True
    most: int = MAX_ANSWER


class Transport:
    """Sends requests and returns answers that are successes; raises kvdict's errors.

    An attempt that may succeed later (no answer, 408, 429, 5xx) is made again, with backoff,
    until `max_wait` seconds are spent on it and on waiting for allowance together. Times are
    seconds. `requests` and `retries` count what was sent.

    For who waits at a terminal: `allowance_wait` seconds may be spent on waiting for allowance
    besides, and no answer is waited for longer than `longest_timeout`.
    """

    def __init__(
        self,
        base_url: str = BASE_URL,
        token: TokenSource = None,
        *,
        adapter: BaseAdapter | None = None,
        max_wait: float = 300.0,
        timeout: Timeout = (CONNECT_TIMEOUT, READ_TIMEOUT),
        budget: RateBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = steady_wall,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if isinstance(token, str):
            token = Secret(token)  # else a traceback with locals would show the plain one
        self.base_url = base_url.rstrip("/")
        self.max_wait = max_wait
        self.timeout = timeout
        self.longest_timeout = BULK_READ_TIMEOUT
        self.allowance_wait = 0.0
        self.clock = ServiceClock(wall)
        self.requests = 0
        self.retries = 0
        self._token = token if callable(token) or token is None else check_token(token, "token")
        self.metered = adapter is None
        self.budget = budget or self._find_budget()
        self._adapter = adapter
        self._monotonic = clock
        self._sleep = sleep
        self._jitter = jitter
        self._lock = threading.RLock()  # a signal handler may send a request too
        self._newborn: dict[str, float] = {}
        self._silent_since: float | None = None
        self._connect()
        renew_in_children(self)

    def send(self, request: Request, max_wait: float | None = None) -> Answer:
        """Send the request, again where that may help; return a success or raise.

        `max_wait` stands in for the transport's own.
        """
        started = self._monotonic()
        deadline = started + (self.max_wait if max_wait is None else max_wait)
        spare = self.allowance_wait
        renewed = False
        told_at = started
        for attempt in count():
            waited, outcome = self._try(request, deadline + spare)
            waited = min(waited, spare)
            deadline, spare = deadline + waited, spare - waited
            if isinstance(outcome, Answer):
                return outcome
            if self._asks_for_new_token(outcome) and not renewed:
                renewed = True
                continue
            delay = self._delay_before_retry(request, outcome, attempt)
            allowance = 0.0
            if delay and spare and isinstance(outcome, RateLimitError):
                allowance, delay = delay, 0.0  # the budget is blocked for so long
            if delay is None or self._monotonic() + delay > deadline:
                try:
                    raise outcome
                finally:  # else the error and this frame hold each other, and all callers' values
                    del outcome
            now = self._monotonic()
            is_time = now + delay - told_at >= (PATIENCE if told_at == started else REMINDER)
            told_at = now if is_time else told_at
            level = logging.WARNING if is_time else logging.INFO
            if allowance:
                log.log(level, "%s; waiting %d s for more allowance", outcome, ceil(allowance))
            else:
                log.log(level, "%s; trying again for up to %.0f s", outcome, deadline - now)
            with self._lock:
                self.retries += 1
            self._sleep(delay)
        raise AssertionError("unreachable")  # pragma: no cover - count() has no end

    def is_too_much(self, error: KVError) -> bool:
        """Tell whether less in one request may help: not after `max_wait` without any answer."""
        since = self._silent_since
        is_silent = since is not None and self._monotonic() - since >= self.max_wait
        return too_much(error) and not is_silent

    def deadline(self) -> float:
        """Return until when work that starts now may be tried again."""
        return self._monotonic() + self.max_wait

    def back_off(self, attempt: int, deadline: float) -> bool:
        """Wait before the work's next attempt; False at once if that would pass the deadline."""
        delay = self._backoff(attempt)
        if self._monotonic() + delay > deadline:
            return False
        self._sleep(delay)
        return True

    def pause(self, seconds: float) -> None:
        """Let time pass, by the clock that the transport goes by."""
        self._sleep(seconds)

    def expect_newborn(self, namespace_id: str) -> None:
        """Not believe "namespace not found" of this one for a while: it was just created."""
        self._newborn[namespace_id] = self._monotonic() + NEWBORN

    def expect_gone(self, namespace_id: str) -> None:
        """Believe "namespace not found" of this one: it was just deleted."""
        self._newborn.pop(namespace_id, None)

    def start_again(self) -> None:
        """Take connections and locks of its own in a forked child."""
        self._lock = threading.RLock()
        self.budget.start_again()
        self._connect()

    def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        self._session.close()

    def _find_budget(self) -> RateBudget:
        return shared_budgets.find(self.base_url, self._token) if self.metered else RateBudget()

    def _connect(self) -> None:
        """Make the session, and merge the environment's proxies and certificates into it once."""
        self._session = requests.Session()
        adapter = self._adapter or OneHostAdapter(pool_maxsize=MOST_IN_FLIGHT, max_retries=0)
        self._session.mount(self.base_url, adapter)
        self._settings: dict[str, Any] = {}
        if self.metered:
            merge = self._session.merge_environment_settings
            self._settings = dict(merge(self.base_url, {}, True, None, None))
            self._settings.pop("stream", None)

    def _try(self, request: Request, deadline: float) -> tuple[float, Answer | KVError]:
        """Return how long allowance was waited for, and what became of the attempt."""
        answer, attempt = None, object()
        waited = 0.0
        try:
            waited = self._take_allowance(request, deadline, attempt)
            answer = self._attempt(request)
            return waited, answer.refusal() or answer
        except TransportError as error:
            return waited, error
        finally:
            if self.metered:
                self.budget.release(answer.headers if answer else None, attempt)

    def _take_allowance(self, request: Request, deadline: float, attempt: object) -> float:
        """Take one attempt off the allowance; return how long that had to be waited for."""
        if not self.metered:
            return 0.0
        before = self._monotonic()
        needed = self.budget.acquire(deadline - before, attempt)
        if needed == 0:
            raise TransportError(
                f"{request.method} {request.path}: not sent: requests before it have not been"
                " answered, and it may not wait longer"
            )
        if needed is not None:
            error = RateLimitError(
                f"{request.method} {request.path}: not sent: the request allowance is spent for"
                f" another {needed:.0f} s, and it may not wait so long",
                status=429,
                method=request.method,
                path=request.path,
            )
            error.retry_after = needed
            raise error
        return self._monotonic() - before

    def _attempt(self, request: Request) -> Answer:
        prepared = self._prepare(request)
        longest = min(request.read_timeout or self.timeout[1], self.longest_timeout)
        timeout = (self.timeout[0], longest)
        with self._lock:
            self.requests += 1
        sent, started = self.clock.wall(), self._monotonic()
        try:
            adapter = self._session.get_adapter(self.base_url)
            response = adapter.send(prepared, stream=True, timeout=timeout, **self._settings)
            with response:
                data = read_body(response, request.most, timeout[1], self._monotonic)
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises, callers see ours
            cause = error
        else:
            self._silent_since = None
            self.clock.learn(response.headers.get("Date"), sent, self.clock.wall())
            return Answer(
                request.method,
                request.path,
                response.status_code,
                response.headers,
                data,
                Secret(str(prepared.headers.get("Authorization", "")).removeprefix("Bearer ")),
            )
        self._silent_since = self._silent_since or started
        where = self.base_url if self.metered else None
        raise lost(f"{request.method} {request.path}", where, cause) from cause

    def _prepare(self, request: Request) -> requests.PreparedRequest:
        query = request.query() if callable(request.query) else request.query
        body = request.body() if callable(request.body) else request.body
        headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate"}
        if self._token is not None:
            headers["Authorization"] = self._authorization()
        prepared = requests.PreparedRequest()
        prepared.method = request.method
        prepared.url = f"{self.base_url}{request.path}{'?' if query else ''}{query}"
        if body is not None:
            headers["Content-Type"] = request.content_type
            headers["Content-Length"] = str(len(body))
            prepared.body = io.BytesIO(body) if len(body) > SENT_AS_FILE else body
        prepared.headers = CaseInsensitiveDict(headers)
        return prepared

    def _authorization(self) -> Secret:
        token = self._token
        if callable(token):
            token = check_token(token(), "what the token callable returned")
        return Secret(f"Bearer {token}")

    def _asks_for_new_token(self, error: KVError) -> bool:
        return callable(self._token) and isinstance(error, AuthError) and error.status == 401

    def _delay_before_retry(self, request: Request, error: KVError, attempt: int) -> float | None:
        delay = self._backoff(attempt)
        if self._is_newborn(error):
            return delay
        if not may_pass(error):
            return None
        if isinstance(error, RateLimitError | ServerError):
            delay = error.retry_after or delay
        if isinstance(error, RateLimitError) and self.metered:
            self.budget.block(delay)
        if not request.idempotent or (too_much(error) and not request.retry_lost):
            return None
        return delay

    def _backoff(self, attempt: int) -> float:
        longest: float = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(attempt, 9))
        return longest * (0.5 + self._jitter() / 2)

    def _is_newborn(self, error: KVError) -> bool:
        if not isinstance(error, NotFoundError) or error.code != NAMESPACE_NOT_FOUND:
            return False
        now = self._monotonic()
        newborn = list(self._newborn.items())  # other threads may add to it
        return any(id_ in error.path and now < until for id_, until in newborn)

    def __repr__(self) -> str:
        return f"<Transport {self.base_url}>"
