"""The allowance of requests that Cloudflare grants, and how it is spent."""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from kvdict.forks import renew_in_children
from kvdict.hosts import is_loopback

KEPT_BACK = 0.05
"""The share of an allowance left to other processes on the same token: with it four processes of
eight threads met no 429 at all, without it two met 64."""
MAX_PER_SECOND = 150
"""Below the 200 requests a second that Cloudflare takes from one IP address."""
MOST_IN_FLIGHT = 64
"""Requests under way at once: as many connections are kept open."""
LONGEST_WINDOW = 86_400
"""Seconds: a header that tells of a later reset is not believed."""
SAME_WINDOW = 1.5
"""Seconds by which two answers may disagree on the end of one window: they tell whole ones."""
TOLD = 1.0
"""Seconds: a longer wait for allowance is logged."""

log = logging.getLogger("kvdict")


class RateBudget:
    """How many requests the service still takes, learnt from its `Ratelimit` headers.

    Spends first: no request waits while allowance is left beyond the 5 % kept back. Until a
    window's first answer one request is under way at a time, later 64 at most. `remaining`,
    `limit` and `resets_in` are None as long as the service has told nothing (a local home never
    does).
    """

    def __init__(
        self,
        *,
        per_second: int | None = MAX_PER_SECOND,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._per_second = per_second or 0
        self._clock = clock
        self._sleep = sleep
        self._renew()
        self._limit: int | None = None
        self._left = 0
        self._reset_at = -math.inf
        self._blocked_until = -math.inf
        self._metered = True
        self._starts: deque[float] = deque(maxlen=self._per_second)

    @property
    def limit(self) -> int | None:
        """Return the requests of one window, None if the service has not told."""
        return self._limit

    @property
    def remaining(self) -> int | None:
        """Return the requests left in this window, those under way taken off; None if not told."""
        with self._lock:
            if self._limit is None:
                return None
            if self._clock() >= self._reset_at:
                return self._limit
            return max(0, self._left - self.in_flight)

    @property
    def resets_in(self) -> float | None:
        """Return the seconds until the window ends, None if the service has not told."""
        return None if self._limit is None else max(0.0, self._reset_at - self._clock())

    @property
    def in_flight(self) -> int:
        """Return how many requests are under way, those of other users of the token included."""
        return len(self._flying)

    def acquire(self, max_wait: float, request: object = None) -> float | None:
        """Take one request off the allowance, waiting for it at most `max_wait` seconds.

        Return None, or at once the seconds that it would take if those are more; 0 if it waited in
        vain for the answer to another one. Who may be interrupted gives the `request` a name, and
        releases it by that whatever happens.
        """
        deadline = self._clock() + max_wait
        while True:
            with self._lock:
                delay = self._delay()
                if delay == 0:
                    self._flying[request or object()] = threading.current_thread()
                    self._starts.append(self._clock())
                    return None
                left = deadline - self._clock()
                if delay is None:
                    if left <= 0:
                        return 0
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                    continue
            if delay > left:
                return delay
            if delay > TOLD:
                log.info("the request allowance is spent; waiting %.0f s for more", delay)
            self._sleep(delay)

    def release(self, headers: Mapping[str, str] | None, request: object = None) -> None:
        """Learn from the headers of the answer, None if there was none.

        It ends the named request, if that was begun; without a name, the last one.
        """
        with self._lock:
            if request:
                self._flying.pop(request, None)
            elif self._flying:
                self._flying.popitem()
            if headers is not None:
                self._learn(headers)
            self._changed.notify_all()

    def block(self, seconds: float) -> None:
        """Send nothing for so long: the service answered 429."""
        with self._lock:
            self._blocked_until = max(self._blocked_until, self._clock() + seconds)
            self._left, self._reset_at = 0, self._blocked_until

    def start_again(self) -> None:
        """Forget what is under way: in a forked child, where nobody will tell how that ended."""
        self._renew()

    def _renew(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._flying: dict[object, threading.Thread] = {}

    def _delay(self) -> float | None:
        """Return the seconds until a request may go; None: when an answer comes."""
        now = self._clock()
        if now < self._blocked_until:
            return self._blocked_until - now
        if self.in_flight >= MOST_IN_FLIGHT and not self._is_within_another():
            return None
        if not self._metered:
            return self._pace(now)
        if self._limit is None or now >= self._reset_at:
            return None if self._others_in_flight() else self._pace(now)
        if self._left - self.in_flight > self._limit * KEPT_BACK:
            return self._pace(now)
        return None if self._others_in_flight() else self._reset_at - now

    def _is_within_another(self) -> bool:
        """Tell whether a request of this thread is under way, which waits for the one to come."""
        return threading.current_thread() in self._flying.values()

    def _others_in_flight(self) -> bool:
        """Tell whether to wait for an answer: not for this thread's own, below us on its stack.

        A signal or logging handler may ask while the request that it interrupted is under way.
        """
        me = threading.current_thread()
        return any(thread is not me for thread in self._flying.values())

    def _pace(self, now: float) -> float:
        if not self._starts or len(self._starts) < self._per_second:
            return 0
        return max(0.0, self._starts[0] + 1 - now)

    def _learn(self, headers: Mapping[str, str]) -> None:
        told = parse_rate_headers(headers)
        if told is None:
            self._metered = self._limit is not None
            return
        self._metered = True
        left, seconds, limit = told
        now = self._clock()
        reset_at = now + max(seconds, 1)
        if now >= self._reset_at or reset_at > self._reset_at + SAME_WINDOW:
            self._left, self._reset_at = left, reset_at
        elif reset_at > self._reset_at - SAME_WINDOW:
            self._left = min(self._left, left)
        self._limit = limit or max(self._limit or 0, left)

    def __repr__(self) -> str:
        if self._limit is None:
            return "<RateBudget: the service has told no limit>"
        return f"<RateBudget: {self.remaining} of {self._limit} left, {self.resets_in:.0f} s to go>"


class SharedBudgets:
    """The budgets of this process: one for each base URL and token while somebody uses it."""

    def __init__(self) -> None:
        self._budgets: WeakValueDictionary[tuple[str, object], RateBudget] = WeakValueDictionary()
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Take a lock of its own in a forked child."""
        self._lock = threading.RLock()

    def find(self, base_url: str, token: object) -> RateBudget:
        """Return the budget of this base URL and token; loopback has no limit by address."""
        is_near = is_loopback(urlsplit(base_url).hostname or "")
        per_second = None if is_near else MAX_PER_SECOND
        with self._lock:
            key = base_url, _identity(token)
            return self._budgets.setdefault(key, RateBudget(per_second=per_second))


shared_budgets = SharedBudgets()


def _identity(token: object) -> object:
    """Tell tokens apart; a callable may have no hash, and must not be kept alive by the table."""
    if isinstance(token, str):
        return token
    return id(getattr(token, "__self__", token)), getattr(token, "__name__", "")


def parse_rate_headers(headers: Mapping[str, str]) -> tuple[int, float, int | None] | None:
    """Return (left, seconds to the reset, limit) as the headers tell, None if they do not."""
    now = re.search(r";\s*r=(\d{1,9})\b.*?;\s*t=(\d{1,9})\b", headers.get("Ratelimit", ""))
    if now is None or float(now[2]) > LONGEST_WINDOW:
        return None
    policy = re.search(r";\s*q=(\d{1,9})\b", headers.get("Ratelimit-Policy", ""))
    return int(now[1]), float(now[2]), int(policy[1]) if policy else None
