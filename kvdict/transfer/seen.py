"""Texts that were seen, on disk."""

from __future__ import annotations

from collections.abc import Iterator

from kvdict.transfer.table import Table


class Seen(Table):
    """Texts, each with where it was seen first."""

    def __init__(self) -> None:
        super().__init__("seen (text BLOB PRIMARY KEY, place)")

    def add(self, text: str, place: int | None = None) -> bool:
        """Take a text in; tell whether it is new."""
        added = self.run("INSERT OR IGNORE INTO seen VALUES (?, ?)", (_key(text), place))
        return added.rowcount == 1

    def place(self, text: str) -> int | None:
        """Return where a text was seen first."""
        found = self.run("SELECT place FROM seen WHERE text = ?", (_key(text),))
        row: tuple[int | None] | None = found.fetchone()
        return row[0] if row else None

    def __contains__(self, text: str) -> bool:
        found = self.run("SELECT 1 FROM seen WHERE text = ?", (_key(text),))
        return found.fetchone() is not None

    def __iter__(self) -> Iterator[str]:
        """Yield the texts in order."""
        for (text,) in self.run("SELECT text FROM seen ORDER BY text"):
            yield text.decode("utf-8", "surrogatepass")


def _key(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
