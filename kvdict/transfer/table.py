"""A table on disk that nobody else sees: a million rows take little memory."""

from __future__ import annotations

from typing import Self


class Table:
    """A temporary table of SQLite's, gone when it is closed; `definition` is its name and columns.

    `run` and `run_many` are the connection's execute and executemany.
    """

    def __init__(self, definition: str) -> None:
        import sqlite3  # costs as much as all the rest of kvdict.transfer

        # "" is SQLite's name of a temporary file, which is deleted at once.
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self.run = self._connection.execute
        self.run_many = self._connection.executemany
        self.run("PRAGMA journal_mode=OFF")
        self.run("PRAGMA synchronous=OFF")
        self.run(f"CREATE TABLE {definition} WITHOUT ROWID")
        self.run("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        """Delete the table."""
        self._connection.close()
