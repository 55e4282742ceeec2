"""Who owns a journal: the process that has locked the file beside it."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

from kvdict.errors import JournalError

NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
"""Else a link that somebody put into a shared folder would have us empty another file."""


class Lock:
    """The right to a journal: a locked file beside it, which holds the owner's process id."""

    def __init__(self, journal: str) -> None:
        self.path = f"{journal}.lock"
        while True:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | NOFOLLOW, 0o600)
            try:
                self._take(journal)
                if _is_at(self._file, self.path):  # else its owner has just removed it
                    os.truncate(self._file, 0)
                    os.write(self._file, b"%d\n" % os.getpid())
                    return
            except BaseException:
                self.abandon()
                raise
            self.abandon()

    def release(self) -> None:
        """Remove and unlock the file; what an interrupt left undone, the next call does."""
        with suppress(OSError):
            if _is_at(self._file, self.path):  # else it is the next owner's by now
                os.unlink(self.path)
        self.abandon()

    def abandon(self) -> None:
        """Close the file, which unlocks it unless a parent or child has it open too."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def _take(self, journal: str) -> None:
        try:
            _lock(self._file)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
                raise  # pragma: no cover - a file system that has no locks
            text = os.read(self._file, 20).strip()
            pid = int(text) if text.isdigit() else 0
            raise JournalError(
                f"journal {journal} is in use by process {pid or 'unknown'}, or by a child of it;"
                " close it there, or name another file or a folder",
                path=journal,
                pid=pid,
            ) from error


if sys.platform == "win32":  # pragma: no cover - Windows
    import msvcrt

    def _lock(file: int) -> None:
        """Lock a byte that nobody reads: others are to see the process id."""
        os.lseek(file, 1 << 30, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(file: int, path: str) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), os.stat(path))
    return False
