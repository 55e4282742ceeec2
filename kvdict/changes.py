"""Changes: what is to become of a key, on its way and for a while after."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Protocol

from kvdict.clock import ServiceClock
from kvdict.models import Entry
from kvdict.writes import ROUNDING, Write


@dataclass(slots=True, eq=False)
class Change:
    """What is to become of a key: `write`, or its deletion where that is None.

    `number` grows with every write of the namespace; `first` and `since` are the number and the
    time of the oldest write that it stands for: when the key began to wait. Once it is accepted
    it goes on overlaying reads until the time `until`.
    """

    key: str
    write: Write | None
    number: int
    first: int
    since: float
    size: int
    until: float = 0.0

    def left(self, clock: ServiceClock) -> float:
        """Return the seconds until the pair's deadline; infinite without one."""
        write = self.write
        if write is None or write.expiry is None:
            return math.inf
        return write.expiry.left(clock.now(), clock.wall())

    def entry(self, clock: ServiceClock) -> Entry[bytes] | None:
        """Return what a read is to see, None for a missing key."""
        write = self.write
        if write is None:
            return None
        metadata = json.loads(write.metadata) if write.metadata else None
        if write.expiry is None:
            return Entry(write.data, None, metadata)
        ends = write.expiry.moment(clock.offset)
        if ends <= clock.now():
            return None
        return Entry(write.data, math.ceil(ends - ROUNDING), metadata)


@dataclass(frozen=True, slots=True)
class Hold:
    """Keeps a key from being sent until a time, but for the write of that number."""

    until: float
    number: int | None = None


class Listener(Protocol):
    """Who remembers what was read, and is told of writes while the buffer's lock is held."""

    def written(self, key: str) -> None:
        """Forget the key: it is being written."""
        ...

    def accepted(self, change: Change) -> None:
        """Take in that the service has accepted a change."""
        ...
