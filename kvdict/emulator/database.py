"""Database: an SQLite file, or memory, behind a few connections that threads share."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from kvdict.emulator.files import StoreError, connect, failure, initialise, locate
from kvdict.emulator.forks import watch

FORK_SECONDS = 5.0
IDLE_CONNECTIONS = 8


class Database(ABC):
    """Connections to one database; every failure leaves as a StoreError."""

    name: str

    def __init__(self) -> None:
        # Re-entrant: a signal handler may use the store that it interrupted.
        self._lock = threading.RLock()
        self.closed = False
        watch(self)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the one connection for writing; each statement commits by itself."""
        try:
            with self._lock:
                yield self._writer()
        except sqlite3.Error as error:
            raise failure(self.name, error) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for writing; all of the block is stored, or nothing."""
        with self.writing() as connection:
            if connection.in_transaction:  # a signal handler's write joins what it interrupted
                yield connection
                return
            try:  # an interrupt that came while BEGIN waited is raised once it has begun
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @abstractmethod
    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Lend a connection for reading."""

    @abstractmethod
    def _writer(self) -> sqlite3.Connection: ...

    @abstractmethod
    def close(self) -> None:
        """Close every connection; a second call does nothing."""

    @abstractmethod
    def before_fork(self) -> None:
        """Come to rest, with the lock held."""

    def after_fork(self, child: bool) -> None:
        """Go on; a child does so with a fresh lock."""
        if child:
            self._lock = threading.RLock()
        else:
            self._lock.release()

    def _check_open(self) -> None:
        if self.closed:
            raise StoreError(f"{self.name} has been closed; open it anew")


class MemoryDatabase(Database):
    """A private database in memory: one connection, which a forked child has its own copy of."""

    name = "the store in memory"

    def __init__(self) -> None:
        self._connection = connect(":memory:")
        initialise(self._connection)
        super().__init__()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection, to one thread at a time."""
        with self.writing() as connection:
            yield connection

    def _writer(self) -> sqlite3.Connection:
        self._check_open()
        return self._connection

    def close(self) -> None:
        """Close the connection, and with it forget everything."""
        with self._lock:
            self.closed = True
            self._connection.close()

    def before_fork(self) -> None:
        """Wait for the connection to be at rest."""
        self._lock.acquire()


class FileDatabase(Database):
    """A file in WAL mode: one connection writes, while a pool of others reads undisturbed.

    Before a fork all of them are closed: SQLite's locks belong to a process, so a child that
    inherits connections believes in locks it does not have, and its parent, closing, would
    remove the log that the child goes on writing to.
    """

    def __init__(self, path: str, *, readonly: bool) -> None:
        self.name = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._opened = 0
        self._opening = threading.RLock()
        self._own: sqlite3.Connection | None = None
        try:
            self._uri = locate(path, readonly=readonly)
        except sqlite3.Error as error:
            raise failure(path, error) from error
        self._identity = _identity(path)
        super().__init__()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend an idle connection of the pool, or a new one."""
        try:
            connection = self._idle_one() or self._new_one()
            try:
                yield connection
            finally:
                self._take_back(connection)
        except sqlite3.Error as error:
            raise failure(self.name, error) from error

    def _idle_one(self) -> sqlite3.Connection | None:
        with suppress(IndexError):  # another thread may be faster
            return self._idle.pop()
        return None

    def _new_one(self) -> sqlite3.Connection:
        with self._opening:
            self._check_open()
            connection = connect(self._uri)
            self._opened += 1
            return connection

    def _take_back(self, connection: sqlite3.Connection) -> None:
        self._idle.append(connection)
        if self.closed:
            self._drain()
        elif len(self._idle) > IDLE_CONNECTIONS and self._opening.acquire(blocking=False):
            self._drain(keep=IDLE_CONNECTIONS)
            self._opening.release()

    def _drain(self, keep: int = 0) -> None:
        with suppress(IndexError):
            while len(self._idle) > keep:
                self._idle.pop().close()
                self._opened -= 1

    def _writer(self) -> sqlite3.Connection:
        self._check_place()
        if self._own is None:
            with self._opening:
                self._check_open()
                self._own = connect(self._uri)
        return self._own

    def _check_place(self) -> None:
        """Refuse to write to a file that is not at its path any more: it would vanish on close."""
        if _identity(self.name) != self._identity:
            raise StoreError(f"{self.name} was removed or replaced while open; open it again")

    def close(self) -> None:
        """Close every connection; those that are lent out follow on their return."""
        with self._lock, self._opening:
            self.closed = True
            self._put_down()

    def _put_down(self) -> None:
        self._drain()
        if self._own is not None:
            self._own.close()
            self._own = None

    def before_fork(self) -> None:
        """Close every connection, waiting for those that are lent out."""
        self._lock.acquire()
        self._opening.acquire()
        deadline = time.monotonic() + FORK_SECONDS
        self._put_down()
        while self._opened and time.monotonic() < deadline:
            time.sleep(0.001)
            self._drain()

    def after_fork(self, child: bool) -> None:
        """Let connections be opened again."""
        if child:
            self._opening = threading.RLock()
            self._opened = 0
        else:
            self._opening.release()
        super().after_fork(child)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
