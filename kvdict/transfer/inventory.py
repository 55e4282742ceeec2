"""What a namespace holds besides values, on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from kvdict.models import Key
from kvdict.transfer.table import Table


class Inventory(Table):
    """The keys of a namespace with their metadata, each marked once it is wanted."""

    def __init__(self) -> None:
        super().__init__("keys (name TEXT PRIMARY KEY, metadata, wanted, there)")

    def add(self, keys: Iterable[Key]) -> None:
        """Take in keys that are there."""
        rows = (
            (key.name, None if key.metadata is None else json.dumps(key.metadata), False, True)
            for key in keys
        )
        self.run_many("INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?)", rows)

    def want(self, name: str) -> bool:
        """Mark a key as wanted; tell whether it was wanted before."""
        found = self._row(name)
        if found and found[1]:
            return True
        self.run(
            "INSERT INTO keys VALUES (?, NULL, TRUE, FALSE)"
            " ON CONFLICT (name) DO UPDATE SET wanted = TRUE",
            (name,),
        )
        return False

    def find(self, name: str) -> Key | None:
        """Return a key that is there with its metadata, None for another."""
        found = self._row(name)
        if not found or not found[2]:
            return None
        return Key(name, None, json.loads(found[0]) if found[0] else None)

    def unwanted(self) -> Iterator[str]:
        """Yield the keys that are there and not wanted, in order."""
        rows = self.run(
            "SELECT name FROM keys WHERE there AND NOT wanted ORDER BY name COLLATE BINARY"
        )
        return (name for (name,) in rows)

    def _row(self, name: str) -> tuple[str | None, bool, bool] | None:
        found = self.run("SELECT metadata, wanted, there FROM keys WHERE name = ?", (name,))
        row: tuple[str | None, bool, bool] | None = found.fetchone()
        return row
