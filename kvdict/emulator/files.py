"""Files: finding, making and refusing the SQLite file behind a store."""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

APPLICATION_ID = 0x6B764469
"""What marks a file as ours in SQLite's header: "kvDi"."""
VERSION = 1
BUSY_SECONDS = 30.0
SMALLEST = 512
"""Bytes of the smallest database; SQLite takes anything shorter for an empty one."""

JOURNAL_HEADER = struct.Struct(">8s4x4xI")
"""SQLite's rollback journal: magic, records, a nonce, the pages that the database had before."""
JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")

# With row ids: without them a search would read every value, of 25 MiB perhaps, that it passes.
SCHEMA = (
    """CREATE TABLE namespaces (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, jurisdiction TEXT,
        UNIQUE (account, id), UNIQUE (account, title))""",
    """CREATE TABLE pairs (
        namespace INTEGER NOT NULL, key BLOB NOT NULL,
        expiration INTEGER, metadata TEXT, value BLOB NOT NULL,
        UNIQUE (namespace, key))""",
    "CREATE INDEX expirations ON pairs (expiration) WHERE expiration IS NOT NULL",
    f"PRAGMA user_version = {VERSION}",
    f"PRAGMA application_id = {APPLICATION_ID}",
)

ADVICE = {
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; see that its folder exists and is yours to write",
    sqlite3.SQLITE_NOTADB: "is not an SQLite database; name another file",
    sqlite3.SQLITE_READONLY: "is read-only; make it writable, or write elsewhere",
    sqlite3.SQLITE_PERM: "may not be accessed; check its permissions",
    sqlite3.SQLITE_FULL: "has no room left; free some on its disk, then try again",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check its disk for room and health",
    sqlite3.SQLITE_BUSY: "is held by another process; try again once that one has finished",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore it from a copy",
}


class StoreError(Exception):
    """The database cannot be used: the text names the file and says what to do."""


def failure(name: str, error: sqlite3.Error) -> StoreError:
    """Say in words what SQLite reported about the database called `name`."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    advice = ADVICE.get(code, "gave an error")
    return StoreError(f"{name} {advice} (SQLite: {error})")


class Connection(sqlite3.Connection):
    """A connection that a program need not close at its end.

    When it is dropped SQLite closes it in any case, since Python 3.13 with a ResourceWarning.
    """

    def __del__(self) -> None:
        """Close it without a warning."""
        with suppress(sqlite3.Error):  # of one that was never opened
            self.close()


def connect(uri: str) -> Connection:
    """Return a connection in autocommit mode that any thread may use."""
    connection = sqlite3.connect(
        uri,
        factory=Connection,
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=64,
    )
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA trusted_schema = OFF")  # who made the file may be a stranger
    except BaseException:
        connection.close()
        raise
    return connection


def locate(path: str, *, readonly: bool) -> str:
    """Return the URI to open the file with, after making sure that the file is ours."""
    path = os.path.realpath(path)  # SQLite, too, puts its log beside a link's target
    base = Path(path).as_uri()
    if _is_vacant(path) or _is_empty(base, path):
        if readonly:
            raise StoreError(
                f"{path}: there is nothing to read; open it once without readonly=True"
            )
        _create(base)
        _is_empty(base, path)  # refuses what somebody else may have made of it meanwhile
    uri = _first_that_opens(base, path, readonly=readonly)
    if "mode=rw" in uri:
        _turn_to_wal(uri)
    return uri


def initialise(connection: sqlite3.Connection) -> None:
    """Make the tables, unless somebody else has just done so."""
    connection.execute("BEGIN IMMEDIATE")
    if _signature(connection) == (0, 0, 0):  # pragma: no branch - another may be faster
        for statement in SCHEMA:
            connection.execute(statement)
    connection.execute("COMMIT")


def _signature(connection: sqlite3.Connection) -> tuple[int, int, int]:
    row = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    return (row[0], row[1], row[2])


def _is_vacant(path: str) -> bool:
    """Say whether there is nothing yet at the path, in a folder that exists."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            raise StoreError(f"{path}: there is no folder {folder}; create it first") from None
        return True
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a file; name one")
    if 0 < found.st_size < SMALLEST:
        raise StoreError(f"{path} is not an SQLite database; name another file")
    return found.st_size == 0


def _is_empty(base: str, path: str) -> bool:
    """Say whether a database has no tables yet; refuse one that is not ours."""
    application, version, tables = _examine(base, path)
    if (application, version, tables) == (0, 0, 0):
        return True
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is the database of another application; name another file")
    if version != VERSION:
        raise StoreError(
            f"{path} has layout {version}, this kvdict knows layout {VERSION}; use a newer kvdict"
        )
    return False


def _examine(base: str, path: str) -> tuple[int, int, int]:
    # A stranger's file must stay as it is: no recovery, no checkpoint, no side files if possible.
    # Never with open(): closing it would drop the locks this process holds on the file.
    for uri in (*_undisturbing(base, path), f"{base}?mode=ro"):
        with suppress(sqlite3.OperationalError), closing(connect(uri)) as connection:
            return _signature(connection)
    # Who wrote it was killed in the middle, and only a writer may undo that.
    if _began_empty(f"{path}-journal"):
        return (0, 0, 0)
    half_written = os.path.exists(f"{path}-journal")
    with closing(connect(f"{base}?mode=ro{'&immutable=1' if half_written else ''}")) as connection:
        return _signature(connection)


def _began_empty(journal: str) -> bool:
    """Tell whether undoing what the journal is of leaves a database without a page."""
    try:
        with open(journal, "rb") as file:
            header = file.read(JOURNAL_HEADER.size)
    except FileNotFoundError:
        return False
    if len(header) < JOURNAL_HEADER.size:
        return False
    magic, pages = JOURNAL_HEADER.unpack(header)
    return bool(magic == JOURNAL_MAGIC and pages == 0)


def _undisturbing(base: str, path: str) -> Iterator[str]:
    if not os.path.exists(f"{path}-wal") and not os.path.exists(f"{path}-journal"):
        yield f"{base}?mode=ro&immutable=1"


def _create(base: str) -> None:
    with closing(connect(f"{base}?mode=rwc")) as connection:
        initialise(connection)


def _first_that_opens(base: str, path: str, *, readonly: bool) -> str:
    ways = ["mode=ro"] if readonly else ["mode=rw", "mode=ro"]
    for uri in (*(f"{base}?{way}" for way in ways), *_undisturbing(base, path)):
        with suppress(sqlite3.OperationalError), closing(connect(uri)) as connection:
            connection.execute("SELECT 1 FROM namespaces LIMIT 1")
            return uri
    raise StoreError(f"{path} cannot be opened; see that it and its folder are yours to use")


def _turn_to_wal(uri: str) -> None:
    """Switch the file to WAL mode, which waits for nobody by itself."""
    deadline = time.monotonic() + BUSY_SECONDS
    with closing(connect(uri)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_READONLY:
                    return
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return
