"""A journal's rows: the latest change of each key, and what becomes of it when it is read again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from kvdict.changes import Change
from kvdict.writes import Expiry, Write


class Row(NamedTuple):
    """The latest write of a key, or its deletion where `value` is None."""

    key: str
    number: int
    deadline: float | None
    absolute: int
    metadata: str | None
    value: bytes | None
    recorded: float

    @property
    def write(self) -> Write | None:
        """Return the write as the buffer takes it."""
        if self.value is None:
            return None
        expiry = None if self.deadline is None else Expiry(self.deadline, bool(self.absolute))
        return Write(self.key, self.value, expiry, self.metadata)


def row_of(change: Change, now: float) -> tuple[object, ...]:
    """Return the change as a row."""
    write = change.write
    if write is None:
        return change.key, change.number, None, 0, None, None, now
    deadline, absolute = (
        (write.expiry.deadline, write.expiry.absolute) if write.expiry else (None, 0)
    )
    return change.key, change.number, deadline, absolute, write.metadata, write.data, now


def merge_rows(rows: list[Row]) -> list[Row]:
    """Return the latest row of each key, in order of time, with new numbers."""
    latest: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: row.recorded):
        latest.pop(row.key, None)
        latest[row.key] = row
    return [row._replace(number=number) for number, row in enumerate(latest.values(), 1)]


@dataclass(frozen=True, slots=True)
class Replay:
    """What was pending when the last owner closed or died.

    `writes` are to be sent, in order; `failed` are older than max_age, with the reason; `dropped`
    are keys of puts whose deadline is past; `damaged` are files that were set aside.
    """

    writes: list[tuple[str, Write | None]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def take(self, row: Row, now: float, max_age: float | None) -> bool:
        """Put a row where it belongs; tell whether it is still to be sent."""
        age = now - row.recorded
        if row.deadline is not None and row.deadline <= now:
            self.dropped.append(row.key)
        elif max_age is not None and age > max_age:
            self.failed[row.key] = f"written {age:.0f} s ago, journal_max_age is {max_age:g} s"
        else:
            self.writes.append((row.key, row.write))
            return True
        return False
