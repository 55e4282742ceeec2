"""Opening a journal: a file of one's own, or in a folder a new one that takes over the dead's."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal

from kvdict.errors import JournalError
from kvdict.journalcheck import Damaged, read_rows, refuse_strangers
from kvdict.journalfile import create, digest, open_own, remove, set_aside
from kvdict.journallock import Lock
from kvdict.journalrows import Row, merge_rows

log = logging.getLogger("kvdict")


@dataclass(frozen=True, slots=True)
class Opened:
    """A journal's own file, locked, and what was found: rows to replay, damaged files set aside."""

    path: str
    lock: Lock
    connection: sqlite3.Connection
    rows: list[Row]
    damaged: list[str] = field(default_factory=list)


class Opener:
    """Opens the journals of one namespace."""

    def __init__(self, namespace: str, durability: Literal["process", "power"]) -> None:
        self._namespace = namespace
        self._durability = durability

    def open_file(self, path: str) -> Opened:
        """Open a file, made if it is missing, and made anew if it was damaged."""
        refuse_strangers(path)
        damaged: list[str] = []
        lock = Lock(path)
        try:
            rows = self._take_over(path, damaged)
            if rows is None:
                create(path, self._namespace, [])
            return self._opened(path, lock, rows or [], damaged)
        except BaseException:
            lock.release()
            raise

    def open_in(self, folder: str) -> Opened:
        """Take over the files of dead processes, and have their changes in a file of our own."""
        with ExitStack() as locks:
            found: list[Row] = []
            adopted: list[str] = []
            damaged: list[str] = []
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)
                if name.startswith(f"{digest(self._namespace)}-") and name.endswith(".journal"):
                    rows = self._adopt(path, locks, damaged)
                    if rows is not None:
                        found += rows
                        adopted.append(path)
            opened = self.open_new(folder, merge_rows(found), damaged)
            for path in adopted:
                remove(path)
            return opened

    def open_new(
        self, folder: str, rows: list[Row] | None = None, damaged: list[str] | None = None
    ) -> Opened:
        """Make a file in the folder that holds these rows."""
        name = f"{digest(self._namespace)}-{os.getpid()}-{secrets.token_hex(4)}.journal"
        path = os.path.join(folder, name)
        lock = Lock(path)
        try:
            create(path, self._namespace, rows or [])
            return self._opened(path, lock, rows or [], damaged or [])
        except BaseException:
            remove(path)
            lock.release()
            raise

    def _opened(self, path: str, lock: Lock, rows: list[Row], damaged: list[str]) -> Opened:
        return Opened(path, lock, open_own(path, self._durability), rows, damaged)

    def _adopt(self, path: str, locks: ExitStack, damaged: list[str]) -> list[Row] | None:
        try:
            lock = Lock(path)
            locks.callback(lock.release)
            return self._take_over(path, damaged)
        except (OSError, sqlite3.Error) as error:
            if not isinstance(error, JournalError) or error.pid is None:  # else its owner lives
                log.error("journal %s was not adopted, and left as it is: %s", path, error)
            return None

    def _take_over(self, path: str, damaged: list[str]) -> list[Row] | None:
        """Return the rows of a file that we have the lock of; set it aside if it is damaged."""
        try:
            return read_rows(path, self._namespace)
        except Damaged as error:
            aside = set_aside(path)
            damaged.append(aside)
            log.error("journal %s is damaged (%s); it was set aside as %s", path, error, aside)
            return None
