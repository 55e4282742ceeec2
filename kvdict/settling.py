"""Settling: changes that the service accepted a short while ago."""

from __future__ import annotations

from collections import OrderedDict

from kvdict.changes import Change

IN_MEMORY = 400
"""Bytes of memory that a settled change takes beside its key and value, about."""


class Settling:
    """Accepted changes by key, the oldest first; the lock of the buffer that they left guards them.

    `early` counts those that left before their time, for want of room.
    """

    def __init__(self) -> None:
        self.changes: OrderedDict[str, Change] = OrderedDict()
        self.size = 0
        self.early = 0

    def add(self, change: Change, until: float) -> None:
        """Take a change in until a time, in place of an older one of its key."""
        self.remove(change.key)
        change.until = until
        self.changes[change.key] = change
        self.size += change.size + IN_MEMORY

    def remove(self, key: str) -> None:
        """Let go of what settles of a key, if anything does."""
        settled = self.changes.pop(key, None)
        if settled:
            self.size -= settled.size + IN_MEMORY

    def let_go(self, now: float, settle: float, most_bytes: int, *, is_read: bool) -> None:
        """Let the oldest leave if their time is over and nobody reads, or for want of room.

        One that stays longer than `settle`, as the others do, does not keep those behind it.
        """
        while self.changes:
            key, settled = next(iter(self.changes.items()))
            if self.size <= most_bytes and (is_read or settled.until > now):
                if settled.until > now + settle:
                    self.changes.move_to_end(key)
                break
            self.early += settled.until > now
            self.remove(key)
