"""The file that a value is written into."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex

from kvdict.cli.opening import KV
from kvdict.transfer.draft import keep_mode
from kvdict.transfer.identity import check_not_own
from kvdict.transfer.paths import followed


def writable(output: str, kv: KV) -> Path:
    """Return the path, links followed; TransferError for a file that the namespace lies in."""
    path = followed(Path(output))
    check_not_own(path, kv)
    return path


def write_file(path: Path, data: bytes) -> None:
    """Write a file beside its name and move it into place; into what is no file, write at once.

    Beside it is a name that nobody has: whatever else lies there is somebody's.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    beside = path.with_name(f".kvdict-{token_hex(8)}.part")
    try:
        file = beside.open("xb")
    except OSError as error:
        error.filename = str(path)  # that is what was asked for
        raise
    try:
        with file:
            keep_mode(path, beside)
            file.write(data)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
