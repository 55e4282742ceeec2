"""What an export writes with: a format's writer, over what bytes are appended to."""

from __future__ import annotations

from typing import BinaryIO, Protocol

from kvdict.models import Entry

RawPair = tuple[str, Entry[bytes]]


class Out(Protocol):
    """What bytes are appended to."""

    def write(self, data: bytes, /) -> object:
        """Append the bytes."""
        ...

    def flush(self) -> int:
        """Let go of what was written; return how many bytes there are."""
        ...

    def commit(self) -> None:
        """Say that it is whole."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class Stream:
    """A stream that belongs to the caller and cannot be gone on with."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._count = 0

    def write(self, data: bytes) -> None:
        """Write all of the bytes, also where a raw stream takes a part of them at a time."""
        rest = memoryview(data)
        while rest:
            written = self._file.write(rest)
            rest = rest[len(rest) if written is None else written :]
        self._count += len(data)

    def flush(self) -> int:
        """Pass on what was written; return how many bytes there were."""
        self._file.flush()
        return self._count

    def commit(self) -> None:
        """Pass on what was written."""
        self.flush()

    def close(self) -> None:
        """Leave it open."""


class Writer(Protocol):
    """Writes pairs in some format; `notes` are what a person should know of the result."""

    notes: list[str]

    def write(self, pairs: list[RawPair]) -> None:
        """Append the pairs."""
        ...

    def flush(self) -> int:
        """Put on disk what was written; return the offset from which to go on."""
        ...

    def commit(self) -> None:
        """End it and move it into place."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class FileWriter:
    """What the formats of one file have in common."""

    def __init__(self, out: Out) -> None:
        self.out = out
        self.notes: list[str] = []

    def flush(self) -> int:
        """Put on disk what was written; return the offset from which to go on."""
        return self.out.flush()

    def commit(self) -> None:
        """Move it into place."""
        self.out.commit()

    def close(self) -> None:
        """Let go of the file."""
        self.out.close()
