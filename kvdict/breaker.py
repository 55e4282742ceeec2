"""Work that must not wait long for the service: what it takes, and when not to try."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from kvdict.answers import may_pass
from kvdict.errors import KVError, QuotaError, ServerError, TransportError
from kvdict.flights import Flight, Slots

R = TypeVar("R")

PATIENCE = 2.0
"""Seconds that such work waits for the service."""
REST = 10.0
"""Seconds for which the service is not asked again once it did not answer."""


class Breaker:
    """Remembers that the service did not answer, and spares who cannot wait the next tries."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Tell whether the service is not to be asked."""
        return self._timer() < self._until

    def check(self) -> None:
        """Raise TransportError if the service is not to be asked."""
        if self.is_open:
            raise TransportError("the service did not answer a moment ago; it is left alone now")

    def ask(self, work: Callable[[], R]) -> R:
        """Return what the work returns, on a thread of its own; TransportError after 2 s.

        The work goes on behind that. Opens when the service does not answer.
        """
        return self.watch(partial(within, PATIENCE, work))

    def watch(self, work: Callable[[], R]) -> R:
        """Return what the work returns, in this thread; open when the service does not answer."""
        try:
            return work()
        except KVError as error:
            if is_away(error):
                self._until = self._timer() + REST
            raise


def is_away(error: KVError) -> bool:
    """Tell whether it is the service that does not answer: none came, 429, a spent quota, 5xx."""
    return isinstance(error, ServerError | QuotaError) or may_pass(error)


def within(seconds: float, work: Callable[[], R]) -> R:
    """Return what the work returns, or raise what it raises; TransportError if it takes longer."""
    flight = Flight(work, Slots())
    if not flight.wait(seconds):
        raise TransportError(f"the service did not answer within {seconds:g} s", timed_out=True)
    return flight.result()
