"""Store: namespaces and their pairs, in SQLite."""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from kvdict.emulator.database import Database, FileDatabase, MemoryDatabase

PURGED_AT_ONCE = 100
"""Expired pairs that one write removes along the way, at most."""
PURGE_SECONDS = 1.0


class Namespace(NamedTuple):
    """A namespace as the API shows it."""

    id: str
    title: str
    jurisdiction: str | None


class Pair(NamedTuple):
    """What is stored under a key; the metadata is JSON text."""

    value: bytes
    expiration: int | None
    metadata: str | None


class Listed(NamedTuple):
    """A key as listings show it: without its value."""

    name: str
    expiration: int | None
    metadata: str | None


class MissingNamespaceError(LookupError):
    """The account has no namespace of that id."""


class TitleTakenError(ValueError):
    """The account has another namespace of that title."""


class CrowdedError(ValueError):
    """The account has as many namespaces as it may."""


class OversizeError(ValueError):
    """The values asked for are larger together than the caller wants to hold."""


_ALIVE = "(expiration IS NULL OR expiration > ?)"
_FIND = "SELECT number FROM namespaces WHERE account = ? AND id = ?"
_LOOK = """SELECT %s, expiration, metadata FROM namespaces AS n
    LEFT JOIN pairs AS p ON p.namespace = n.number AND p.key = ?
    WHERE n.account = ? AND n.id = ?"""
_GET, _METADATA = _LOOK % "value", _LOOK % "key"
_PUT = """INSERT OR REPLACE INTO pairs (namespace, key, value, expiration, metadata)
    SELECT number, ?, ?, ?, ? FROM namespaces WHERE account = ? AND id = ?"""
_LIST = f"""SELECT key, expiration, metadata FROM pairs
    WHERE namespace = ? AND key %s ? AND key < ? AND {_ALIVE}
    ORDER BY key LIMIT ?"""  # noqa: S608 - constants
_LIST_FROM, _LIST_BEHIND = _LIST % ">=", _LIST % ">"
_PURGE = """DELETE FROM pairs WHERE (namespace, key) IN
    (SELECT namespace, key FROM pairs WHERE expiration <= ? LIMIT ?)"""
_SHOWN = "SELECT id, title, jurisdiction FROM namespaces WHERE account = ?"


class Store:
    """Every account's namespaces and pairs, in one SQLite file or in memory.

    Keys are in the order of their UTF-8 bytes. A pair whose expiration has come is invisible.
    Threads share a store, and processes share its file. What is wrong with the file is said by a
    StoreError with its path.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        clock: Callable[[], float] = time.time,
        readonly: bool = False,
    ) -> None:
        self.path = None if path is None else os.path.abspath(os.fsdecode(path))
        self.clock = clock
        self.readonly = readonly
        self._purged = 0.0
        self._database: Database = (
            MemoryDatabase() if self.path is None else FileDatabase(self.path, readonly=readonly)
        )

    def __repr__(self) -> str:
        return f"<Store {self._database.name}{' (closed)' if self._database.closed else ''}>"

    def close(self) -> None:
        """Close the database; a second call does nothing."""
        self._database.close()

    def create(
        self, account: str, title: str, jurisdiction: str | None = None, *, most: int
    ) -> Namespace:
        """Make a namespace, in an account that has at most `most` of them."""
        namespace = Namespace(uuid.uuid4().hex, title, jurisdiction)
        with self._database.transaction() as connection:
            if _title_taken(connection, account, title):
                raise TitleTakenError(title)
            if _count(connection, account) >= most:
                raise CrowdedError(account)
            connection.execute(
                "INSERT INTO namespaces (account, id, title, jurisdiction) VALUES (?, ?, ?, ?)",
                (account, *namespace),
            )
        return namespace

    def count(self, account: str) -> int:
        """Return how many namespaces the account has."""
        with self._database.reading() as connection:
            return _count(connection, account)

    def namespaces(
        self, account: str, *, order: str, descending: bool, limit: int, offset: int
    ) -> list[Namespace]:
        """Return a page of the account's namespaces by "id" or "title"."""
        column = {"id": "id", "title": "title"}[order]  # no other text becomes a part of SQL
        direction = "DESC" if descending else "ASC"
        query = f"{_SHOWN} ORDER BY {column} {direction} LIMIT ? OFFSET ?"
        with self._database.reading() as connection:
            rows = connection.execute(query, (account, limit, offset)).fetchall()
        return [Namespace(*row) for row in rows]

    def namespace(self, account: str, namespace: str) -> Namespace:
        """Return one namespace."""
        with self._database.reading() as connection:
            row = connection.execute(f"{_SHOWN} AND id = ?", (account, namespace)).fetchone()
        if row is None:
            raise MissingNamespaceError(namespace)
        return Namespace(*row)

    def rename(self, account: str, namespace: str, title: str) -> Namespace:
        """Give a namespace another title, and return it."""
        with self._database.transaction() as connection:
            number = _number(connection, account, namespace)
            if _title_taken(connection, account, title, other_than=number):
                raise TitleTakenError(title)
            connection.execute("UPDATE namespaces SET title = ? WHERE number = ?", (title, number))
        return self.namespace(account, namespace)

    def drop(self, account: str, namespace: str) -> None:
        """Delete a namespace with all its pairs."""
        with self._database.transaction() as connection:
            number = _number(connection, account, namespace)
            connection.execute("DELETE FROM pairs WHERE namespace = ?", (number,))
            connection.execute("DELETE FROM namespaces WHERE number = ?", (number,))

    def get(self, account: str, namespace: str, key: str) -> Pair | None:
        """Return what is stored under a key."""
        row = self._look(_GET, account, namespace, key)
        return None if row is None else Pair(*row)

    def metadata(self, account: str, namespace: str, key: str) -> Listed | None:
        """Return what is known of a key without reading its value."""
        row = self._look(_METADATA, account, namespace, key)
        return None if row is None else _listed(row)

    def get_many(
        self, account: str, namespace: str, keys: Sequence[str], *, most_bytes: int
    ) -> dict[str, Pair]:
        """Return what is stored under the keys; OversizeError beyond `most_bytes` of values."""
        names = [key.encode() for key in keys]
        marks = ", ".join("?" * len(names))
        query = f"""SELECT key, value, expiration, metadata FROM pairs
            WHERE namespace = ? AND key IN ({marks}) AND {_ALIVE}"""  # noqa: S608 - question marks
        found: dict[str, Pair] = {}
        size = 0
        with self._database.reading() as connection:
            number = _number(connection, account, namespace)
            for key, *pair in connection.execute(query, (number, *names, self.clock())):
                size += len(pair[0])
                if size > most_bytes:
                    raise OversizeError(size)
                found[key.decode()] = Pair(*pair)
        return found

    def keys(
        self, account: str, namespace: str, *, prefix: str = "", after: str = "", limit: int
    ) -> list[Listed]:
        """Return the keys behind `after`, in order."""
        start = prefix.encode()
        end = start + b"\xff"  # no byte of UTF-8 is that high
        behind = after.encode()
        # One lower bound, not two: SQLite would seek the first and step from there to the second.
        query, low = (_LIST_FROM, start) if start > behind else (_LIST_BEHIND, behind)
        with self._database.reading() as connection:
            number = _number(connection, account, namespace)
            rows = connection.execute(query, (number, low, end, self.clock(), limit)).fetchall()
        return [_listed(row) for row in rows]

    def put(self, account: str, namespace: str, key: str, pair: Pair) -> None:
        """Store a pair."""
        with self._database.writing() as connection:
            self._purge(connection)
            row = (key.encode(), *pair, account, namespace)
            if connection.execute(_PUT, row).rowcount == 0:
                raise MissingNamespaceError(namespace)

    def put_many(self, account: str, namespace: str, pairs: Iterable[tuple[str, Pair]]) -> None:
        """Store all of the pairs, or none."""
        rows = [(key.encode(), *pair, account, namespace) for key, pair in pairs]
        with self._database.transaction() as connection:
            _number(connection, account, namespace)
            self._purge(connection)
            connection.executemany(_PUT, rows)

    def delete_many(self, account: str, namespace: str, keys: Iterable[str]) -> None:
        """Forget the keys, whether they are there or not."""
        names = [key.encode() for key in keys]
        with self._database.transaction() as connection:
            number = _number(connection, account, namespace)
            self._purge(connection)
            connection.executemany(
                "DELETE FROM pairs WHERE namespace = ? AND key = ?",
                [(number, name) for name in names],
            )

    def _look(self, query: str, account: str, namespace: str, key: str) -> tuple[Any, ...] | None:
        """Return the key's row of `_GET` or `_METADATA`, None if it is missing or over."""
        with self._database.reading() as connection:
            row = connection.execute(query, (key.encode(), account, namespace)).fetchone()
        if row is None:
            raise MissingNamespaceError(namespace)
        first, expiration, _ = row
        is_over = expiration is not None and expiration <= self.clock()
        return None if first is None or is_over else row

    def _purge(self, connection: sqlite3.Connection) -> None:
        """Remove some expired pairs, now and then."""
        now = self.clock()
        if abs(now - self._purged) < PURGE_SECONDS:
            return
        removed = connection.execute(_PURGE, (now, PURGED_AT_ONCE)).rowcount
        if removed < PURGED_AT_ONCE:
            self._purged = now


def _number(connection: sqlite3.Connection, account: str, namespace: str) -> int:
    row = connection.execute(_FIND, (account, namespace)).fetchone()
    if row is None:
        raise MissingNamespaceError(namespace)
    return int(row[0])


def _count(connection: sqlite3.Connection, account: str) -> int:
    query = "SELECT count(*) FROM namespaces WHERE account = ?"
    return int(connection.execute(query, (account,)).fetchone()[0])


def _title_taken(
    connection: sqlite3.Connection, account: str, title: str, other_than: int = -1
) -> bool:
    query = "SELECT 1 FROM namespaces WHERE account = ? AND title = ? AND number <> ?"
    return connection.execute(query, (account, title, other_than)).fetchone() is not None


def _listed(row: tuple[bytes, int | None, str | None]) -> Listed:
    return Listed(row[0].decode(), row[1], row[2])
