"""Paths that a caller names: what is read or written there, and where the state of it lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kvdict.errors import ConfigError, TransferError
from kvdict.transfer.draft import beside
from kvdict.transfer.identity import check_not_own
from kvdict.transfer.namespaces import KV

PathOrName = str | os.PathLike[str]
SUFFIX = ".state"


def as_path(place: Any) -> Path | None:
    """Return the path that a caller named, None for a stream."""
    return followed(Path(place)) if isinstance(place, str | os.PathLike) else None


def followed(path: Path) -> Path:
    """Return the path without links in it, but that of a device.

    What /dev/stdout leads to has no path if it is a pipe.
    """
    return path if is_device(path) else Path(os.path.realpath(path))


def is_device(path: Path) -> bool:
    """Tell whether the path exists and is neither a file nor a directory, as /dev/stdout.

    Nothing can be moved into its place: it is written as a stream.
    """
    return path.exists() and not path.is_file() and not path.is_dir()


def state_of(path: str | os.PathLike[str]) -> Path:
    """Return where the state of an export to this path, or an import from it, is kept."""
    path = Path(os.path.abspath(path))
    return path.with_name(path.name + SUFFIX)


def state_path(
    state: PathOrName | None, path: Path | None, *kvs: KV, resume: bool = False
) -> Path | None:
    """Return where the state is kept: where the caller says, else beside the file.

    TransferError if what is read or written lies there itself.
    """
    if resume and state is None and path is None:
        raise ConfigError("there is no file to go on from; name it with state=")
    kept = as_path(state) or (state_of(path) if path is not None else None)
    if kept is None:
        return None
    check_not_own(kept, *kvs)
    if path is not None and any(map(kept.is_relative_to, (path, beside(path)))):
        raise TransferError(
            f"{kept} is a part of what is read or written; name another file for the state with"
            " state="
        )
    return kept
