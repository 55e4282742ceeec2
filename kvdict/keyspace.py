"""A prefix, and the keys behind it."""

from __future__ import annotations

from dataclasses import dataclass

from kvdict.limits import check_key, check_prefix, key_problem
from kvdict.models import Key


@dataclass(frozen=True, slots=True)
class Keyspace:
    """Turns a mapping's keys into the namespace's and back: the full key is what counts."""

    prefix: str = ""

    def __post_init__(self) -> None:
        check_prefix(self.prefix)

    def to_read(self, key: object) -> str | None:
        """Return the full key, None for one that cannot be there."""
        if not isinstance(key, str):
            return None
        full = self.prefix + key
        return None if key_problem(full) else full

    def to_write(self, key: str) -> str:
        """Return the full key; TypeError or LimitError for one that cannot be stored."""
        full = self.prefix + key if isinstance(key, str) else key
        check_key(full)
        return full

    def name(self, full: str) -> str:
        """Return the mapping's key."""
        return full[len(self.prefix) :]

    def strip(self, key: Key) -> Key:
        """Return the listed key as the mapping sees it."""
        return Key(self.name(key.name), key.expiration, key.metadata) if self.prefix else key

    def below(self, prefix: str) -> Keyspace:
        """Return the part of it behind one more prefix."""
        if not isinstance(prefix, str):
            check_prefix(prefix)
        return Keyspace(self.prefix + prefix)
