"""Convoy: the requests of one bulk write that are under way at once, in order for each key."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence, Set

from kvdict.errors import FlushError, KVError
from kvdict.flights import Flight, Slots

log = logging.getLogger("kvdict")


class Convoy:
    """Chunks under way at once; a key that is in one of them waits for it.

    Two chunks in flight may arrive in any order: without the wait a key that is repeated far apart
    would often end with its older value.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._flights: deque[tuple[Flight[int], Set[str]]] = deque()
        self._errors: list[BaseException] = []
        self.done = 0
        self.lost: list[str] = []

    def send(self, work: Callable[[], int], keys: Set[str], size: int) -> None:
        """Start the work, which writes these keys; raise if an earlier one failed."""
        while self._flights and (self._flights[0][0].done() or self._must_wait(keys)):
            self._land_one()
        if self._errors:
            self.land()
        self._flights.append((Flight(work, self._slots, size), keys))

    def land(self) -> int:
        """Wait for all; return how many writes were accepted or raise one error for the rest."""
        self.wait()
        if self._errors:
            raise _merge(self._errors)
        return self.done

    def wait(self, timeout: float | None = None) -> None:
        """Wait for all, whatever becomes of them; those that take too long count as lost."""
        if timeout is not None and self._flights:
            log.warning("interrupted; waiting %.0f s for %d requests", timeout, len(self._flights))
        while self._flights:
            flight, keys = self._flights[0]
            if flight.wait(timeout):
                self._land_one()
            else:
                self._flights.popleft()
                self.lost += keys
                timeout = 0.0

    def _must_wait(self, keys: Set[str]) -> bool:
        if len(self._flights) >= self._slots.width:
            return True
        return any(not keys.isdisjoint(others) for _, others in self._flights)

    def _land_one(self) -> None:
        flight, keys = self._flights[0]
        flight.wait()  # if that is interrupted, the flight is still on the list
        self._flights.popleft()
        try:
            self.done += flight.result()
        except BaseException as error:  # noqa: BLE001 - of a token callable, say: land() raises it
            lost = (isinstance(error, KVError) and error.keys) or keys
            self.done += len(keys) - len(lost)
            self._errors.append(error)
            self.lost += lost


def _merge(errors: Sequence[BaseException]) -> BaseException:
    """Return the first error, an interrupt before others, with what all say of their keys."""
    first = next((error for error in errors if not isinstance(error, Exception)), errors[0])
    if isinstance(first, FlushError):
        for error in errors[1:]:
            if isinstance(error, KVError):
                told = error.failed if isinstance(error, FlushError) else {}
                first.failed |= told or dict.fromkeys(error.keys, str(error))
    return first
