"""The journal's file: where it lies, how it is made, opened, set aside and removed.

A row a key, in an SQLite file in WAL mode. The process that has the lock file is the owner; the
one connection holds SQLite's own lock too, which spares it a shared index and half the time.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from kvdict.journalerrors import reported
from kvdict.journalrows import Row

APPLICATION_ID = 0x6B764A6F
"""What marks a file as a journal in SQLite's header: "kvJo"."""
VERSION = 1
PAGE = 2048
"""Bytes: larger ones make small values slower, smaller ones large values."""
CHECKPOINT = 2_000_000
"""Bytes written, about, that are worth a checkpoint."""
AUTOCHECKPOINT = 32_000
"""Pages in the log at which a writer has to do it: the flusher has not come for a long time."""
BUSY_SECONDS = 2.0

# With row ids: without them a search would read every value, of 25 MiB perhaps, that it passes.
SCHEMA = (
    "CREATE TABLE journal (namespace TEXT NOT NULL, checkpoints INTEGER NOT NULL)",
    """CREATE TABLE writes (
        key TEXT NOT NULL PRIMARY KEY, number INTEGER NOT NULL, deadline REAL,
        absolute INTEGER NOT NULL, metadata TEXT, value BLOB, recorded REAL NOT NULL)""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)
UPSERT = """INSERT INTO writes VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET
    number = excluded.number, deadline = excluded.deadline, absolute = excluded.absolute,
    metadata = excluded.metadata, value = excluded.value, recorded = excluded.recorded
    WHERE excluded.number > number"""
DELETE = "DELETE FROM writes WHERE key = ? AND number <= ?"
TOUCH = "UPDATE journal SET checkpoints = checkpoints + 1"


def place(path: str) -> tuple[str, str | None]:
    """Return the path without links, and again if it is a folder, which is made if need be."""
    is_folder = path.endswith((os.sep, os.altsep or os.sep))
    place = os.path.realpath(path)
    with reported(place):
        if is_folder:
            with suppress(FileExistsError):
                os.mkdir(place, 0o700)
        return place, place if is_folder or os.path.isdir(place) else None


def digest(namespace: str) -> str:
    """Return the namespace as it stands in a file's name."""
    return hashlib.sha256(namespace.encode()).hexdigest()[:16]


def connect(path: str, mode: str) -> sqlite3.Connection:
    """Return a connection in autocommit mode that any thread may use."""
    connection = sqlite3.connect(
        f"{Path(path).as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA trusted_schema = OFF")  # who made the file may be a stranger
    return connection


def open_own(path: str, durability: str) -> sqlite3.Connection:
    """Return the owner's connection, which has proved that it can write."""
    for name in (path, f"{path}-wal"):
        with suppress(FileNotFoundError):
            os.chmod(name, os.stat(name).st_mode & 0o700)  # never more than it had
    connection = connect(path, "rw")
    try:
        for setting in (
            "locking_mode = EXCLUSIVE",
            "journal_mode = WAL",
            f"synchronous = {'FULL' if durability == 'power' else 'NORMAL'}",
            f"fullfsync = {durability == 'power'}",
            f"wal_autocheckpoint = {AUTOCHECKPOINT}",
            f"journal_size_limit = {8 * CHECKPOINT}",
        ):
            connection.execute(f"PRAGMA {setting}")
        connection.execute(TOUCH)
    except BaseException:
        connection.close()
        raise
    return connection


def create(path: str, namespace: str, rows: list[Row]) -> None:
    """Make a journal that holds these rows, all of it or nothing."""
    new = f"{path}.new"
    remove(new)
    try:
        os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        os.chmod(new, 0o600)
        with closing(connect(new, "rw")) as connection:
            for setting in ("journal_mode = OFF", "synchronous = FULL", f"page_size = {PAGE}"):
                connection.execute(f"PRAGMA {setting}")
            connection.execute("BEGIN")
            for statement in SCHEMA:
                connection.execute(statement)
            connection.execute("INSERT INTO journal VALUES (?, 0)", (namespace,))
            connection.executemany(UPSERT, rows)
            connection.execute("COMMIT")
            connection.execute("PRAGMA journal_mode = WAL")
        remove(path)
        os.replace(new, path)
        sync(os.path.dirname(path))
    except BaseException:
        remove(new)
        raise


def sync(path: str) -> None:
    """Have what was written to the file, or folder, on the disk."""
    with suppress(OSError):  # not everywhere can a folder be opened
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


def set_aside(path: str) -> str:
    """Rename a journal and its log, and return the new name."""
    number = 1
    while any(os.path.lexists(f"{path}.damaged-{number}{part}") for part in ("", "-wal")):
        number += 1
    aside = f"{path}.damaged-{number}"
    for part in ("", "-wal"):
        with suppress(FileNotFoundError):
            os.rename(path + part, aside + part)
    return aside


def remove(path: str) -> None:
    """Remove a journal with all its parts."""
    for part in ("", "-wal", "-shm", "-journal"):  # the log alone is nothing, the file alone is old
        remove_part(path + part)


def remove_part(path: str) -> None:
    """Remove one file, if it is there."""
    with suppress(FileNotFoundError):
        os.unlink(path)


def size_of(path: str) -> int:
    """Return the bytes of a file, 0 for a missing one."""
    with suppress(FileNotFoundError):
        return os.stat(path).st_size
    return 0
