"""What a journal holds that somebody left: its rows, if it is a journal, whole, and ours."""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
import sys
from contextlib import closing, suppress

from kvdict.errors import JournalError
from kvdict.journalerrors import code_of
from kvdict.journalfile import APPLICATION_ID, VERSION, connect, remove_part, size_of
from kvdict.journalrows import Row

SMALLEST = 512
"""Bytes of the smallest database; SQLite takes anything shorter for an empty one."""
SQLITE = b"SQLite format 3\0"
"""What every database begins with."""
ROWS = "SELECT * FROM writes ORDER BY number"
DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, 0}


class Damaged(Exception):  # noqa: N818 - it never leaves the journal
    """The file holds something else than what was written into it."""


def refuse_strangers(path: str) -> None:
    """Raise JournalError for a file that is no database and that nobody has locked as a journal.

    It is somebody's own, named by mistake; a damaged journal has the lock file of its last owner.
    A device or a pipe is nobody's: it keeps nothing, and a journal would take its place.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise JournalError(
                f"journal {path} is no file, and keeps nothing; name a file or a folder", path=path
            )
    with suppress(FileNotFoundError), open(path, "rb") as file:
        head = file.read(len(SQLITE))
        if head and head != SQLITE and not os.path.lexists(f"{path}.lock"):
            raise JournalError(
                f"journal {path} is no journal and no database; name another file, or move this"
                " one away",
                path=path,
            )


def read_rows(path: str, namespace: str) -> list[Row] | None:
    """Return a journal's rows, None for an empty or missing file, without changing a byte.

    Damaged if it is no journal any more.
    """
    if not size_of(path):
        if size_of(f"{path}-wal"):
            raise Damaged("its log has no file")
        return None
    with open(path, "rb+") as file:  # SQLite would make do with less
        _check_owner(path, file.fileno())
    if size_of(path) < SMALLEST:
        raise Damaged("it is too short")
    try:
        with closing(connect(path, "ro")) as connection:
            if not _is_journal(path, connection):
                return None
            _check_whole(path, connection)
            (theirs,) = connection.execute("SELECT namespace FROM journal").fetchone()
            if theirs != namespace:
                raise JournalError(
                    f"journal {path} is of the namespace {theirs!r}, not of {namespace!r};"
                    " name another file",
                    path=path,
                )
            return [_checked(Row(*row)) for row in connection.execute(ROWS)]
    except sqlite3.Error as error:
        if code_of(error) in DAMAGE:
            raise Damaged(str(error)) from error
        raise
    finally:  # what looking has made
        remove_part(f"{path}-shm")
        if not size_of(f"{path}-wal"):
            remove_part(f"{path}-wal")


def _check_owner(path: str, file: int) -> None:
    """Raise JournalError for another user's journal: what it holds would be sent as ours."""
    if sys.platform != "win32" and os.fstat(file).st_uid != os.geteuid():
        raise JournalError(
            f"journal {path} belongs to another user, and what it holds is not sent; name another"
            " file or folder, or make it yours with chown",
            path=path,
        )


def _is_journal(path: str, connection: sqlite3.Connection) -> bool:
    """Tell a journal from an empty database; JournalError for any other."""
    application, version, tables = connection.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if (application, version, tables) == (0, 0, 0):
        return False
    if application != APPLICATION_ID:
        raise JournalError(
            f"journal {path} is the database of another application; name another file", path=path
        )
    if version > VERSION:
        raise JournalError(
            f"journal {path} has format {version}, this kvdict knows format {VERSION}; use a newer"
            " kvdict, or name another file",
            path=path,
        )
    return True


def _checked(row: Row) -> Row:
    if isinstance(row.key, str) and isinstance(row.value, bytes | None):
        return row
    raise Damaged(f"the row of key {row.key!r} is no write")


def _check_whole(path: str, connection: sqlite3.Connection) -> None:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise Damaged(found)
    with suppress(FileNotFoundError), open(f"{path}-shm", "rb") as index:
        # Bytes 16 to 19 of the shared index: the last frame that SQLite found good.
        (last,) = struct.unpack("=I", index.read(20)[16:])
        _check_log(f"{path}-wal", last)


def _check_log(path: str, last: int) -> None:
    """Raise Damaged if the log goes on behind what SQLite, which says nothing of it, believes.

    A commit that broke off may follow, and then frames of an earlier round, but none of this one.
    """
    with open(path, "rb") as file:
        head = file.read(32)
        if len(head) < 32:
            return
        if not _is_log_head(head):
            raise Damaged("the head of its log is broken")
        (page,) = struct.unpack(">I", head[8:12])
        file.seek(last * (24 + page), os.SEEK_CUR)
        is_over = False
        while frame := file.read(24):
            is_current = frame[8:16] == head[16:24]
            if is_current and is_over:
                raise Damaged(f"its log is broken behind frame {last}")
            is_over = is_over or not is_current or any(frame[4:8])
            file.seek(page, os.SEEK_CUR)


def _is_log_head(head: bytes) -> bool:
    """Compare the checksum of SQLite's file format, section 4.2."""
    order = {0x377F0682: "<", 0x377F0683: ">"}.get(int.from_bytes(head[:4]))
    if order is None:
        return False
    words = struct.unpack(f"{order}6I", head[:24])
    first = second = 0
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return struct.unpack(">2I", head[24:]) == (first, second)
