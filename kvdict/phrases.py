"""Phrases that several messages use: a key, how many writes, and of which keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

NAMED = 5
"""Keys that a message spells out."""


def shorten(key: str, most: int = 80) -> str:
    """Return the key as it stands in a message."""
    return repr(key) if len(key) <= most else f"{key[:most]!r}... ({len(key)} characters)"


def how_many(writes: int, verb: Literal["is", "was"] = "was") -> str:
    """Return how many writes there are, with the verb in the number that goes with it."""
    if writes == 1:
        return f"1 write {verb}"
    return f"{writes} writes {'are' if verb == 'is' else 'were'}"


def name_some(keys: Sequence[str], most: int = NAMED) -> str:
    """Return the first of the keys, and how many more there are."""
    named = ", ".join(shorten(key, 40) for key in keys[:most])
    return f"{named} and {len(keys) - most} more" if len(keys) > most else named
