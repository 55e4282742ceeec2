"""Which namespace it is, by whatever WHERE it was opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

from kvdict.errors import TransferError
from kvdict.transfer.namespaces import KV

BESIDE = "", "-wal", "-shm", "-journal", ".lock"
"""What is added to a database's name for the files that belong to it, the last of a journal's."""


def identity(kv: KV) -> str:
    """Return a text that is the same for the same namespace, and without secrets."""
    home = kv._backing.home
    place = home.place if home.local else f"{kv.client.transport.base_url}/{kv.client.account_id}"
    database = _database(kv)
    if database is not None:
        place = f"sqlite:///{database}"
    if place == "memory://":  # private: another one each time
        place = f"memory://#{id(home)}"
    return f"{place}/{kv.id}"


def check_apart(source: KV, target: KV, prefix: str = "") -> None:
    """Raise TransferError if what is read and what is written may be the same pairs."""
    if identity(source) != identity(target):
        return
    read, written = source.prefix + prefix, target.prefix + prefix
    if read.startswith(written) or written.startswith(read):
        raise TransferError(
            f"source and target are the same: {target!r}; name two namespaces, or two prefixes"
            " of which neither begins with the other"
        )


def check_not_own(path: Path, *kvs: KV) -> None:
    """Raise TransferError if the path is a file that one of the namespaces lies in."""
    for kv in kvs:
        if any(_is_same(path, file) for file in _files(kv)):
            raise TransferError(
                f"{path} is a file of {kv!r} itself, and would be destroyed; name another file"
            )


def _files(kv: KV) -> Iterator[Path]:
    """Yield the files of a local namespace, and of an open journal, there or not."""
    journal = kv._backing.flusher.journal
    for database in (_database(kv), Path(os.path.realpath(journal.path)) if journal else None):
        if database is not None:
            yield from (database.with_name(database.name + ending) for ending in BESIDE)


def _database(kv: KV) -> Path | None:
    """Return the file that a local namespace lies in, links followed; None for another one."""
    scheme, _, path = kv._backing.home.place.partition(":///")
    if scheme != "sqlite":
        return None
    return Path(os.path.realpath(os.fsdecode(unquote_to_bytes(path))))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there
        return one == other
