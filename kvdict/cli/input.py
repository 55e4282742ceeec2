"""What the command reads: stdin, which may be closed."""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import BinaryIO


def data_in() -> BinaryIO:
    """Return stdin for bytes; OSError if it is closed."""
    if sys.stdin is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "stdin")
    return sys.stdin.buffer


def answer() -> str:
    """Return the line that a person answers, empty where nobody does."""
    return "" if sys.stdin is None else sys.stdin.readline()


def is_piped() -> bool:
    """Tell whether stdin was given on purpose: /dev/null, as jobs have it, was not."""
    if sys.stdin is None:
        return False
    kind = os.fstat(sys.stdin.fileno()).st_mode
    return stat.S_ISFIFO(kind) or stat.S_ISREG(kind) or stat.S_ISSOCK(kind)
