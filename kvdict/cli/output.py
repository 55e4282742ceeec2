"""What the command writes: data to stdout, everything else to stderr, colour for people alone."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, TextIO

import click

from kvdict.cli.words import printable

_above: list[Callable[[str], None]] = []
"""How to say something while a progress bar is at the bottom of the terminal; the last one goes."""


def data_out() -> BinaryIO:
    """Return stdout for bytes; OSError if it is closed."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return sys.stdout.buffer


def put_line(text: str) -> None:
    """Write a line of data; a person who looks on sees it at once."""
    data_out().write(text.encode() + b"\n")
    if is_terminal(sys.stdout):
        data_out().flush()


def put_json(told: Any) -> None:
    """Write a JSON value as one line."""
    put_line(as_json(told))


def as_json(told: Any) -> str:
    """Return the JSON text in one line, in ASCII where a lone surrogate makes it necessary."""
    text = json.dumps(told, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(told)
    return text


def flush() -> None:
    """See that stdout took all that was written."""
    if sys.stdout is not None:
        sys.stdout.flush()


def say(text: str) -> None:
    """Say one sentence on stderr."""
    line = f"kvdict: {text}"
    if _above:
        _above[-1](line)
        return
    with suppress(OSError):  # who does not listen is not told
        click.echo(line.encode(errors="backslashreplace"), err=True)


def say_above(write: Callable[[str], None]) -> None:
    """Let `write` say what is said, above a progress bar, until `say_plainly`."""
    _above.append(write)


def say_plainly() -> None:
    """Take back what `say_above` did."""
    _above.pop()


def discard_output() -> None:
    """Throw away what stdout could not take: the interpreter would try, and complain, once more."""
    with suppress(OSError, ValueError):
        flush()
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a person looks at the stream, which may be closed."""
    return stream is not None and stream.isatty()


def paint(text: str, **style: Any) -> str:
    """Return the text in colour, if stdout is a terminal whose owner has nothing against it."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not is_terminal(sys.stdout) else click.style(text, **style)


def shown(text: str) -> str:
    """Return a key for a line of stdout: escaped where a person looks, as it is in a pipe."""
    return printable(text) if is_terminal(sys.stdout) else text
