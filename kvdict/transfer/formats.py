"""The formats by name: which writer a target gets, which reader a source."""

from __future__ import annotations

import codecs
import io
import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from kvdict.dbmfiles import kind_of, records
from kvdict.errors import ConfigError, TransferError
from kvdict.transfer.draft import Draft, beside
from kvdict.transfer.folder import FolderWriter, open_side_file, read_folder
from kvdict.transfer.lines import LinesWriter, read_lines
from kvdict.transfer.paths import as_path, is_device
from kvdict.transfer.records import Record, Reject
from kvdict.transfer.wrangler import ArrayWriter, read_wrangler
from kvdict.transfer.writers import Out, Stream, Writer

Format = Literal["jsonl", "wrangler", "dir"]
SourceFormat = Literal["jsonl", "wrangler", "dir", "dbm", "shelve"]
"""What is read: also files of the standard library's dbm modules; of a shelf, its pickles."""

_SQLITE = b"SQLite format 3\0"
_WHICH = "say whether it is a shelf, whose values are pickles (format shelve), or not (format dbm)"
_A_DATABASE = (
    "an SQLite database, not an export; one of kvdict's is a namespace, sqlite:///FILE, to be"
    f" copied; of one of dbm's {_WHICH}"
)
_UTF_16 = codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE
BUFFER = 65_536


def check_format(format: str, formats: Any = Format) -> None:
    """Raise ConfigError for a format that there is not."""
    if format not in get_args(formats):
        known = ", ".join(map(repr, get_args(formats)))
        raise ConfigError(f"format is {format!r}, understood are {known}")


def open_target(target: Any, path: Path | None, format: Format, offset: int, done: int) -> Writer:
    """Return a writer to a path, which goes on behind the offset and so many pairs, or a stream."""
    if format == "dir":
        if path is None:
            raise ConfigError("the format 'dir' needs the name of a directory, not a stream")
        return FolderWriter(path, offset)
    if path is not None and path.is_dir():
        raise TransferError(f"{path} is a directory; name a file, or take the format 'dir'")
    out: Out = Stream(target) if path is None else Draft(path, beside(path), offset)
    return LinesWriter(out) if format == "jsonl" else ArrayWriter(out, offset=offset, done=done)


@dataclass
class Opened:
    """A source that is read: its pairs, and how far its file is read, None if it is not known."""

    records: Iterator[Record]
    close: Callable[[], None]
    file: BinaryIO | None = None
    size: int = 0

    def fraction(self) -> float | None:
        """Return the share of the file that was read, None if its size is not known."""
        return min(1.0, self.file.tell() / self.size) if self.file and self.size else None


def open_source(source: Any, format: SourceFormat | None, reject: Reject) -> Opened:
    """Open a file, a directory or a stream to read the pairs of."""
    path = as_path(source)
    if format in {"dbm", "shelve"}:
        return _open_dbm(path, pickled=format == "shelve")
    if path is None:
        stream = io.BufferedReader(_Raw(source), BUFFER)
        return Opened(_records(stream, format, reject), lambda: None)
    if path.is_dir():
        return _open_folder(path, format, reject)
    if format == "dir":
        raise TransferError(f"{path} is no directory; its format is another")
    kind = kind_of(str(path)) if format is None and not is_device(path) else None
    if kind == "dbm.sqlite3":  # which is also what one of ours looks like
        raise TransferError(f"{path} is {_A_DATABASE}")
    if kind:
        raise TransferError(f"{path} is a file of the standard library's {kind}: {_WHICH}")
    file = io.BufferedReader(io.FileIO(path), BUFFER)
    try:
        size = 0 if is_device(path) else os.fstat(file.fileno()).st_size
        return Opened(_records(file, format, reject), file.close, file, size)
    except BaseException:
        file.close()
        raise


def _open_dbm(path: Path | None, *, pickled: bool) -> Opened:
    """Open a dbm file; the pickles of a shelf become what the codec "pickle" stores."""
    if path is None:
        raise ConfigError("a dbm file needs the name of a file, not a stream")
    pairs = records(str(path))
    stored = ((key, b64encode(data) if pickled else data) for key, data in pairs)
    return Opened((Record(None, key, data) for key, data in stored), lambda: None)


def _open_folder(path: Path, format: SourceFormat | None, reject: Reject) -> Opened:
    if format not in {None, "dir"}:
        raise TransferError(f"{path} is a directory; its format is 'dir', not {format!r}")
    side = open_side_file(path)
    records = read_folder(path, side, reject)
    if side is None:
        return Opened(records, lambda: None)
    return Opened(records, side.close, side, os.fstat(side.fileno()).st_size)


def _records(
    file: io.BufferedReader[Any], format: SourceFormat | None, reject: Reject
) -> Iterator[Record]:
    head = file.peek(BUFFER)
    if head.startswith(_UTF_16):
        raise TransferError("the file is in UTF-16; save it as UTF-8", line=1)
    if (format or _detect(head)) == "wrangler":
        return read_wrangler(file, reject)
    return read_lines(file, reject)


def _detect(head: bytes) -> Format:
    """Say the format by how the file begins; TransferError if that is none."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"["):
        return "wrangler"
    if text.startswith(b"{"):  # wrangler breaks the line behind it, the other format never does
        return "wrangler" if text[1:].lstrip(b" \t\r").startswith(b"\n") else "jsonl"
    if text.startswith(_SQLITE):
        raise TransferError(f"the file is {_A_DATABASE}", line=1)
    if text:
        raise TransferError(
            f"the file begins with {text[:20]!r}, expected JSON: an object a line (jsonl), or an"
            " array (wrangler)",
            line=1,
        )
    return "jsonl"


class _Raw(io.RawIOBase):
    """Somebody else's stream, which stays open, to be buffered."""

    def __init__(self, file: BinaryIO) -> None:
        self._read: Callable[[int], bytes] = getattr(file, "read1", file.read)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
