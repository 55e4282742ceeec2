"""A file that is written beside its name and moved into place when it is whole."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from kvdict.errors import TransferError

SUFFIX = ".part"


def beside(target: Path) -> Path:
    """Return where the file is while it is written."""
    return target.with_name(target.name + SUFFIX)


class Draft:
    """The file TARGET.part, which goes on behind so many bytes; TARGET once it is committed."""

    def __init__(self, target: Path, path: Path, offset: int) -> None:
        self._target = target
        self.path = path
        self.file: BinaryIO = open_at(path, offset)
        keep_mode(target, path, also=stat.S_IRUSR | stat.S_IWUSR)

    def write(self, data: bytes) -> None:
        """Append the bytes."""
        self.file.write(data)

    def flush(self) -> int:
        """Put on disk what was written; return how many bytes there are."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.tell()

    def commit(self) -> None:
        """Move the file into place."""
        self.flush()
        self.file.close()
        keep_mode(self._target, self.path)
        self.path.replace(self._target)
        sync_folder(self._target.parent)

    def close(self) -> None:
        """Close the file, which stays where it is."""
        self.file.close()


def open_at(path: Path, offset: int) -> BinaryIO:
    """Open a file to write behind so many bytes; TransferError if it has fewer."""
    if offset and not path.exists():
        raise _lost(path)
    file: BinaryIO = open(path, "r+b" if offset else "wb", opener=no_link)  # noqa: SIM115 - returned
    try:
        if file.seek(0, os.SEEK_END) < offset:
            raise _lost(path)
        file.truncate(offset)
        file.seek(offset)
    except BaseException:
        file.close()
        raise
    return file


def no_link(path: str, flags: int) -> int:
    """Open a file beside the one that was named; OSError for a link, which nobody named."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def keep_mode(target: Path, path: Path, *, also: int = 0) -> None:
    """Give what will take the target's place its rights, if it is there, and these besides."""
    with suppress(FileNotFoundError):
        path.chmod(stat.S_IMODE(target.stat().st_mode) | also)


def sync_folder(path: Path) -> None:
    """Put a renaming on disk, where the system lets one."""
    if not hasattr(os, "O_DIRECTORY"):  # pragma: no cover - Windows has none
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lost(path: Path) -> TransferError:
    return TransferError(
        f"{path} is not as long as the state says it was; begin anew, without resume"
    )
