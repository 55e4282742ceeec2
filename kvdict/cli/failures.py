"""From an exception to one sentence that says what to do, and an exit code."""

from __future__ import annotations

import errno
import os
import re
from enum import IntEnum

import click

from kvdict.answers import may_pass
from kvdict.errors import (
    APIError,
    FlushError,
    KVError,
    ServerError,
    TransportError,
)


class Code(IntEnum):
    """The exit codes."""

    DONE = 0
    DIFFERENT = 1
    USAGE = 2
    REFUSED = 3
    PARTLY = 4


class Failure(Exception):  # noqa: N818 - it may also be news, such as a missing key
    """What ends the command with a sentence on stderr and a code."""

    def __init__(self, sentence: str, code: Code) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.code = code


MIDWAY = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EPIPE}
"""What goes wrong with a file while it is written; all else is wrong with its name or rights."""

_IN_OTHER_WORDS = (
    (r"kvdict\.Account\('(.*?)'\) lists", r"`kvdict namespaces list --account \1` lists"),
    (r"kvdict\.Account\(\) lists", "`kvdict namespaces list` lists"),
    (r"kvdict\.open\(\.\.\., create=True\) makes", r"`kvdict namespaces create` makes"),
    (r"(; understood are|; one of|, to one of)\n.*", r"; `kvdict --help` says what WHERE can be"),
    (r" or pass token=", ""),
    (r", pass account_id=,", ""),
    (r"kvdict\.open\('(sqlite:///.*?)'\)", r"\1"),
    (r"; pass create=True", "; `kvdict namespaces create` makes one"),
    (r"skip_invalid", "--skip-invalid"),
    (r"with state=", "with --state"),
    (r"without resume", "without --resume"),
    (r"the format '(\w+)'", r"--format \1"),
    (r"\(format (\w+)\)", r"(--format \1)"),
    (r": there is nothing to read; .*", r": there is no such file; is its name right?"),
    (r"<KVNamespace ('.*?') .*?>", r"\1"),
    (r"expiration_ttl is", "the time to live (--ttl) is"),
    (r"a time to live is an expiration_ttl", "a time to live is --ttl"),
    (r"give expiration_ttl or expiration, not both", "give --ttl or --expiration, not both"),
    (r"say which, for example datetime\.now.*", "say which, for example 2030-01-31T12:00:00Z"),
    (r", other options are keyword arguments of kvdict\.open", ""),
    (r"\s*\n\s*", " "),
)  # fmt: skip
"""What the library advises to a program, as the command advises it to a person."""


def explain(error: BaseException) -> Failure:
    """Return the sentence and the code for whatever was raised."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, click.UsageError):
        return Failure(_usage(error), Code.USAGE)
    if isinstance(error, KVError):
        return _explain_ours(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Failure("stopped", Code.PARTLY)
    if isinstance(error, BrokenPipeError):
        return Failure("the reader closed the pipe: not all was written", Code.PARTLY)
    if isinstance(error, OSError):
        return _explain_file(error)
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Failure(f"unexpected {said}; --debug shows where, please report it", Code.PARTLY)


def in_words(message: str) -> str:
    """Return a message of the library in one line, its advice as the command says it."""
    for pattern, words in _IN_OTHER_WORDS:
        message = re.sub(pattern, words, message, flags=re.DOTALL)
    return message


def _explain_ours(error: KVError) -> Failure:
    sentence = in_words(str(error))
    if not isinstance(error, APIError | TransportError | FlushError):
        return Failure(sentence, Code.USAGE)
    if isinstance(error, FlushError) and error.failed:
        key, reason = next(iter(error.failed.items()))
        sentence += f"; {key!r}: {reason}"
    if isinstance(error, ServerError) or may_pass(error):
        sentence += _gave_up()
    return Failure(sentence, Code.REFUSED)


def _gave_up() -> str:
    context = click.get_current_context(silent=True)
    wait = context.params.get("max_wait") if context else None
    return "" if wait is None else f"; gave up after {wait:g} s (--max-wait)"


def _explain_file(error: OSError) -> Failure:
    name = "the output" if error.filename is None else str(error.filename)
    reason = error.strerror or str(error) or type(error).__name__
    folder = os.path.dirname(name)
    if error.errno == errno.ENOENT and folder and not os.path.isdir(folder):
        return Failure(f"there is no folder {folder}; create it first", Code.USAGE)
    advice = {
        errno.ENOSPC: "; make room and run it again",
        errno.EACCES: "; name a place that you may use",
        errno.EROFS: "; name a place that you may use",
        errno.ENOENT: "; is its name right?",
    }.get(error.errno or 0, "")
    code = Code.PARTLY if error.errno in MIDWAY else Code.USAGE
    return Failure(f"{name}: {reason}{advice}", code)


def _usage(error: click.UsageError) -> str:
    sentence = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.NoSuchOption):
        is_first = error.ctx is None or error.ctx.parent is None
        sentence += (
            " (options follow the command)" if is_first
            else " (a key or value that begins with a dash stands behind --)"
        )  # fmt: skip
    path = error.ctx.command_path if error.ctx else "kvdict"
    return f"{sentence}; see `{path} --help`"
