"""The small file that says how far a transfer is, so that it can be gone on with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvdict.errors import TransferError
from kvdict.transfer.draft import no_link

FIELDS: dict[str, type[Any]] = {
    "done": int, "bytes": int, "expired": int, "gone": int, "offset": int, "position": int,
    "digest": str, "whole": bool, "place": dict,
}  # fmt: skip
"""What is said of how far the work is, as far as it is said."""


class State:
    """How far the work is; `about` says which work it is. Without a path nothing is kept."""

    def __init__(self, path: Path | None, about: Mapping[str, Any]) -> None:
        self.path = path
        self._about = dict(about)

    def load(self, resume: bool) -> dict[str, Any] | None:
        """Return what was saved last, None if there is nothing; forget it unless to resume."""
        if self.path is None:
            return None
        if not resume:
            self.delete()
            return None
        try:
            told = json.loads(self.path.read_bytes())
            about, at = dict(told["about"]), _checked(told["at"])
        except FileNotFoundError:
            return None
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise TransferError(
                f"{self.path} is not the state of a transfer ({error}); delete it, or go on"
                " without resume"
            ) from error
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
        beside = self.path.with_name(self.path.name + ".new")
        with open(beside, "w", encoding="utf-8", opener=no_link) as file:
            json.dump({"about": self._about, "at": at}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)

    def delete(self) -> None:
        """Forget it: the work is done, or begins anew."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    @property
    def kept(self) -> Path | None:
        """Where the state lies, None if there is none."""
        return self.path if self.path is not None and self.path.exists() else None


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
