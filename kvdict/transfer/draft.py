"""A file that is written beside its name and moved into place when it is whole."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from kvdict.errors import TransferError

SUFFIX = ".part"


def beside(target: Path) -> Path:
    """Return where the file is while it is written."""
    return target.with_name(target.name + SUFFIX)


class Draft:
    """The file TARGET.part, which goes on behind so many bytes; TARGET once it is committed.

    One export has it at a time.
    """

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
        if sys.platform == "win32":  # pragma: no cover - Windows moves no open file
            self.file.close()
        keep_mode(self._target, self.path)
        self.path.replace(self._target)
        self.file.close()  # not before: another export would begin with the same file
        sync_folder(self._target.parent)

    def close(self) -> None:
        """Close the file, which stays where it is."""
        self.file.close()


def open_at(path: Path, offset: int) -> BinaryIO:
    """Open a file to write behind so many bytes; TransferError if it has fewer, or is in use."""
    if offset and not path.exists():
        raise lost(path)
    file = os.fdopen(no_link(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)), "r+b")
    try:
        claim(file.fileno(), path)
        if file.seek(0, os.SEEK_END) < offset:
            raise lost(path)
        file.truncate(offset)
        file.seek(offset)
    except BaseException:
        file.close()
        raise
    return file


def claim(file: int, path: Path) -> None:
    """Lock what is open at the path until it is closed; TransferError if somebody has it."""
    try:
        _lock(file)
        if os.path.samestat(os.fstat(file), path.stat()):  # else it was just moved into place
            return
    except (BlockingIOError, FileNotFoundError):
        pass
    raise TransferError(
        f"{path} is being written by another export; wait for its end, or name another target"
    )


if sys.platform == "win32":  # pragma: no cover - Windows

    def _lock(_file: int) -> None:
        """Leave it: Windows lets nobody else move or delete an open file."""
else:
    import fcntl

    def _lock(file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # pragma: no cover - a file system that has no locks
            pass


def no_link(path: str | Path, flags: int) -> int:
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


def lost(path: Path) -> TransferError:
    """Return the error for what is not all there."""
    return TransferError(
        f"{path} is not as long as the state says it was; begin anew, without resume"
    )
