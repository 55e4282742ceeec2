"""A file on this machine: one get and one put beside what else keeps a dict in a file."""

from __future__ import annotations

import dbm
import shelve
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import kvdict
from benchmarks.harness import (
    KVDICT,
    Rounds,
    Row,
    Target,
    alternate,
    at_most,
    compare,
    missing,
    optional,
    repeat,
)

Work = Callable[[str], object]

KEYS = [f"user:{number:04d}" for number in range(1000)]
VALUE = {"name": "Ada Lovelace", "mail": "ada@example.org", "visits": 36, "tags": ["a", "b"]}
GETS, PUTS = 20, 5
"""In a round: about a millisecond, so that most rounds are not interrupted."""
LARGE = 8
GET_TARGET = Target(100e-6, "kvdict <= 100 µs")


def rows(quick: bool) -> Iterator[Row]:
    """Yield gets, then puts."""
    rounds = 41 if quick else 201
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gets, puts = contenders(folder, stack)
        yield from _lines("embedded get", gets, GETS, rounds, GET_TARGET)
        yield from _lines("embedded put", puts, PUTS, rounds, None)
        yield _beside_large(folder, stack, rounds)


def _lines(
    what: str, works: dict[str, Work | None], count: int, rounds: int, target: Target | None
) -> Iterator[Row]:
    keys = KEYS[:count]
    there = {name: repeat(work, keys) for name, work in works.items() if work is not None}
    taken = alternate(there, rounds)
    for name, work in works.items():
        if work is None:
            yield missing(what, name)
        elif name != KVDICT:
            row = compare(what, taken, name, scale=1 / count)
            yield replace(row, target=_text(target), met=_verdict(target, taken, count))
            target = None  # it is of kvdict alone: once is enough


def _beside_large(folder: Path, stack: ExitStack, rounds: int) -> Row:
    """Get small values of a file in which some of 25 MiB lie between them, and of one without."""
    small, works = KEYS[:: len(KEYS) // GETS], {}
    for name, large in ((KVDICT, LARGE), ("the same without", 0)):
        kv = stack.enter_context(kvdict.open(folder / f"{large} large.db", codec="bytes"))
        kv.update(dict.fromkeys(KEYS, b"small"))
        for key in small[:large]:
            kv[f"{key}-large"] = bytes(25 << 20)
        works[name] = repeat(kv.__getitem__, small)
    what, beside = f"embedded get beside {LARGE} values of 25 MiB", "the same without"
    taken = alternate(works, rounds)
    return compare(what, taken, beside, scale=1 / len(small), target=at_most(1.1))


def _text(target: Target | None) -> str:
    return target.text if target else ""


def _verdict(target: Target | None, taken: Rounds, count: int) -> str:
    return target.verdict(taken.median(KVDICT) / count) if target else ""


def contenders(
    folder: Path, stack: ExitStack
) -> tuple[dict[str, Work | None], dict[str, Work | None]]:
    """Return what gets a key and what puts one, by name; None for a package that is missing."""
    kv = stack.enter_context(kvdict.open(folder / "kvdict.db"))
    kv.update(dict.fromkeys(KEYS, VALUE))
    gets: dict[str, Work | None] = {KVDICT: kv.__getitem__}
    puts: dict[str, Work | None] = {KVDICT: lambda key: kv.__setitem__(key, VALUE)}
    shelf = _shelve_name(folder)
    gets[shelf], puts[f"{shelf} with sync"] = _shelve(folder, stack)
    gets["sqlitedict"], puts["sqlitedict with commit"] = _sqlitedict(folder, stack)
    gets["diskcache"], puts["diskcache"] = _diskcache(folder, stack)
    return gets, puts


def _sqlitedict(folder: Path, stack: ExitStack) -> tuple[Work | None, Work | None]:
    package = optional("sqlitedict")
    if package is None:
        return None, None
    there = stack.enter_context(package.SqliteDict(str(folder / "sqlitedict.db")))

    def put(key: str) -> None:
        there[key] = VALUE
        there.commit()

    return _filled(there), put


def _diskcache(folder: Path, stack: ExitStack) -> tuple[Work | None, Work | None]:
    package = optional("diskcache")
    if package is None:
        return None, None
    there = stack.enter_context(package.Cache(str(folder / "diskcache")))
    return _filled(there), lambda key: there.__setitem__(key, VALUE)


def _shelve(folder: Path, stack: ExitStack) -> tuple[Work, Work]:
    there: shelve.Shelf[Any] = shelve.open(str(folder / "shelve"))  # noqa: SIM115 - on the stack
    stack.enter_context(there)

    def put(key: str) -> None:
        there[key] = VALUE
        there.sync()

    return _filled(there), put


def _shelve_name(folder: Path) -> str:
    """Name the database below shelve too: that depends on how Python was built."""
    path = str(folder / "probe")
    with dbm.open(path, "c"):
        pass
    return f"shelve ({dbm.whichdb(path)})"


def _filled(there: Any) -> Work:
    for key in KEYS:
        there[key] = VALUE
    if hasattr(there, "commit"):
        there.commit()
    get: Work = there.__getitem__
    return get
