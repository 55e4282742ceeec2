"""The small file that says how far a transfer is, so that it can be gone on with."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kvdict.errors import TransferError
from kvdict.transfer.draft import no_link

T = TypeVar("T")
FIELDS: dict[str, type[Any]] = {
    "done": int, "bytes": int, "expired": int, "gone": int, "offset": int, "position": int,
    "digest": str, "whole": bool, "place": dict,
}  # fmt: skip
"""What is said of how far the work is, as far as it is said."""
MOST = 1_000_000
"""Bytes: no state is as large, and whatever file was named is not read whole."""
HEAD = b'{"about": {'
"""How each begins, as far as a killed run came with writing it."""


class State:
    """How far the work is; `about` says which work it is. Without a path nothing is kept."""

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self.path = path
        self._about = dict(about)

    def load(self, resume: bool) -> dict[str, Any] | None:
        """Return what was saved last, None if there is nothing; forget it unless to resume.

        TransferError for a file that is no state: it is somebody's, and stays.
        """
        if self.path is None:
            return None
        _read(self._new, _check_begun)
        found = _read(self.path, _parsed)
        if not resume:
            self.delete()
            return None
        if found is None:
            return None
        about, at = found
        for name, value in self._about.items():
            if about.get(name) != value:
                raise TransferError(
                    f"{self.path} is the state of another transfer: its {name} is"
                    f" {about.get(name)!r}, not {value!r}; go on with that, or without resume"
                )
        return at

    def save(self, at: Mapping[str, Any]) -> None:
        """Store how far it is: whole, or not at all."""
        if self.path is None:
            return
        with open(self._new, "w", encoding="utf-8", opener=no_link) as file:
            json.dump({"about": self._about, "at": at}, file)
            file.flush()
            os.fsync(file.fileno())
        try:
            self._new.replace(self.path)
        except FileNotFoundError as error:
            raise TransferError(
                f"two transfers keep their state in {self.path} at the same time; name another"
                " file for this one with state="
            ) from error

    def delete(self) -> None:
        """Forget it: the work is done, or begins anew."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    @property
    def kept(self) -> Path | None:
        """Where the state lies, None if there is none."""
        return self.path if self.path is not None and self.path.exists() else None

    @property
    def _new(self) -> Path:
        """Return where a state is while it is written."""
        assert self.path is not None
        return self.path.with_name(self.path.name + ".new")


def _read(path: Path, parse: Callable[[bytes], T]) -> T | None:
    """Return what a file says, None if there is none; TransferError if it is none of ours."""
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is a link or no plain file")
        if found.st_size > MOST:
            raise ValueError("it is too large")
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise TransferError(
            f"{path} is in the way: it is not the state of a transfer ({error}), and was left as"
            " it is; move it, or name another file with state="
        ) from error


def _parsed(data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which work it is, and how far; an error for what was not written here."""
    told = json.loads(data)
    about, at = dict(told["about"]), _checked(told["at"])
    if told.keys() != {"about", "at"}:
        raise ValueError("it says more")
    return about, at


def _check_begun(data: bytes) -> None:
    """Raise ValueError for what does not begin as a state does."""
    if not HEAD.startswith(data[: len(HEAD)]):
        raise ValueError("it begins otherwise")


def _checked(told: Any) -> dict[str, Any]:
    """Return how far the work is; ValueError or TypeError for what was not written here."""
    at = dict(told)
    for name, kind in FIELDS.items():
        value = at.get(name, kind())
        if type(value) is not kind or (kind is int and value < 0):
            raise ValueError(f"its {name} is wrong")
    place = at.get("place", {})
    if place.keys() not in ({"cursor", "last"}, set()) or not all(
        isinstance(part, str | None) for part in place.values()
    ):
        raise ValueError("its place is wrong")
    return at
