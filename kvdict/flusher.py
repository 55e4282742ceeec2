"""The flusher: sends what a buffer holds, in the background and when it is asked to.

One flush at a time. Whoever waits for a flush may give up on time while requests are under way.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Literal
from weakref import WeakSet

from kvdict.buffer import WriteBuffer
from kvdict.errors import BufferFullError
from kvdict.exits import exits
from kvdict.forks import renew_in_children
from kvdict.home import Home
from kvdict.models import FlushResult
from kvdict.outcomes import AGAIN, Outcomes
from kvdict.phrases import how_many
from kvdict.rounds import Rounds

if TYPE_CHECKING:
    from kvdict.journal import Journal

IDLE = 5.0
"""Seconds without work after which the background thread ends."""
LEAST = 1.0
"""Seconds that an answer has at exit, however little time is left."""
LONGEST = threading.TIMEOUT_MAX
"""Seconds that Python waits at most: to wait for ever is more."""
JOIN = 5.0
"""Seconds to wait for the background thread, which may be in the middle of a request."""


class Flusher:
    """Sends one namespace's buffer; its thread starts with the first write and ends when idle.

    It may use half of what is left of the request allowance, and leaves retries to the next round:
    what may pass is tried again for as long as it takes.
    """

    def __init__(
        self, home: Home, namespace_id: str, buffer: WriteBuffer, journal: Journal | None = None
    ) -> None:
        self.buffer = buffer
        self.journal = journal
        self._home = home  # kept open while something is to be sent
        self._transport = home.client.transport
        self.outcomes = Outcomes(buffer, self._transport.clock)
        self._flushes: dict[object, int] = {}
        self.rounds = Rounds(home, namespace_id, buffer, journal, self.outcomes, self._flushes)
        self.start_again()
        renew_in_children(self)

    def start_again(self) -> None:
        """Have no thread: at first, and in a forked child."""
        self._flushes.clear()
        self._thread: threading.Thread | None = None
        self._ended: WeakSet[threading.Thread] = WeakSet()
        self._waits_for: Literal["a write", "time"] | None = None

    # What writers ask

    def make_room(self) -> None:
        """Wait until the buffer has room for one more write; BufferFullError if it takes too long.

        Raises first what the background found out since: this write is not taken then.
        """
        buffer = self.buffer
        if self.outcomes.is_told_here:  # a callback may write, and is told nothing
            return
        self.outcomes.raise_if_any("this write was not taken; write again")
        if not buffer.is_full:
            return
        self.wake()
        with buffer.lock:
            if not buffer.changed.wait_for(
                lambda: not buffer.is_full, min(buffer.put_timeout, LONGEST)
            ):
                raise BufferFullError(
                    f"{how_many(buffer.waiting, 'is')} to be sent, and none has left for"
                    f" {buffer.put_timeout:g} s; this write was not accepted"
                )

    def notice(self) -> None:
        """See to it that what was just added is sent in time."""
        buffer = self.buffer
        if exits.are_over:
            exits.flush_one(self)
        elif (
            self._thread is None
            or self._waits_for == "a write"
            or (self._waits_for and buffer.is_due)
        ):
            self.wake()

    def wake(self) -> None:
        """Have the background thread look whether something is to be sent."""
        with self.buffer.lock:
            if self._thread is None:
                self._start()
            else:
                self.buffer.changed.notify_all()

    # What flush and close ask

    def flush(self, timeout: float, then: str = AGAIN) -> FlushResult:
        """Send all writes accepted before this call; FlushError at the timeout, or where stuck.

        `then` is what its reader is told to do.
        """
        buffer, outcomes = self.buffer, self.outcomes
        if buffer.write_through:  # stored when the call returned, or it raised
            return FlushResult(0)
        deadline = buffer.clock() + timeout
        target, before = buffer.number, outcomes.sent
        sent = 0
        flush = object()
        try:
            if self._begin(flush, timeout):
                self._flush_up_to(target, deadline)
                sent = outcomes.sent - before
        finally:
            if self._flushes.pop(flush, None):
                self.buffer.notify()
                outcomes.pass_on()
        outcomes.raise_if_any(f"look at the cause, then {then}")
        outcomes.raise_if_late(target, timeout, then)
        return FlushResult(sent)

    def hurry(self, seconds: float) -> None:
        """Wait no longer than that for any answer: it may be this thread that has to."""
        transport = self._transport
        transport.longest_timeout = min(transport.longest_timeout, max(LEAST, seconds))

    def _begin(self, flush: object, timeout: float) -> bool:
        """Enter the flush as the one under way, within so many seconds.

        A signal handler may flush in the middle of its own thread's. Who may be interrupted takes
        the entry out whatever happens.
        """
        me = threading.get_ident()
        with self.buffer.lock:
            is_free = self.buffer.changed.wait_for(
                lambda: {*self._flushes.values()} <= {me}, min(timeout, LONGEST)
            )
            if is_free:
                self._flushes[flush] = me
            return is_free

    def _flush_up_to(self, target: int, deadline: float) -> None:
        """Make rounds until nothing of it waits, time is over, or only a person can help."""
        buffer, outcomes = self.buffer, self.outcomes
        outcomes.retry_now()
        if self.journal:
            self.journal.tidy()
        while buffer.waiting_up_to(target):
            self.rounds.make(deadline, everything=True)
            left = deadline - buffer.clock()
            if outcomes.alarm or left <= 0 or not buffer.waiting_up_to(target):
                return
            pause = max(outcomes.resume_at - buffer.clock(), buffer.held_for())
            self._transport.pause(min(pause, left))

    def stats(self) -> dict[str, float]:
        """Return what waits, and what was saved, tried again, refused."""
        buffer = self.buffer
        with buffer.lock:
            waiting = [*buffer.sealed.values(), *buffer.pending.values()]
        oldest = min((change.since for change in waiting), default=math.inf)
        return {
            "pending": len(waiting),
            "pending_bytes": sum(change.size for change in waiting),
            "oldest_age": max(0.0, buffer.clock() - oldest),
            "settled_early": buffer.settled_early,
            **self.outcomes.stats(),
        }

    def rest(self, patience: float) -> None:
        """End the background thread and close the connections; the next write makes others."""
        self.stop(patience)
        self._transport.close()

    def stop(self, patience: float = JOIN) -> None:
        """End the background thread; the next write starts it again.

        It takes the buffer's lock to its end, and who waits for it lets go of that, even in a
        signal handler that has interrupted a writer who has it.
        """
        changed = self.buffer.changed
        with self.buffer.lock:
            thread, self._thread = self._thread, None
            changed.notify_all()
            if not thread or not thread.is_alive() or thread is threading.current_thread():
                return  # who is not alive yet will see that it is not wanted
            is_over = changed.wait_for(lambda: thread in self._ended, patience)
        if is_over:
            thread.join(JOIN)

    def resume(self) -> None:
        """Start the background thread if anything waits for it."""
        if self.buffer.pending:
            self.wake()

    # The background

    def _start(self) -> None:
        exits.watch(self)
        thread = threading.Thread(target=self._work, name="kvdict-flusher", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:  # the interpreter is exiting: its exit handler flushes
            self._thread = None
        except BaseException:  # an interrupt; if it runs after all, it sees that it is not wanted
            self._thread = None
            raise

    def _work(self) -> None:
        me = threading.current_thread()
        try:
            while self._wait_for_work(me):
                if self._begin(me, 1.0):  # pragma: no branch - a flush may take longer
                    try:
                        self.rounds.make()
                    finally:
                        self._flushes.pop(me, None)
                        self.buffer.notify()
                    self.outcomes.pass_on(BaseException)
        finally:
            with self.buffer.lock:
                if self._thread is me:  # whatever ended it: the next write starts another
                    self._thread = None
                self._ended.add(me)
                self.buffer.changed.notify_all()

    def _wait_for_work(self, me: threading.Thread) -> bool:
        """Wait until a round is due; False if this thread is to end."""
        changed = self.buffer.changed
        with self.buffer.lock:
            while self._thread is me:
                pause = self._due_in()
                if pause == 0:
                    return True
                self._waits_for = "a write" if pause is None else "time"
                woken = changed.wait(IDLE if pause is None else min(pause, LONGEST))
                if self._thread is me:  # else it is another one that waits, or none
                    self._waits_for = None
                if pause is None and not woken and not self.buffer.pending:
                    self._thread = None
            return False

    def _due_in(self) -> float | None:
        due = self.buffer.due_in()
        if due is None:
            return None
        now = self.buffer.clock()
        earliest = max(self.rounds.next_at, self.outcomes.resume_at)
        return max(0.0, due, earliest - now, self.buffer.held_for())
