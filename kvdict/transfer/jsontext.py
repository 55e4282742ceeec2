"""JSON text of any length, a value at a time, in bounded memory."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, BinaryIO

from kvdict.errors import TransferError
from kvdict.transfer.decoder import HUGE_NUMBER, Decoder
from kvdict.transfer.records import MAX_TEXT

READ = 65_536
NEAR_THE_END = 12
"""Characters at the end that a word or an escape may be cut off in."""
_BLANKS = re.compile(r"[ \t\r\n]*")


class JSONText:
    """A binary file of JSON; bytes that are not UTF-8 become lone surrogates.

    `line` is the line of what comes next.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.line = 1
        self.decoder = Decoder()
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._text = ""
        self._is_begun = False
        self._at = 0
        self._ended = False

    def peek(self) -> str:
        """Return the next character that is not blank, "" at the end."""
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            self._go_to(blanks.end() if blanks else self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read_more():
                return ""

    def take(self, wanted: str) -> str:
        """Return the next character if it is one of those wanted; TransferError for another."""
        found = self.peek()
        if not found or found not in wanted:
            expected = " or ".join(map(repr, wanted))
            raise self._broken(f"expected {expected}" + (f", not {found!r}" if found else ""))
        self._go_to(self._at + 1)
        return found

    def value(self) -> Any:
        """Return the next value; TransferError if there is none."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._may_go_on(error) or not self._read_more():
                    raise self._broken(error.msg) from None
                self.decoder.repeated()
            except ValueError:
                raise self._broken(HUGE_NUMBER) from None
            except RecursionError:
                raise self._broken("it is nested too deeply") from None
            else:
                if end < len(self._text) or not self._read_more():
                    self._go_to(end)
                    return value
                self.decoder.repeated()

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Tell whether the error may be that the rest of the value is not read yet."""
        if error.msg.startswith("Unterminated string"):
            return True
        return error.pos >= len(self._text) - NEAR_THE_END

    def _read_more(self) -> bool:
        """Read at least as much as is waiting, so that long values are not decoded often."""
        if self._ended:
            return False
        self._text = self._text[self._at :]
        self._at = 0
        if len(self._text) > MAX_TEXT:
            raise TransferError(
                f"line {self.line}: a pair of more than {MAX_TEXT} characters, more than a value"
                " of 25 MiB can take; nothing behind it was read",
                line=self.line,
            )
        data = self._file.read(max(READ, len(self._text)))
        self._ended = not data
        more = self._decode(data, not data)
        self._text += more if self._is_begun else more.removeprefix("\ufeff")
        self._is_begun = self._is_begun or bool(more)
        return True

    def _go_to(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _broken(self, reason: str) -> TransferError:
        """Return the error of what cannot be gone past."""
        hint = " (the file ends here: is it whole?)" if self._ended else ""
        return TransferError(
            f"line {self.line}: this is not JSON: {reason}{hint}; nothing behind it was read",
            line=self.line,
        )
