"""Functions at module level, as users write them: pickled by reference, run in other processes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import kvdict

kv = kvdict.open("memory://")


class Color(Enum):
    RED = 1


@dataclass(frozen=True)
class Shop:
    name: str

    @kv.memoize()
    def price(self, article: str) -> str:
        return f"{article} at {self.name}"


@kv.memoize()
def double(n: int) -> int:
    return 2 * n


@kv.memoize()
def anything(*args: Any, **kwargs: Any) -> int:
    return 1


def make_keys() -> list[str]:
    """Call with arguments of all kinds and return the keys under which they are remembered."""
    moment = datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    anything(1, "a", 1.5, None, True, b"\xff", Decimal("1.0"), moment, PurePosixPath("/a"))
    anything({"x", "y", "z", "long"}, frozenset("abcdefgh"), {"b": 1, "a": [2, (3,)]}, Color.RED)
    anything("long" * 200, z=1, y=Shop("s"))
    Shop("corner").price("milk")
    double(4)
    return sorted(kv)


if __name__ == "__main__":
    sys.stdout.write(repr(make_keys()))
