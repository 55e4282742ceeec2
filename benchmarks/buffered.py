"""Write-behind: one assignment, one read of what is pending, many with a flush."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import kvdict
from benchmarks.children import TOKEN, official, open_through, run, server, where
from benchmarks.embedded import contenders
from benchmarks.harness import (
    KVDICT,
    Rounds,
    Row,
    Target,
    alternate,
    at_most,
    compare,
    duration,
    in_turn,
    megabytes,
    missing,
    optional,
    repeat,
)
from benchmarks.latency import LATENCY, SDK, batches

SETS = 100
NEVER = 1e9
MANY = 100_000
MANY_ROUNDS = 5
SETTLING = 200_000
ONE_BY_ONE = 20_000
SET_TARGET = Target(10e-6, "kvdict <= 10 µs")
READ_TARGET = Target(5e-6, "kvdict <= 5 µs")
JOURNAL_TARGET = Target(60e-6, "kvdict <= 60 µs")
LISTING_TARGET = Target(1e-3, "difference <= 1 ms")
MEMORY_TARGET = Target(260e6, "kvdict <= 260 MB")
"""settle_bytes, max_pending changes, and the bodies under way."""


def rows(quick: bool) -> Iterator[Row]:
    """Yield one set and one read in memory, then many over a slow wire."""
    rounds = 41 if quick else 201
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield from _one(folder, stack, rounds)
    yield from _many(20_000 if quick else MANY)
    yield _listing(SETTLING // 10 if quick else SETTLING)
    yield _memory(100_000 if quick else 1_000_000)


def _one(folder: Path, stack: ExitStack, rounds: int) -> Iterator[Row]:
    kv = stack.enter_context(_open(folder, None))
    keys = [f"user:{number:04d}" for number in range(SETS)]
    plain: dict[str, Any] = {}
    works: dict[str, Callable[[str], object]] = {
        KVDICT: lambda key: kv.__setitem__(key, "value"),
        "dict": lambda key: plain.__setitem__(key, "value"),
    }
    zict = optional("zict")
    if zict is None:
        yield missing("buffered set", "zict")
    else:
        buffer = zict.Buffer({}, {}, n=10**9)
        works["zict.Buffer"] = lambda key: buffer.__setitem__(key, "value")
    _, puts = contenders(folder, stack)
    works |= {name: work for name, work in puts.items() if work is not None and name != KVDICT}
    taken = alternate({name: repeat(work, keys) for name, work in works.items()}, rounds)
    for name in works:
        if name != KVDICT:
            yield compare("buffered set", taken, name, scale=1 / SETS, within=SET_TARGET)
    yield _rare("buffered set, one in a thousand", works[KVDICT], works["dict"])
    yield from _journaled(folder, stack, keys, rounds)
    reads = {KVDICT: repeat(kv.__getitem__, keys), "dict": repeat(plain.__getitem__, keys)}
    taken = alternate(reads, rounds)
    yield compare("read of a pending key", taken, "dict", scale=1 / SETS, within=READ_TARGET)


def _open(folder: Path, journal: str | None) -> kvdict.KVNamespace[Any]:
    buffer = kvdict.WriteBuffer(
        journal=folder / journal if journal else None,
        max_age=NEVER,
        max_items=10**9,
        max_pending=10**9,
    )
    return kvdict.open("memory://", buffer=buffer)


def _journaled(folder: Path, stack: ExitStack, keys: list[str], rounds: int) -> Iterator[Row]:
    kv = stack.enter_context(_open(folder, "journal"))
    (folder / "beside").mkdir()
    _, puts = contenders(folder / "beside", stack)
    name = "sqlitedict with commit"
    beside = puts[name]
    if beside is None:
        yield missing("journaled set", "sqlitedict")
        return
    works = {KVDICT: lambda key: kv.__setitem__(key, "value"), name: beside}
    taken = alternate({name: repeat(work, keys) for name, work in works.items()}, rounds)
    yield compare("journaled set", taken, name, scale=1 / SETS, within=JOURNAL_TARGET)
    yield _rare("journaled set, one in a thousand", works[KVDICT], beside, name)
    read = repeat(kv.__getitem__, keys)
    with _busy(kv):
        taken = alternate({KVDICT: read, "dict": repeat(dict.fromkeys(keys).get, keys)}, rounds)
    yield compare(
        "read of a pending key beside a journaled writer",
        taken,
        "dict",
        scale=1 / SETS,
        within=READ_TARGET,
    )


@contextmanager
def _busy(kv: kvdict.KVNamespace[Any]) -> Iterator[None]:
    """Have another thread write all the time, as a server would: some, and then a pause."""
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.wait(0.0005):
            number += 1
            kv[f"other:{number % 1000}"] = "value"

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _rare(
    what: str, mine: Callable[[str], object], other: Callable[[str], object], name: str = "dict"
) -> Row:
    """Return the line of the slowest one in a thousand."""
    figures = {KVDICT: _slowest(mine), name: _slowest(other)}
    return Row(
        what,
        duration(figures[KVDICT]),
        f"{name}: {duration(figures[name])}",
        f"{figures[KVDICT] / figures[name]:.2f}",
    )


def _slowest(work: Callable[[str], object]) -> float:
    seconds = []
    for number in range(ONE_BY_ONE):
        key = f"user:{number % SETS:04d}"
        started = time.perf_counter()
        work(key)
        seconds.append(time.perf_counter() - started)
    return statistics.quantiles(seconds, n=1000)[-1]


def _many(number: int) -> Iterator[Row]:
    """Assign and flush; the same pairs by the official SDK, one call after the other, in turns."""
    pairs = {f"{key:06d}": "value" for key in range(number)}
    time_taken, cpu_taken = Rounds(), Rounds(time.process_time)
    with ExitStack() as stack:
        url = stack.enter_context(server("emulator_server", "--latency", str(LATENCY)))
        sdk = official(url)
        works: dict[str, Callable[[], object]] = {}
        if sdk is not None:
            other = stack.enter_context(open_through(url, SDK))
            calls = stack.enter_context(sdk).kv.namespaces
            works[SDK] = partial(_send_all, calls, other, pairs)
        for turn in range(MANY_ROUNDS):
            there = where(url, f"buffered {turn}")
            with kvdict.open(there, token=TOKEN, create=True) as kv:
                before = kv.stats()["requests"]
                works[KVDICT] = partial(_assign_and_flush, kv, pairs)
                for name in in_turn(list(works), turn):
                    time_taken.time(name, partial(cpu_taken.time, name, works[name]))
                spent = kv.stats()["requests"] - before
    most = number // 10_000 + 1
    yield Row(
        f"{number:,} assignments and flush at 50 ms",
        f"{duration(time_taken.median(KVDICT))}, {spent:.0f} requests",
        target=f"<= {most} requests",
        met="yes" if spent <= most else "NO",
    )
    if sdk is None:
        yield missing("the same", SDK)
        return
    for what, taken in (("time", time_taken), ("CPU", cpu_taken)):
        yield compare(
            f"the same, {what}", taken, SDK, label=f"{SDK} bulk_update", target=at_most(1)
        )


def _assign_and_flush(kv: kvdict.KVNamespace[Any], pairs: dict[str, str]) -> None:
    kv.update(pairs)
    kv.flush()


def _send_all(calls: Any, other: kvdict.KVNamespace[Any], pairs: dict[str, str]) -> None:
    for batch in batches(pairs.items(), 10_000):
        body = [{"key": key, "value": value} for key, value in batch]
        calls.bulk_update(other.id, account_id=other.client.account_id, body=body)


def _listing(number: int) -> Row:
    """Ask for the first key, with so many settling and with none."""
    with ExitStack() as stack:
        works = {}
        for name, settle in ((KVDICT, NEVER), ("none settling", 0.0)):
            buffer = kvdict.WriteBuffer(settle=settle, settle_bytes=10**9, max_pending=10**9)
            kv = stack.enter_context(kvdict.open("memory://", buffer=buffer))
            kv.update((f"user:{key:06d}", "value") for key in range(number))
            kv.flush()
            works[name] = partial(_first, kv)
        taken = alternate(works, 101)
    more = taken.difference(KVDICT, "none settling")
    return Row(
        f"next(iter(kv)) with {number:,} settling keys",
        duration(taken.median(KVDICT)),
        f"none settling: {duration(taken.median('none settling'))}",
        target=LISTING_TARGET.text,
        met=LISTING_TARGET.verdict(more),
    )


def _first(kv: kvdict.KVNamespace[Any]) -> str:
    return next(iter(kv))


def _memory(number: int) -> Row:
    """Assign in a loop to a service with latency: what is held at most."""
    with server("emulator_server", "--latency", str(LATENCY)) as url:
        open_through(url, "assigned").close()
        place = where(url, "assigned")
        peak = int(run(["-m", "benchmarks.memory_child", "assign", place, str(number)]))
    return Row(
        f"{number:,} assignments in a loop, peak memory",
        megabytes(peak),
        target=MEMORY_TARGET.text,
        met=MEMORY_TARGET.verdict(peak),
    )
