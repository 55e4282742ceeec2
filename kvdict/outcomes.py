"""What became of a flusher's writes: counts, what only a person can mend, whom to tell."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from kvdict.answers import may_pass
from kvdict.buffer import WriteBuffer
from kvdict.clock import ServiceClock
from kvdict.errors import APIError, FlushError, QuotaError, ServerError
from kvdict.forks import renew_in_children
from kvdict.models import FlushResult
from kvdict.phrases import how_many, name_some
from kvdict.transport import FIRST_BACKOFF, LAST_BACKOFF

DAY = 86_400
AGAIN = "flush again"
"""What to do about writes that are still pending, unless the program is about to end."""

log = logging.getLogger("kvdict")

T = TypeVar("T")


class Outcomes:
    """What is known of the writes that were sent, and what is still to be told of it.

    `alarm` and `failed` are raised once: what concerns all, and the refused keys with the reason.
    Callbacks are collected, and called by `pass_on` when no lock is held.
    """

    def __init__(self, buffer: WriteBuffer, clock: ServiceClock) -> None:
        self.buffer = buffer
        self._clock = clock
        self.sent = self.flushes = self.requests = self.retries = 0
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Have nothing to report: at first, and in a forked child."""
        self.alarm: Exception | None = None
        self._alarmed = 0
        self.failed: dict[str, str] = {}
        self.resume_at = 0.0
        self._trouble: Exception | None = None
        self._attempt = 0
        self._untold: deque[tuple[Callable[[Any], object], Any]] = deque()
        self._telling: set[int] = set()

    @property
    def is_told_here(self) -> bool:
        """Tell whether this thread is in the middle of a callback."""
        return bool(self._telling) and threading.get_ident() in self._telling

    # What the delivery says

    def requested(self) -> None:
        """Count one more request."""
        with self.buffer.lock:
            self.requests += 1

    def stored(self, writes: int, *, all_of_them: bool) -> None:
        """Take in that so many writes were accepted."""
        with self.buffer.lock:
            self.sent += writes
            if all_of_them:
                self._attempt, self._trouble = 0, None
            if self.alarm and not self.buffer.waiting_up_to(self._alarmed):
                self.alarm = None  # it was mended, and nothing came of it
            self.buffer.changed.notify_all()

    def refused(self, key: str, error: Exception) -> None:
        """Take in that the service will never accept this write."""
        log.error("the write of key %r was refused: %s", key, error)
        with self.buffer.lock:
            self.failed[key] = str(error)
        self.tell(self.buffer.on_error, error)

    def put_off(self, error: Exception) -> None:
        """Take in that writes stay pending, and when it is worth another try."""
        buffer = self.buffer
        passes = isinstance(error, ServerError) or may_pass(error)
        with buffer.lock:
            self._attempt += 1
            self.retries += 1
            self._trouble = error
            self.resume_at = buffer.clock() + self._backoff(error, passes)
            if not passes:
                self.alarm, self._alarmed = error, buffer.number
        level = logging.WARNING if passes else logging.ERROR
        log.log(level, "%s still pending: %s", how_many(buffer.waiting, "is"), error)
        self.tell(buffer.on_error, error)

    def flushed(self, writes: int) -> None:
        """Take in that a round is over in which so many writes were accepted."""
        if writes:
            self.flushes += 1
            self.tell(self.buffer.on_flush, FlushResult(writes))

    def tell(self, callback: Callable[[T], object] | None, argument: T) -> None:
        """Have the callback called, once no lock is held."""
        if callback:
            self._untold.append((callback, argument))

    # What the flusher asks

    def retry_now(self) -> None:
        """Wait no longer: whoever asks may have mended what was wrong; what is not shows again."""
        self.resume_at, self.alarm = 0.0, None

    def pass_on(self, swallow: type[BaseException] = Exception) -> None:
        """Call the callbacks that are due, in this thread, which holds no lock.

        Of what they raise this is logged: in a thread of ours, which has to go on, all of it.
        """
        me = threading.get_ident()
        if me in self._telling:  # a callback that flushes: the rest comes after it
            return
        self._telling.add(me)
        try:
            with suppress(IndexError):  # another thread was faster
                while self._untold:
                    self._call(*self._untold.popleft(), swallow)
        finally:
            self._telling.discard(me)

    def raise_if_any(self, consequence: str) -> None:
        """Raise once what only a person can mend: auth, a missing namespace, quota, bad pairs."""
        if not self.alarm and not self.failed:
            return
        with self.buffer.lock:
            alarm, failed = self.alarm, self.failed
            self.alarm, self.failed = None, {}
        if failed or alarm:  # pragma: no branch - another thread may be faster
            pending = self.buffer.waiting_up_to(self.buffer.number)
            raise self._error(pending, failed, alarm, consequence)

    def tell_again(self, error: FlushError) -> None:
        """Take back what was raised where nobody hears of it: the next write or flush raises it."""
        with self.buffer.lock:
            self.failed = {**error.failed, **self.failed}
            if self.alarm is None and isinstance(error.__cause__, Exception):
                self.alarm, self._alarmed = error.__cause__, self.buffer.number

    def raise_if_late(self, number: int, timeout: float, then: str = AGAIN) -> None:
        """Raise if a write up to that number is not accepted yet, and the time is over."""
        keys = self.buffer.waiting_up_to(number)
        if keys:
            why = f" ({self._trouble})" if self._trouble else ""
            advice = f"not all was sent within {timeout:.3g} s{why}; {then}"
            raise self._error(keys, {}, None, advice)

    def stats(self) -> dict[str, float]:
        """Return what was saved, tried again, refused."""
        return {
            "flushes": self.flushes,
            "requests_saved": max(0, self.sent - self.requests),
            "flush_retries": self.retries,
            "failed": len(self.failed),
        }

    def _call(
        self, callback: Callable[[T], object], argument: T, swallow: type[BaseException]
    ) -> None:
        try:
            callback(argument)
        except swallow:
            log.exception("a callback of the WriteBuffer raised; the flusher goes on")

    def _backoff(self, error: Exception, passes: bool) -> float:
        if isinstance(error, QuotaError):
            return DAY - self._clock.now() % DAY
        if not passes:
            return LAST_BACKOFF
        grown: float = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(self._attempt - 1, 9))
        asked = error.retry_after if isinstance(error, APIError) else None
        return max(grown, asked or 0.0)

    def _error(
        self,
        pending: Sequence[str],
        failed: dict[str, str],
        alarm: Exception | None,
        consequence: str,
    ) -> FlushError:
        said = [f"{name_some([key])} was refused: {why}" for key, why in failed.items()][:3]
        if pending:
            said.append(f"{how_many(len(pending), 'is')} pending: {name_some(pending)}")
        if alarm:
            said.append(str(alarm))
        error = FlushError("; ".join([*said, consequence]), pending=len(pending), failed=failed)
        error.keys = tuple(dict.fromkeys((*failed, *pending)))
        error.__cause__ = alarm
        return error
