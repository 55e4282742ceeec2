"""What happens to pending writes when a process ends, or forks.

The interpreter runs exit handlers while daemon threads still live; a child of multiprocessing runs
only the finalizers that it registered itself. Neither runs after SIGKILL, `os._exit` or an
unhandled SIGTERM.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from kvdict.errors import FlushError
from kvdict.phrases import how_many, name_some

if TYPE_CHECKING:
    from kvdict.flusher import Flusher


SPELLED_OUT = 100
"""Keys that are printed at exit: the last chance to learn which."""


PARTING = 1.0
"""Seconds that a background thread has to end at exit, if it is in the middle of a request."""


class Exits:
    """The flushers of this process: stopped before a fork, flushed at the end."""

    def __init__(self) -> None:
        self._flushers: WeakSet[Flusher] = WeakSet()
        self._process = 0
        self._is_behind_emulator = False
        # An exit handler that imports us first is too late for a handler of ours.
        self.are_over = is_in_an_exit_handler()
        self._is_done = False
        self._waiting: list[Flusher] = []
        self._longest = 0.0
        self._spent = 0.0

    def watch(self, flusher: Flusher) -> None:
        """Flush it when the process ends."""
        self._flushers.add(flusher)
        if "kvdict.emulator" in sys.modules and not self._is_behind_emulator:
            self._is_behind_emulator = True
            self.hook_forks()
        if self._process != os.getpid():
            self._process = os.getpid()
            self._register()

    def flush(self) -> None:
        """Send what is pending within each buffer's `exit_timeout`; print what is lost.

        Once: where multiprocessing is at hand both its end and the interpreter's come by. And to
        its end, whatever signals come: a worker of a pool may be on its way out when it is told
        to go.
        """
        while not self._is_done:
            with suppress(SystemExit):
                self._flush_all()

    def _flush_all(self) -> None:
        if not self.are_over:  # pragma: no branch - signalled, in children that are not measured
            self._waiting = list(self._flushers)
            self.are_over = True
        while self._waiting:
            self.flush_one(self._waiting[-1])
            self._waiting.pop()
        self._is_done = True

    def flush_one(self, flusher: Flusher) -> None:
        """Send what one flusher has, and print to stderr what did not make it.

        All of the process's flushers, and the writes of later exit handlers, share the longest
        timeout. What other handlers do between them takes none of it.
        """
        try:
            self._flush_in_time(flusher)
        except FlushError as error:
            unknown = list(flusher.buffer.sealed)
            parts = [
                (
                    f"kvdict: at exit {how_many(len(error.keys))} not sent"
                    f" ({name_some(error.keys, SPELLED_OUT)}): {error}"
                )
            ]
            if flusher.journal:
                parts.append(f"kept in {flusher.journal.path}, and sent when that is opened")
            if unknown:
                parts.append(f"of unknown outcome: {name_some(unknown, SPELLED_OUT)}")
            print("; ".join(parts), file=sys.stderr)  # noqa: T201 - the last word there is
        with suppress(KeyboardInterrupt):
            # Else it may die with the buffer's lock taken, which a late __del__ would wait for.
            flusher.rest(PARTING)

    def _flush_in_time(self, flusher: Flusher) -> None:
        """Flush as long as there is time, whatever signals come: there is no later time for it.

        To exit is what is being done; Ctrl-C ends the waiting, so that what is left is printed.
        """
        then = "start the program again" if flusher.journal else "write again"
        own = flusher.buffer.exit_timeout
        self._longest = max(self._longest, own)
        while True:
            timeout = min(own, max(0.0, self._longest - self._spent))
            begun = time.monotonic()
            try:
                flusher.hurry(timeout)
                flusher.flush(timeout, then)
                return
            except SystemExit:
                pass
            except KeyboardInterrupt:
                self._spent = math.inf
            finally:
                self._spent += time.monotonic() - begun

    def hook_forks(self) -> None:
        """Stop before a fork, once more if the emulator came since.

        The hooks that came last run first, and the emulator's takes a lock that ours has to leave
        to a flusher which is about to end.
        """
        if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
            os.register_at_fork(before=self.before_fork, after_in_parent=self.after_fork_in_parent)

    def before_fork(self) -> None:
        """Let no flusher's thread hold a lock that the child would inherit."""
        for flusher in list(self._flushers):
            flusher.stop()

    def after_fork_in_parent(self) -> None:
        """Go on with what is pending."""
        for flusher in list(self._flushers):
            flusher.resume()

    def _register(self) -> None:
        if "multiprocessing" in sys.modules:  # pragma: no branch - coverage imports it itself
            from multiprocessing import util

            # Highest priority: before the finalizers that close what others may write to.
            util.Finalize(None, self.flush, exitpriority=1000)


def is_in_an_exit_handler() -> bool:
    """Tell whether the main thread is over, and runs what is left to be done at its end."""
    main = threading.main_thread()
    return threading.get_ident() == main.ident and not main.is_alive()


exits = Exits()
atexit.register(exits.flush)
exits.hook_forks()
