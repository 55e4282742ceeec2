"""The format "dir": a file for each key, and a side file that lists them with what else they have.

`.kvdict.jsonl` has a line for each key: key, metadata, expiration. The names of the files follow
from the keys alone, so that no side file leads anywhere else; a file that is not listed belongs to
the key that its name says.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from kvdict.errors import TransferError
from kvdict.limits import MAX_VALUE_BYTES, key_problem
from kvdict.transfer.draft import beside, claim, keep_mode, lost, open_at, sync_folder
from kvdict.transfer.filenames import file_name, key_of
from kvdict.transfer.lines import Line, json_lines
from kvdict.transfer.records import (
    InvalidError,
    Record,
    Reject,
    encode,
    encode_about,
    parse_about,
    parse_key,
    refuse_other_fields,
)
from kvdict.transfer.seen import Seen
from kvdict.transfer.writers import RawPair

SIDE_FILE = ".kvdict.jsonl"
SIDE_FIELDS = "key", "metadata", "expiration"
# A link is not followed, and a pipe not waited for.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
)


class FolderWriter:
    """Writes the directory TARGET.part, which is TARGET once it is committed.

    One export has it at a time.
    """

    def __init__(self, target: Path, offset: int) -> None:
        self.notes: list[str] = []
        self._target = target
        self._folder = beside(target)
        check_free(target)
        if not offset:
            _check_ours(self._folder)
            self._folder.mkdir(exist_ok=True)
        elif not self._folder.exists():
            raise lost(self._folder)
        side = self._folder / SIDE_FILE
        with ExitStack() as opened:
            opened.enter_context(_claimed(self._folder))
            if offset:
                _delete_unconfirmed(self._folder, side, offset)
            else:
                _clear(self._folder)
                keep_mode(target, self._folder, also=stat.S_IRWXU)
            self._side = opened.enter_context(open_at(side, offset))
            self._opened = opened.pop_all()

    def write(self, pairs: list[RawPair]) -> None:
        """Append the pairs: first their lines, so that no file is ever there without its own."""
        lines = [encode({"key": key, **encode_about(entry)}) for key, entry in pairs]
        self._side.write("".join([f"{line}\n" for line in lines]).encode())
        self._side.flush()
        for key, entry in pairs:
            with (self._folder / file_name(key)).open("xb") as file:
                file.write(entry.value)

    def flush(self) -> int:
        """Put the side file on disk; return its length."""
        self._side.flush()
        os.fsync(self._side.fileno())
        return self._side.tell()

    def commit(self) -> None:
        """Move the directory into place."""
        self.flush()
        self._side.close()
        keep_mode(self._target, self._folder)
        if self._target.is_dir():
            self._target.rmdir()
        self._folder.replace(self._target)
        sync_folder(self._target.parent)

    def close(self) -> None:
        """Close the side file, and let others have the directory."""
        self._opened.close()


def check_free(target: Path) -> None:
    """Raise TransferError if there is something in place of the directory."""
    if target.is_symlink() or (target.exists() and not _is_empty(target)):
        raise TransferError(
            f"{target} is there already; a directory is not written over: name another, or"
            " move it away"
        )


def open_side_file(folder: Path) -> BinaryIO | None:
    """Open the side file, None if there is none."""
    try:
        return _open(folder / SIDE_FILE)
    except FileNotFoundError:
        return None
    except InvalidError as error:
        raise TransferError(f"{folder / SIDE_FILE}: {error}") from None


def read_folder(folder: Path, side: BinaryIO | None, reject: Reject) -> Iterator[Record]:
    """Yield the pairs of the side file in its order, then those of other files by name."""
    with Seen() as listed:
        for line in json_lines(side, reject) if side else ():
            yield from _listed(folder, line, listed, reject)
        for name in _others(folder, listed):
            yield from _unlisted(folder, name, key_of(name), reject)


def _others(folder: Path, listed: Seen) -> Iterator[str]:
    """Yield the names of the files that are not listed, in order; hidden ones are passed over."""
    with Seen() as others:
        for entry in os.scandir(folder):
            if not entry.name.startswith(".") and entry.name not in listed:
                others.add(entry.name)
        yield from others


def _listed(folder: Path, line: Line, listed: Seen, reject: Reject) -> Iterator[Record]:
    try:
        key = parse_key(line.told)
        name = file_name(key)
        listed.add(name)
        refuse_other_fields(line.told, line.repeated, SIDE_FIELDS)
        metadata, expiration, _ = parse_about(key, line.told)
        yield Record(line.number, key, _read(folder / name, key), metadata, expiration)
    except InvalidError as error:
        reject(line.number, error.key, str(error))


def _unlisted(folder: Path, name: str, key: str | None, reject: Reject) -> Iterator[Record]:
    if key is None:
        reject(None, None, f"the name of the file {name!r} says no key, and no side file does")
        return
    problem = key_problem(key)
    if problem:
        reject(None, key, problem)
        return
    try:
        yield Record(None, key, _read(folder / name, key))
    except InvalidError as error:
        reject(None, error.key, str(error))


def _read(path: Path, key: str) -> bytes:
    """Return the bytes of a value's file; InvalidError for anything but a plain one."""
    try:
        with _open(path) as file:
            # No more than there is: what read() allocates it does not always give back.
            data = file.read(min(os.fstat(file.fileno()).st_size, MAX_VALUE_BYTES) + 1)
    except FileNotFoundError:
        raise InvalidError(f"its file {path.name!r} is missing", key) from None
    except PermissionError as error:
        raise InvalidError(f"its file {path.name!r}: {error.strerror}", key) from None
    except InvalidError as error:
        raise InvalidError(f"its file {path.name!r}: {error}", key) from None
    if len(data) > MAX_VALUE_BYTES:
        raise InvalidError(
            f"its file {path.name!r} has more than the {MAX_VALUE_BYTES} bytes (25 MiB) that a"
            " value may have",
            key,
        )
    return data


def _open(path: Path) -> BinaryIO:
    """Open a plain file; InvalidError for a link, a directory, a pipe."""
    try:
        number = os.open(path, _FLAGS)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EMLINK, errno.ENXIO}:
            raise InvalidError("it is a link or no plain file, and not followed") from None
        raise
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise InvalidError("it is no plain file")
    return os.fdopen(number, "rb")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Keep other exports out of the directory, where the system lets one lock it."""
    if not hasattr(os, "O_DIRECTORY"):  # pragma: no cover - Windows has none
        yield
        return
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        claim(number, folder)
        yield
    finally:
        os.close(number)


def _check_ours(folder: Path) -> None:
    """Raise TransferError for what is neither empty nor what an export has left unfinished."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise TransferError(f"{folder} is in the way; move it")
    if folder.exists() and not _is_empty(folder) and not (folder / SIDE_FILE).is_file():
        raise TransferError(f"{folder} is in the way, and no unfinished export; move it")


def _clear(folder: Path) -> None:
    """Delete what an earlier export has left unfinished, last what tells that it is one."""
    names = [entry.name for entry in os.scandir(folder) if entry.name != SIDE_FILE]
    for name in names:
        (folder / name).unlink()
    (folder / SIDE_FILE).unlink(missing_ok=True)


def _delete_unconfirmed(folder: Path, side: Path, offset: int) -> None:
    """Delete the files of the lines behind the offset: they are written again, or gone by now."""
    try:
        file = side.open("rb")
    except FileNotFoundError:  # open_at says so
        return
    with file:
        file.seek(offset)
        for line in file:
            if line.endswith(b"\n"):  # else the process was killed before it wrote the files
                (folder / file_name(json.loads(line)["key"])).unlink(missing_ok=True)
