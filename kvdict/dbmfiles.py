"""Files of the standard library's dbm modules, to be read and left as they are."""

from __future__ import annotations

import dbm
import os
from collections.abc import Iterator
from contextlib import closing
from importlib import import_module

from kvdict.errors import KVError, ShelveError


def not_ours(path: str, reason: str) -> ShelveError:
    """Return the error for what may be a file of theirs where one of ours was to be opened."""
    return ShelveError(
        f"{reason}; it looks like a shelf or dbm file of the standard library's ({kind_of(path)})"
        " and was left as it is. If it is one, take it along into a new file:"
        f" kvdict.shelve.import_file({path!r}, kvdict.shelve.open({path + '.kv'!r}))"
    )


def kind_of(path: str) -> str | None:
    """Name the dbm module that wrote what has this name; None and "" if that is not known."""
    # To open and close a file that this process has open with SQLite would drop its locks.
    if os.path.exists(f"{path}-wal"):
        return "dbm.sqlite3"
    if not os.path.exists(path) and os.path.exists(f"{path}.db-wal"):
        return None
    return dbm.whichdb(path)


def records(path: str) -> Iterator[tuple[str, bytes]]:
    """Yield the pairs of a dbm file; ShelveError if it cannot be read, or a key is not text."""
    kind = kind_of(path)
    if kind is None:
        raise ShelveError(f"{path!r} does not exist, or may not be read")
    if not kind:
        raise ShelveError(f"{path!r} is not a dbm file that this Python knows; see dbm.whichdb")
    try:
        with closing(import_module(kind).open(path, "r")) as file:
            for key in file.keys():  # noqa: SIM118 - some are no mappings
                yield _text(path, key), file[key]
    except KVError:
        raise
    except ImportError as error:
        raise ShelveError(
            f"{path!r} was written by {kind}, which this Python does not have; import it where it"
            " was written"
        ) from error
    except (*dbm.error, ValueError, SyntaxError) as error:
        raise ShelveError(f"{path!r} cannot be read as {kind}: {error}") from error


def _text(path: str, key: str | bytes) -> str:
    try:
        return key if isinstance(key, str) else key.decode()
    except UnicodeDecodeError as error:
        raise ShelveError(f"{path!r}: the key {key!r} is not UTF-8, as keys of KV are") from error
