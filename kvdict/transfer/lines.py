"""The format "jsonl": a JSON object a line."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from kvdict.transfer.decoder import HUGE_NUMBER, Decoder
from kvdict.transfer.records import (
    MAX_TEXT,
    InvalidError,
    Record,
    Reject,
    encode_pair,
    parse_pair,
)
from kvdict.transfer.writers import FileWriter, RawPair

PIECE = 1_000_000
"""Bytes of a line that are read at a time."""


class LinesWriter(FileWriter):
    """Writes a line for each pair."""

    def write(self, pairs: list[RawPair]) -> None:
        """Append the pairs."""
        self.out.write(b"".join([f"{encode_pair(*pair)}\n".encode() for pair in pairs]))


class Line(NamedTuple):
    """The JSON value of a line, and a name that is repeated in it."""

    number: int
    told: Any
    repeated: str | None


def read_lines(file: BinaryIO, reject: Reject) -> Iterator[Record]:
    """Yield the pairs of the lines."""
    for line in json_lines(file, reject):
        try:
            yield parse_pair(line.told, line.number, line.repeated)
        except InvalidError as error:
            reject(line.number, error.key, str(error))


def json_lines(file: BinaryIO, reject: Reject) -> Iterator[Line]:
    """Yield what the lines hold; blank ones are passed over, others than JSON are rejected.

    Bytes that are not UTF-8 become lone surrogates, so that it can still be told whose they are.
    """
    decoder = Decoder()
    for number, line in enumerate(_lines(file), 1):
        if line is None:
            reject(number, None, f"it has more than {MAX_TEXT} bytes, which no pair takes")
            continue
        text = line.decode("utf-8", "surrogateescape").strip(" \t\r\n")
        if not text:
            continue
        try:
            told = decoder.json.decode(text)
        except (ValueError, RecursionError) as error:
            decoder.repeated()
            hint = "" if line.endswith(b"\n") else " (the file ends in this line: is it whole?)"
            reject(number, None, f"this is not JSON: {_reason(error)}{hint}")
        else:
            yield Line(number, told, decoder.repeated())


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else HUGE_NUMBER


def _lines(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines, None for one that is too long."""
    first = True
    while pieces := _line(file):
        line = b"".join(pieces) if sum(map(len, pieces)) <= MAX_TEXT else None
        if first and line:
            line = line.removeprefix(codecs.BOM_UTF8)
        first = False
        yield line


def _line(file: BinaryIO) -> list[bytes]:
    """Return the pieces of the next line, of one that is too long no more than shows that."""
    pieces: list[bytes] = []
    size = 0
    while piece := file.readline(PIECE):
        if size <= MAX_TEXT:
            pieces.append(piece)
        size += len(piece)
        if piece.endswith(b"\n"):
            break
    return pieces
