"""The format "wrangler": the array that `wrangler kv bulk put` reads, what `bulk get` prints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from kvdict.errors import TransferError
from kvdict.phrases import shorten
from kvdict.transfer.jsontext import JSONText
from kvdict.transfer.records import InvalidError, Record, Reject, encode_pair, parse_pair
from kvdict.transfer.writers import FileWriter, Out, RawPair


class ArrayWriter(FileWriter):
    """Writes the array; what wrangler will refuse is written too, and noted."""

    def __init__(self, out: Out, *, offset: int, done: int) -> None:
        super().__init__(out)
        self._first = not done
        self._refused = 0
        if not offset:
            out.write(b"[")

    def write(self, pairs: list[RawPair]) -> None:
        """Append the pairs."""
        for key, entry in pairs:
            before = "\n" if self._first else ",\n"
            self._first = False
            self.out.write(f"{before}{encode_pair(key, entry)}".encode())
            if isinstance(entry.metadata, str | int | float):
                self._note(key)

    def commit(self) -> None:
        """End the array and move it into place."""
        self.out.write(b"\n]\n")
        super().commit()

    def _note(self, key: str) -> None:
        self._refused += 1
        more = f" and of {self._refused - 1} before it" if self._refused > 1 else ""
        note = f"the metadata of key {shorten(key)}{more} is no object: kvdict imports it,"
        self.notes = [f"{note} wrangler kv bulk put refuses the file"]


def read_wrangler(file: BinaryIO, reject: Reject) -> Iterator[Record]:
    """Yield the pairs of an array, or of the object that `wrangler kv bulk get` prints.

    TransferError where it is not JSON: what follows cannot be told apart then.
    """
    text = JSONText(file)
    if text.take("[{") == "[":
        yield from _array(text, reject)
    else:
        yield from _object(text, reject)


def _array(text: JSONText, reject: Reject) -> Iterator[Record]:
    if text.peek() == "]":
        text.take("]")
    else:
        while True:
            text.peek()
            line = text.line
            yield from _record(text, line, text.value(), reject)
            if text.take(",]") == "]":
                break
    if text.peek():
        raise TransferError(
            f"line {text.line}: the array ends before the file does; what follows was not read",
            line=text.line,
        )


def _object(text: JSONText, reject: Reject) -> Iterator[Record]:
    """Yield the pairs of {key: value}, or {key: {"value": value}}; null is a missing key.

    Wrangler prints a word behind it.
    """
    if text.peek() == "}":
        return
    while True:
        text.peek()
        line, key = text.line, text.value()
        text.take(":")
        told = text.value()
        fields: dict[str, Any] = told if isinstance(told, dict) else {"value": told}
        if fields.get("value") is not None:
            yield from _record(text, line, {**fields, "key": key}, reject)
        if text.take(",}") == "}":
            return


def _record(text: JSONText, line: int, told: Any, reject: Reject) -> Iterator[Record]:
    try:
        yield parse_pair(told, line, text.decoder.repeated())
    except InvalidError as error:
        reject(line, error.key, str(error))
