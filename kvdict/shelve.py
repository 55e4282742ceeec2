"""The standard library's `shelve`, over a KV namespace: change one import.

>>> from kvdict import shelve
>>> with shelve.open("memory://") as shelf:
...     shelf["point"] = complex(1, 2)
...     shelf["point"]
(1+2j)

A name without `://`, bytes or a path is a file; a URL is what `kvdict.open` takes.

Values are pickled, and unpickling runs whatever code the one who wrote them chose: who can write to
the namespace can run programs where it is read. Open only what you alone write, or give a
`secret`: each value is then signed (HMAC-SHA256, over the full key and the value) and the
signature is looked at before anything is unpickled. What remains to somebody who can write, but
does not know the secret: to delete, and to put back an older value of the same key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from shelve import BsdDbShelf
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from kvdict.anyshelf import Deserializer, Serializer, Shelf, check_both
from kvdict.config import Options
from kvdict.config import open as open_namespace
from kvdict.dbmfiles import kind_of, not_ours, records
from kvdict.envelope import hide
from kvdict.errors import ConfigError, ShelveError
from kvdict.namespace import KVNamespace
from kvdict.secret import Secret
from kvdict.shelf import KVShelf
from kvdict.where import parse_where

if TYPE_CHECKING:
    from typing import Unpack

__all__ = [
    "BsdDbShelf",
    "DbfilenameShelf",
    "KVShelf",
    "Shelf",
    "ShelveError",
    "import_file",
    "open",
]

V = TypeVar("V")

Filename = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Flag = Literal["c", "n", "r", "w"]


class DbfilenameShelf(KVShelf[V]):
    """A shelf by its file name or URL; takes what `open` takes."""

    def __init__(
        self,
        filename: Filename,
        flag: Flag = "c",
        protocol: int | None = None,
        writeback: bool = False,
        *,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        secret: str | bytes | None = None,
        **options: Unpack[Options],
    ) -> None:
        secret, options = hide(secret), _with_hidden_token(options)
        check_both(serializer, deserializer)  # before anything is opened, and made perhaps
        super().__init__(
            _open(filename, flag, options),
            protocol,
            writeback,
            serializer=serializer,
            deserializer=deserializer,
            secret=secret,
        )


def open(
    filename: Filename,
    flag: Flag = "c",
    protocol: int | None = None,
    writeback: bool = False,
    *,
    serializer: Serializer | None = None,
    deserializer: Deserializer | None = None,
    secret: str | bytes | None = None,
    **options: Unpack[Options],
) -> DbfilenameShelf[Any]:
    """Open a shelf: a file, or at a URL what `kvdict.open` opens there.

    flag: "c" makes what is missing, "n" does and empties what is there, "w" needs it to exist,
    "r" too, and refuses writes before any request.
    protocol: that of pickle.
    writeback: keep what was read or assigned, and store at `sync` and `close` what has changed.
    serializer(value, protocol), deserializer(bytes): instead of pickle; what they make is stored
    as it is.
    secret: sign each value; another one's, or one that was moved to another key, is refused.
    Others: buffer, cache, prefix, expiration_ttl, token, account_id, base_url and max_wait, as
    `kvdict.open` takes them.

    Raises ShelveError for a missing file, and for a file that something else has written.
    """
    secret, options = hide(secret), _with_hidden_token(options)
    return DbfilenameShelf(
        filename,
        flag,
        protocol,
        writeback,
        serializer=serializer,
        deserializer=deserializer,
        secret=secret,
        **options,
    )


def import_file(filename: Filename, into: KVShelf[Any] | KVNamespace[Any]) -> int:
    """Store all pairs of a shelve or dbm file of the standard library's; return how many.

    Into a shelf the pickles of a shelf are taken as they are, signed if it has a secret, and
    nothing is unpickled; into a namespace the bytes of any dbm file. A request ten thousand. The
    file stays as it is; this Python needs the dbm module that wrote it.
    """
    count = 0

    def counted() -> Iterator[tuple[str, bytes]]:
        nonlocal count
        for pair in records(os.fsdecode(filename)):
            yield pair
            count += 1

    if isinstance(into, KVShelf):
        into.update_pickled(counted())
    else:
        into.using("bytes").update(counted())
    return count


def _with_hidden_token(options: Options) -> Options:
    token = options.get("token")
    return {**options, "token": Secret(token)} if isinstance(token, str) else options


def _open(filename: Filename, flag: Flag, options: Options) -> KVNamespace[bytes]:
    if flag not in {"c", "n", "r", "w"}:
        raise ConfigError(f"flag is {flag!r}; known are 'c', 'n', 'r' and 'w'")
    taken = {"codec", "create", "readonly"} & options.keys()
    if taken:
        raise ConfigError(f"{min(taken)}= is not for a shelf; its flag and serializer say the same")
    is_url = isinstance(filename, str) and "://" in filename
    where = str(filename) if is_url else Path(os.fsdecode(filename))
    _check_file(where, flag)
    rest: dict[str, Any] = {**options, "create": flag in {"c", "n"}, "readonly": flag == "r"}
    try:
        kv = open_namespace(where, codec="bytes", **rest)
    except ConfigError as error:
        target = parse_where(where)
        if target.kind != "file" or error.__cause__ is None:  # then the file is well
            raise
        path = target.location
        raise (not_ours(path, str(error)) if kind_of(path) else ShelveError(str(error))) from error
    with ExitStack() as stack:  # closed if it cannot be emptied
        stack.enter_context(kv)
        if flag == "n":
            kv.clear()
        stack.pop_all()
    return kv


def _check_file(where: str | Path, flag: Flag) -> None:
    """Raise ShelveError for a file that is missing, or where dbm has its files beside the name."""
    target = parse_where(where)
    if not target.is_new_file:
        return
    if kind_of(target.location):
        raise not_ours(target.location, f"{target.location!r} names files already")
    if flag in {"r", "w"}:
        raise ShelveError(f"{target.location!r} does not exist; flag='c' makes it")
