"""Bodies: what a connection carries after a request's headers, and not a byte more."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

MOST_SKIPPED = 1 << 30
"""Bytes of an unread body that are read and dropped to keep a connection; more closes it."""
LONGEST_LINE = 1024
PIECE = 1 << 16


class Body(io.RawIOBase):
    """A body being read; `before` runs once, when somebody first wants to see of it."""

    def __init__(self, source: io.BufferedIOBase, before: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.complete = False
        self._broken = False
        self._source = source
        self._before = before

    @property
    def unasked(self) -> bool:
        """Whether the client still waits to be asked for the body."""
        return self._before is not None

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes of the body, none at its end."""
        if self._before is not None:
            before, self._before = self._before, None
            before()
        if self._broken:
            raise ValueError("the body makes no sense")
        self._broken = True  # until this read has gone well
        left = self._left()
        data = self._source.read(min(left, len(buffer))) if left else b""
        buffer[: len(data)] = data
        if left:
            self._took(len(data))
        self._broken = False
        return len(data)

    def skip(self) -> bool:
        """Drop what nobody has read; say whether the body's end was reached."""
        skipped = 0
        while not (self.complete or self._broken or self.unasked) and skipped <= MOST_SKIPPED:
            piece = self.read(PIECE)
            if not piece:
                break
            skipped += len(piece)
        return self.complete

    @abstractmethod
    def _left(self) -> int:
        """Return how many bytes may be read at once."""

    @abstractmethod
    def _took(self, count: int) -> None:
        """Take note of bytes that have been read."""


class SizedBody(Body):
    """A body whose length was announced."""

    def __init__(
        self, source: io.BufferedIOBase, length: int, before: Callable[[], None] | None = None
    ) -> None:
        super().__init__(source, before if length else None)
        self._rest = length
        self.complete = length == 0

    def _left(self) -> int:
        return self._rest

    def _took(self, count: int) -> None:
        self._rest -= count
        self.complete = self._rest == 0


class ChunkedBody(Body):
    """A body in chunks, each after its own length."""

    def __init__(self, source: io.BufferedIOBase, before: Callable[[], None] | None = None) -> None:
        super().__init__(source, before)
        self._chunk = 0

    def _left(self) -> int:
        if not self._chunk and not self.complete:
            self._chunk = int(self._line().partition(b";")[0].strip(), 16)
            if self._chunk < 0:
                raise ValueError("a chunk of negative length")
            if not self._chunk:
                self._skip_trailers()
        return self._chunk

    def _took(self, count: int) -> None:
        if not count:
            raise ValueError("the last chunk is missing")
        self._chunk -= count
        if not self._chunk and self._line():
            raise ValueError("a chunk is longer than announced")

    def _skip_trailers(self) -> None:
        while self._line():
            pass
        self.complete = True

    def _line(self) -> bytes:
        line = self._source.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            raise ValueError("a line of a chunked body is cut off or too long")
        return line.rstrip(b"\r\n")
