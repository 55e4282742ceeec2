"""`Journal`: what a buffer holds, on disk as well, so that it survives the end of the process."""

from __future__ import annotations

import ctypes
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal

from kvdict.bufferoptions import check_journal
from kvdict.changes import Change
from kvdict.errors import ClosedError, JournalError
from kvdict.forks import renew_in_children
from kvdict.journalerrors import failure, reported
from kvdict.journalfile import (
    CHECKPOINT,
    DELETE,
    PAGE,
    TOUCH,
    UPSERT,
    place,
    remove,
    sync,
)
from kvdict.journallock import Lock
from kvdict.journalopen import Opened, Opener
from kvdict.journalrows import Replay, Row, row_of
from kvdict.phrases import name_some

SLICE = 200
"""Rows that are removed at a time, so that no writer waits for thousands of them."""
LOST = 0.1
"""Seconds after which a thread looks by itself, because an interrupt swallowed its call."""

log = logging.getLogger("kvdict")


class Journal:
    """The durable copy of a WriteBuffer's changes: what was recorded and not yet forgotten.

    path: a file, or a folder, in which each process has its own file and adopts those of dead
    ones; a folder that is not there yet ends in a separator, and is made.
    namespace: what the changes are for; a journal of another namespace is refused.
    durability: "process": a change survives the death of the process; "power": that of the machine.
    max_age: seconds after which a change is not replayed any more; None: never too old.

    In a forked child a folder's journal starts a file of its own with the first record; a file
    stays the parent's, and the child's changes are not journalled, which is logged.
    """

    _connection: sqlite3.Connection | None = None
    _owned: Lock | None = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        namespace: str,
        durability: Literal["process", "power"] = "process",
        max_age: float | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        check_journal(durability, max_age)
        self.namespace = namespace
        self.durability = durability
        self.max_age = max_age
        self.stands_for: Callable[[Change], bool] = lambda _: True
        self.closed = False
        self._wall = wall
        self.path, self.folder = place(os.fspath(path))
        self._opener = Opener(namespace, durability)
        self.start_again()
        self._is_inert = False
        renew_in_children(self)
        with reported(self.path):
            opener = self._opener
            self._begin(opener.open_in(self.folder) if self.folder else opener.open_file(self.path))

    def __repr__(self) -> str:
        state = "closed" if self.closed else "the parent's" if self._is_inert else "open"
        return (
            f"<Journal {self.path!r} of {self.namespace!r}, durability {self.durability!r},"
            f" {state}, {self.pending} pending>"
        )

    def start_again(self) -> None:
        """Have nothing recorded: at first, and in a forked child, which leaves all to the parent.

        Closing the connection would remove the log that the parent goes on writing to, and
        unlocking the file would unlock it for the parent too.
        """
        if self._connection:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))  # never to be closed
        if self._owned:
            self._owned.abandon()
        self._connection = self._owned = None
        self._is_inert = self.folder is None
        self.path = self.folder or self.path
        self._is_warned = False
        self._lock = threading.RLock()
        self._queueing = threading.RLock()
        self._written = threading.Condition(self._queueing)
        self._writer: int | None = None
        self._queue: dict[int, Change] = {}
        self._stale: set[tuple[str, int]] = set()
        self._rows: list[Row] = []
        self._damaged: list[str] = []
        self._unsettled = self._left = 0
        self.last_number = self.commits = 0

    @property
    def pending(self) -> int:
        """Return how many keys a replay would give; looks through all of them."""
        with self._lock, reported(self.path):
            if self._connection is None:
                return self._left
            count: int = self._connection.execute("SELECT count(*) FROM writes").fetchone()[0]
            return count

    def replay(self) -> Replay:
        """Return what the last owner left, once; what is not to be sent any more is removed."""
        with self._lock, reported(self.path):
            rows, self._rows = self._rows, []
            replay = Replay(damaged=self._damaged)
            self._damaged = []
            now = self._wall()
            gone = [row for row in rows if not replay.take(row, now, self.max_age)]
            self._run(DELETE, [(row.key, row.number) for row in gone])
        if replay.failed or replay.dropped:
            log.error(
                "journal %s: %d writes are too old to be sent: %s; %d are past their deadline: %s",
                self.path, len(replay.failed), name_some(list(replay.failed)),
                len(replay.dropped), name_some(replay.dropped),
            )  # fmt: skip
        return replay

    def record(self, change: Change) -> None:
        """Put a change on disk; JournalError if that fails, and then it is not there.

        Threads that come while another one writes are written together.
        """
        queue, number = self._queue, change.number
        queue[number] = change
        try:
            if self._writer:
                self._wait_for_others(number)
            if number in queue:
                with self._lock:
                    if number in queue:
                        self._write_queued(change)
                    if self._stale:
                        self._remove_some()
        except sqlite3.Error as error:
            raise failure(self.path, error) from error
        finally:
            queue.pop(number, None)

    def forget(self, changes: Iterable[Change]) -> None:
        """Remove changes that were accepted, failed or dropped, and are not superseded here.

        What cannot be removed now is removed later: with the next record, forget, checkpoint or
        tidy, or at close. Does nothing after close: they are sent once more then.
        """
        pairs = [*self._stale, *((change.key, change.number) for change in changes)]
        size = SLICE if self.durability == "process" else max(1, len(pairs))
        try:
            with reported(self.path):
                while pairs and self._soon(partial(self._remove, pairs[:size])):
                    del pairs[:size]
        finally:
            self._stale.update(pairs)

    def tidy(self) -> None:
        """Remove what could not be removed before; that it could not has been told."""
        if self._stale:
            with suppress(JournalError):
                self.forget(())

    def checkpoint(self) -> None:
        """Bring the log home if it has grown; writers wait a millisecond or so."""
        self.tidy()
        if self._unsettled < CHECKPOINT:
            return
        sync(f"{self.path}-wal")  # without the lock: little is left to be written with it
        with reported(self.path):
            self._soon(self._bring_home)

    def close(self) -> None:
        """Give the journal up; in a folder its file goes too if nothing is pending.

        What an interrupt left open, the next call closes.
        """
        with self._lock:
            self.closed = True
            try:
                self._disconnect()
            finally:
                if self._owned:
                    self._owned.release()
                    self._owned = None

    def _disconnect(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            self.tidy()
            self._left = self.pending
        finally:
            self._connection = None
            connection.close()
        if self.folder and not self._left:
            remove(self.path)

    def _begin(self, opened: Opened) -> None:
        self.path, self._owned, self._connection = opened.path, opened.lock, opened.connection
        self._rows, self._damaged = opened.rows, opened.damaged
        self.last_number = max((row.number for row in opened.rows), default=0)

    def _soon(self, work: Callable[[], None]) -> bool:
        """Do something with the lock held; False if another thread does not let go of it.

        That may be the main thread, in a signal handler which waits for us. The main thread itself
        waits for the lock: no other has handlers, and Ctrl-C behind acquire() would leave it taken.
        """
        if threading.current_thread() is threading.main_thread():
            with self._lock:
                work()
            return True
        if not self._lock.acquire(timeout=LOST):
            return False
        try:
            work()
        finally:
            self._lock.release()
        return True

    # With the lock held

    def _remove(self, pairs: Sequence[tuple[str, int]]) -> None:
        for _, number in pairs:
            self._queue.pop(number, None)
        self._run(DELETE, pairs)
        self._stale.difference_update(pairs)

    def _remove_some(self) -> None:
        """Do the same for a part: a writer waits for it, and is not to know of its failure."""
        with suppress(sqlite3.Error):
            self._remove(list(self._stale)[:SLICE])

    def _bring_home(self) -> None:
        connection = self._connection
        if connection and not connection.in_transaction:  # of a record that a handler interrupts
            self._unsettled = 0
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            connection.execute(TOUCH)  # begins the log anew: with an fsync of its own

    def _writable(self) -> sqlite3.Connection | None:
        if self.closed:
            raise ClosedError(f"journal {self.path} has been closed; this write is not in it")
        if self._connection is None and self.folder:
            with reported(self.path):
                self._begin(self._opener.open_new(self.folder))
        if self._is_inert and not self._is_warned:
            self._is_warned = True
            log.warning(
                "journal %s is the parent's: writes of this process, %d, are not in it; name a"
                " folder, in which each process has its own", self.path, os.getpid(),
            )  # fmt: skip
        return self._connection

    def _write_queued(self, change: Change) -> None:
        if self._writable() is None:
            return
        self._writer = threading.get_ident() if self.durability == "power" else None
        try:
            self._put(list(self._queue.values()))
        except sqlite3.Error:
            self._put([change])  # another one's may be what there is no room for
        finally:
            if self._writer:
                self._writer = None
                with self._queueing:
                    self._written.notify_all()

    def _wait_for_others(self, number: int) -> None:
        """Wait, without the lock, while a thread is at an fsync that may be for this change too."""
        with self._queueing:
            while number in self._queue and self._writer not in (None, threading.get_ident()):
                if not self._written.wait(LOST):
                    return

    def _put(self, batch: list[Change]) -> None:
        now, before = self._wall(), self.commits
        rows = [row_of(change, now) for change in batch if self.stands_for(change)]
        self._run(UPSERT, rows)
        if self.commits > before + 1:  # a signal handler's: it may have had some of it accepted
            gone = (change for change in batch if not self.stands_for(change))
            self._stale.update((change.key, change.number) for change in gone)
        self._unsettled += sum(change.size + PAGE for change in batch)
        for change in batch:
            self._queue.pop(change.number, None)

    def _run(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Run the statement for each row, in one commit.

        A signal handler may record between any two lines: its commit takes along what we began.
        """
        connection, before = self._connection, self.commits
        if connection is None or not rows:
            return
        try:
            if len(rows) == 1:
                connection.execute(statement, rows[0])
            else:
                if not connection.in_transaction:
                    connection.execute("BEGIN")
                connection.executemany(statement, rows)
                if not connection.in_transaction and self.commits == before:
                    raise sqlite3.OperationalError("the transaction was rolled back")
            if connection.in_transaction:
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self.commits += 1
