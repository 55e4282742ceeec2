"""Rate: counting requests in fixed windows, a token at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

QUOTA = 1200
WINDOW = 300.0
ROLLED_OVER = 0.8
"""The share of a window after which the next begins, where nothing is enforced."""
MOST_TOKENS = 1000
"""Tokens remembered at once before all are forgotten."""


class Allowance(NamedTuple):
    """What a window has left after a request; `exceeded` if that one was too much."""

    quota: int
    window: float
    remaining: int
    seconds: int
    exceeded: bool

    def headers(self) -> list[tuple[str, str]]:
        """Return the two headers that tell a client."""
        return [
            ("Ratelimit", f'"default";r={self.remaining};t={self.seconds}'),
            ("Ratelimit-Policy", f'"default";q={self.quota};w={math.ceil(self.window)}'),
        ]


class Rate:
    """The windows of all tokens; its owner sees to it that one thread at a time calls."""

    def __init__(self) -> None:
        self._windows: dict[str, tuple[float, int]] = {}

    def count(
        self, token: str, now: float, quota: int, window: float, *, enforced: bool = True
    ) -> Allowance:
        """Count one request of the token, and return what is left.

        Where nothing is enforced the next window begins before this one is used up: a client that
        heeds the headers is not to wait for an allowance that nobody asks for.
        """
        start, used = self._windows.get(token, (now, 0))
        spent = not enforced and used >= quota * ROLLED_OVER
        if spent or not 0 <= now - start < window:
            start, used = now, 0
        if token not in self._windows and len(self._windows) >= MOST_TOKENS:
            self._windows.clear()
        self._windows[token] = (start, used + 1)
        left = max(0, quota - used - 1)
        seconds = math.ceil(start + window - now)
        return Allowance(quota, window, left, seconds, exceeded=used >= quota)
