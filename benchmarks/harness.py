"""What the topics share: rounds in turn, ratios of them, and the table."""

from __future__ import annotations

import importlib
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any, TypeVar

T = TypeVar("T")
Clock = Callable[[], float]
Topic = Callable[[bool], Iterator["Row"]]
"""Measures one topic, in fewer rounds if it is told to be quick."""

KVDICT = "kvdict"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; all but `what` may be blank."""

    what: str
    kvdict: str = ""
    beside: str = ""
    ratio: str = ""
    target: str = ""
    met: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should not exceed, and how that is written."""

    most: float
    text: str

    def verdict(self, figure: float) -> str:
        """Say whether the figure keeps to it."""
        return "yes" if figure <= self.most else "NO"


def at_most(ratio: float) -> Target:
    """Return the target for a ratio."""
    return Target(ratio, f"ratio <= {ratio:g}")


class Rounds:
    """Seconds of each contender, round by round."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self._clock = clock
        self._seconds: defaultdict[str, list[float]] = defaultdict(list)

    def time(self, name: str, work: Callable[[], T]) -> T:
        """Run the work and note what it took."""
        started = self._clock()
        result = work()
        self.note(name, self._clock() - started)
        return result

    def note(self, name: str, figure: float) -> None:
        """Note a figure that was taken elsewhere."""
        self._seconds[name].append(figure)

    def median(self, name: str) -> float:
        """Return the median round of a contender."""
        return statistics.median(self._seconds[name])

    def ratio(self, name: str, beside: str) -> float:
        """Return the median of the ratios within each round: what slowed both cancels out."""
        pairs = zip(self._seconds[name], self._seconds[beside], strict=True)
        return statistics.median(mine / other for mine, other in pairs)

    def difference(self, name: str, beside: str) -> float:
        """Return the median of the differences within each round."""
        pairs = zip(self._seconds[name], self._seconds[beside], strict=True)
        return statistics.median(mine - other for mine, other in pairs)


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Clock = time.perf_counter,
) -> Rounds:
    """Run all contenders once unmeasured, then in turns, another one first in each round."""
    for work in contenders.values():
        work()
    taken = Rounds(clock)
    for number in range(rounds):
        for name in in_turn(list(contenders), number):
            taken.time(name, contenders[name])
    return taken


def in_turn(names: Sequence[T], number: int) -> Sequence[T]:
    """Return the names with another one first in each round."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def repeat(work: Callable[[T], object], arguments: Sequence[T]) -> Callable[[], None]:
    """Return the work on one argument after another."""

    def run() -> None:
        for argument in arguments:
            work(argument)

    return run


def compare(
    what: str,
    rounds: Rounds,
    beside: str,
    *,
    label: str = "",
    scale: float = 1,
    target: Target | None = None,
    within: Target | None = None,
) -> Row:
    """Return the line of kvdict beside another contender; `scale` turns a round into the figure.

    `target` is for the ratio, `within` for kvdict's own figure.
    """
    ratio = rounds.ratio(KVDICT, beside)
    judged = ratio if target else rounds.median(KVDICT) * scale
    target = target or within
    return Row(
        what,
        duration(rounds.median(KVDICT) * scale),
        f"{label or beside}: {duration(rounds.median(beside) * scale)}",
        f"{ratio:.2f}",
        target.text if target else "",
        target.verdict(judged) if target else "",
    )


def optional(package: str) -> Any | None:
    """Return the module, None if it is not installed."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        return None


def missing(what: str, package: str) -> Row:
    """Return the line for what could not be compared."""
    return Row(what, beside=f"{package}: not installed, pip install -e '.[bench]'")


def duration(seconds: float) -> str:
    """Return it with three digits in the unit that fits."""
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds / 1e-6)} µs"


def megabytes(size: float) -> str:
    """Return bytes in MB."""
    return f"{size / 1e6:.1f} MB"


def _digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 99.5 else f"{number:.3g}"


def table(rows: Iterable[Row]) -> str:
    """Return the rows as aligned text."""
    heads = [field.name for field in fields(Row)]
    heads[2] = "beside it"
    heads[-1] = "met?"
    lines = [heads, *([*astuple(row)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
