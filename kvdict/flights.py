"""Several requests under way at once, on daemon threads of our own.

Not a ThreadPoolExecutor: it refuses new work once the interpreter began to exit, before the exit
handlers that may still write have run.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

from kvdict.forks import renew_in_children
from kvdict.latch import Latch

A = TypeVar("A")
R = TypeVar("R")

MAX_REQUESTS = 8
"""Bulk requests under way at once for one namespace: more gained nothing and met 429 sooner."""
MAX_BYTES = 64_000_000


class Slots:
    """How much may be under way at once, in requests and bytes; `width` is 1 for a local home."""

    def __init__(self, width: int = MAX_REQUESTS, max_bytes: int = MAX_BYTES) -> None:
        self.width = width
        self._max_bytes = max_bytes
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Free all places: in a forked child, where those who took them are not."""
        self._sizes: dict[object, int] = {}
        self._lock = threading.RLock()
        self._freed = threading.Condition(self._lock)

    def take(self, flight: object, size: int) -> None:
        """Wait for a place; one request alone may be larger than all the bytes allowed."""
        with self._lock:
            self._freed.wait_for(lambda: self._fits(size))
            self._sizes[flight] = size

    def give_back(self, flight: object) -> None:
        """Free the flight's place, if it has one."""
        self._sizes.pop(flight, None)
        with self._lock:
            self._freed.notify_all()

    def _fits(self, size: int) -> bool:
        if not self._sizes:
            return True
        sizes = list(self._sizes.values())
        return len(sizes) < self.width and sum(sizes) + size <= self._max_bytes


class Flight(Generic[R]):
    """One piece of work on a thread of its own."""

    def __init__(self, work: Callable[[], R], slots: Slots, size: int = 0) -> None:
        self._work = work
        self._slots = slots
        self._size = size
        self._value: R
        self._error: BaseException | None = None
        # Not the thread's join(): interrupted, it takes a running thread for one that has ended.
        self._over = Latch()
        self._process = os.getpid()
        if slots.width == 1 or sys.is_finalizing():  # to start a thread would never return
            self._run_here()
        else:
            self._start()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the work, at most so many seconds; tell whether it is over."""
        return self._is_the_parents() or self._over.wait(timeout)

    def result(self) -> R:
        """Wait for the work; return what it returned or raise what it raised."""
        self.wait()
        if self._is_the_parents() and not self._over.is_open:
            self._run()
        if self._error:
            raise self._error
        return self._value

    def done(self) -> bool:
        """Tell whether result() would answer at once."""
        return self._over.is_open or self._is_the_parents()

    def _is_the_parents(self) -> bool:
        """Tell whether the thread was left behind in a fork."""
        return self._process != os.getpid()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run_and_free, name="kvdict-bulk", daemon=True)
        try:
            self._slots.take(self, self._size)
            thread.start()
        except RuntimeError:  # the interpreter is exiting, or the machine has no thread left
            try:
                self._run_here()
            finally:
                self._slots.give_back(self)
        except BaseException:  # an interrupt
            if thread.ident is None:
                self._slots.give_back(self)
            raise

    def _run_here(self) -> None:
        """Do the work in the thread that asks for it, where an interrupt is not to be lost."""
        self._run()
        if self._error is not None and not isinstance(self._error, Exception):
            raise self._error

    def _run_and_free(self) -> None:
        try:
            self._run()
        finally:
            self._slots.give_back(self)

    def _run(self) -> None:
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error
        self._over.open()


def in_order(
    work: Callable[[A], R], jobs: Iterable[A], slots: Slots, *, eager: bool
) -> Iterator[R]:
    """Yield work(job) for each job, in order, several under way ahead of the consumer.

    Unless `eager`, one is under way at first and twice as many after each result that was
    consumed: a loop that stops early has not paid for what it did not read.
    """
    waiting = iter(jobs)
    flights: deque[Flight[R]] = deque()
    ahead = slots.width if eager else 1
    while True:
        while len(flights) < ahead:
            try:
                job = next(waiting)
            except StopIteration:
                break
            flights.append(Flight(partial(work, job), slots))
        if not flights:
            return
        yield flights.popleft().result()
        ahead = min(slots.width, ahead * 2)
