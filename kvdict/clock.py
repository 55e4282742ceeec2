"""The service's clock, as far as its answers tell it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache

TOLERATED = 2.0
"""Seconds by which the two clocks may differ before anything is corrected."""
RECENT = 16
"""How many answers vote on the offset; one that contradicts the others starts a new vote."""


_BOOT = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def since_boot() -> float:
    """Return seconds that nobody sets, and that go on while the machine sleeps.

    `time.monotonic` stands still then on Linux and macOS: what is cached would stay young.
    """
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)


_BOOTED = time.time() - since_boot()


def steady_wall() -> float:
    """Return epoch seconds as the machine had them at the start, whatever it is set to meanwhile.

    Else an hour forward would end what has an hour to live and waits to be sent.
    """
    return _BOOTED + since_boot()


class ServiceClock:
    """Epoch seconds as the service sees them: ours, corrected where they are surely off.

    A `Date` header is cut to seconds, so each answer only bounds the offset, between
    `date - received` and `date + 1 - sent`; the bounds of recent answers are intersected.
    """

    def __init__(self, wall: Callable[[], float] = steady_wall) -> None:
        self.wall = wall
        self.offset = 0.0
        self._bounds: deque[tuple[float, float]] = deque(maxlen=RECENT - 1)  # beside the new one

    def now(self) -> float:
        """Return the service's time."""
        return self.wall() + self.offset

    def learn(self, date: str | None, sent: float, received: float) -> None:
        """Take in the `Date` of an answer to a request of that time by our own clock."""
        moment = epoch_of(date) if date else None
        if moment is None:
            return
        bounds = moment - received, moment + 1 - sent
        low, high = self._intersect(bounds)
        if low > high:
            self._bounds.clear()
            low, high = bounds
        self._bounds.append(bounds)
        off = low > TOLERATED or high < -TOLERATED
        self.offset = (low + high) / 2 if off else 0.0

    def _intersect(self, bounds: tuple[float, float]) -> tuple[float, float]:
        known = [*self._bounds, bounds]
        return max(low for low, _ in known), min(high for _, high in known)


@lru_cache(maxsize=8)  # the answers of a second tell the same one
def epoch_of(date: str) -> float | None:
    """Return the epoch seconds of an HTTP date, None for one that is none."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
