"""`BufferOptions`: what can be chosen of a `WriteBuffer`, checked when it is made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Literal

from kvdict.errors import ConfigError
from kvdict.models import FlushResult
from kvdict.options import at_least, function, whole


@dataclass(kw_only=True, eq=False, repr=False)
class BufferOptions:
    """The options, as `WriteBuffer` explains them."""

    max_items: int = 10_000
    max_bytes: int = 10_000_000
    max_age: float = 1.0
    settle: float | None = None
    settle_bytes: int = 64_000_000
    max_pending: int = 100_000
    put_timeout: float = 10.0
    key_interval: float | None = None
    journal: str | PathLike[str] | None = None
    durability: Literal["process", "power"] = "process"
    journal_max_age: float | None = None
    write_through: bool = False
    exit_timeout: float = 10.0
    on_flush: Callable[[FlushResult], object] | None = None
    on_error: Callable[[Exception], object] | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        whole(1, max_items=self.max_items)
        whole(1, max_bytes=self.max_bytes)
        at_least(0, max_age=self.max_age)
        whole(0, settle_bytes=self.settle_bytes)
        whole(1, max_pending=self.max_pending)
        at_least(0, put_timeout=self.put_timeout)
        at_least(0, exit_timeout=self.exit_timeout)
        if self.settle is not None:
            at_least(0, settle=self.settle)
        if self.key_interval is not None:
            at_least(0, key_interval=self.key_interval)
        if not isinstance(self.write_through, bool):
            raise ConfigError(f"write_through is {self.write_through!r}, expected True or False")
        function(on_flush=self.on_flush)
        function(on_error=self.on_error)
        self._check_journal()

    def _check_journal(self) -> None:
        check_journal(self.durability, self.journal_max_age)
        if self.journal is not None:
            check_path(self.journal)
            if self.write_through:
                raise ConfigError("what is written through needs no journal: it is never pending")
        elif self.durability == "power" or self.journal_max_age is not None:
            raise ConfigError("durability and journal_max_age are a journal's; name it: journal=")

    def fill_in(self, *, local: bool) -> None:
        """Choose what was left to the home: nothing settles in a local one, and no key waits."""
        if self.settle is None:
            self.settle = 0.0 if local else 60.0
        if self.key_interval is None:
            self.key_interval = 0.0 if local else 1.0


def check_path(journal: object) -> None:
    """Raise ConfigError for what is no path: an empty one would be the working directory."""
    path = fspath(journal) if isinstance(journal, str | PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise ConfigError(f"journal is {journal!r}, expected the path of a file or a folder")


def check_journal(durability: str, max_age: float | None) -> None:
    """Raise ConfigError for options that no journal can have."""
    if durability not in ("process", "power"):
        raise ConfigError(f"durability is {durability!r}, expected 'process' or 'power'")
    is_number = isinstance(max_age, int | float) and not isinstance(max_age, bool)
    if max_age is not None and not (is_number and max_age > 0):
        raise ConfigError(f"journal_max_age is {max_age!r}, expected seconds above 0, or None")
