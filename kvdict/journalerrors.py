"""What goes wrong with a journal's file, as a JournalError that says what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from kvdict.errors import JournalError

ADVICE = {
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; see that its folder exists and is yours to write",
    sqlite3.SQLITE_READONLY: "is read-only; make it writable, or name another file",
    sqlite3.SQLITE_PERM: "may not be accessed; check its permissions",
    sqlite3.SQLITE_FULL: "has no room left; free some on its disk, then try again",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check its disk for room and health",
    sqlite3.SQLITE_BUSY: "is open in another program; close it there",
    sqlite3.SQLITE_CORRUPT: "is damaged; open the journal anew: it is set aside then",
}


@contextmanager
def reported(path: str) -> Iterator[None]:
    """Let every failure of a file leave as a JournalError."""
    try:
        yield
    except JournalError:
        raise
    except sqlite3.Error as error:
        raise failure(path, error) from error
    except OSError as error:
        raise JournalError(
            f"journal {path} cannot be used: {error.strerror}; see that its folder exists, has room"
            " and is yours to write",
            path=path,
        ) from error


def failure(path: str, error: sqlite3.Error) -> JournalError:
    """Return our error for SQLite's, with what to do."""
    advice = ADVICE.get(code_of(error), "gave an error")
    return JournalError(f"journal {path} {advice} (SQLite: {error})", path=path)


def code_of(error: sqlite3.Error) -> int:
    """Return SQLite's code for the error, without what an extended one adds."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
