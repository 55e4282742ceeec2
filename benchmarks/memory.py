"""The peak of memory of what streams, as the number of pairs grows: it should not.

`update` holds the bodies that are under way: eight of 10,000 pairs, if the service is slow enough.
So it is compared from ten bodies on, through latency that keeps all eight under way.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.children import open_through, run, server, where
from benchmarks.harness import Row, at_most, megabytes
from benchmarks.memory_child import fill

TARGET = at_most(1.2)
LATENCY = 2.5
FULL, QUICK = (50_000, 100_000, 200_000), (10_000, 80_000, 120_000)
"""Pairs: the fewest for `items`, the fewest for `update`, the most for both."""


def rows(quick: bool) -> Iterator[Row]:
    """Yield `update`, then `items` of what it stored."""
    few, some, many = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        with _emulator(folder, LATENCY) as url:
            for count in (few, some, many):
                open_through(url, str(count)).close()
            yield _line("update()", url, some, many)
        with _emulator(folder, 0) as url:
            with open_through(url, str(few)) as kv:
                fill(kv, few)
            yield _line("items()", url, few, many)


@contextmanager
def _emulator(folder: str, latency: float) -> Iterator[str]:
    arguments = "--db", f"{folder}/kv.db", "--latency", str(latency)
    with server("emulator_server", *arguments) as url:
        yield url


def _line(what: str, url: str, few: int, many: int) -> Row:
    small, large = (_peak(what.removesuffix("()"), url, count) for count in (few, many))
    ratio = large / small
    return Row(
        f"{what} of {many:,} pairs, peak memory",
        megabytes(large),
        f"{what} of {few:,}: {megabytes(small)}",
        f"{ratio:.2f}",
        TARGET.text,
        TARGET.verdict(ratio),
    )


def _peak(operation: str, url: str, count: int) -> int:
    place = where(url, str(count))
    return int(run(["-m", "benchmarks.memory_child", operation, place, str(count)]))
