"""The local cache: one hit, beside what one would put in front of a slow store by hand."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from cachetools import TTLCache

import kvdict
from benchmarks.harness import (
    KVDICT,
    Row,
    alternate,
    at_most,
    compare,
    missing,
    optional,
    repeat,
)

HITS = 500
TTL_CACHE = "TTLCache.get under a lock"
ITEM = "TTLCache[key] under a lock"
LRU_CACHE = "lru_cache"
DISKCACHE = "diskcache memoize"
VALUE = {"n": 1, "name": "Ada"}
BYTES_TARGET = at_most(2.0)
JSON_TARGET = at_most(4.0)
HOT = 100


def rows(quick: bool) -> Iterator[Row]:
    """Yield one hit of each kind, then the requests of hot keys and of a loop."""
    rounds = 41 if quick else 201
    keys = [f"user:{number:04d}" for number in range(HITS)]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield from _hits(folder, stack, keys, rounds)
    yield from _requests()


def _hits(folder: Path, stack: ExitStack, keys: list[str], rounds: int) -> Iterator[Row]:
    beside = _beside(folder, stack, keys)
    for what, codec, value, target in (
        ("cached hit, bytes", "bytes", b"value", BYTES_TARGET),
        ("cached hit, small JSON", "json", VALUE, JSON_TARGET),
    ):
        kv = stack.enter_context(kvdict.open("memory://", codec=codec, cache=True))
        kv.update(dict.fromkeys(keys, value))
        works = {KVDICT: kv.__getitem__, **beside}
        taken = alternate({name: repeat(work, keys) for name, work in works.items()}, rounds)
        for name in beside:
            goal = target if name == TTL_CACHE else None
            yield compare(what, taken, name, scale=1 / HITS, target=goal)
    if DISKCACHE not in beside:
        yield missing("cached hit", "diskcache")
    kv = stack.enter_context(kvdict.open("memory://", cache=True))
    memoized = kv.memoize()(_describe)
    works = {KVDICT: memoized, **beside}
    taken = alternate({name: repeat(work, keys) for name, work in works.items()}, rounds)
    for name in (LRU_CACHE, DISKCACHE):
        if name in beside:
            yield compare("kv.memoize, a cached hit", taken, name, scale=1 / HITS)


def _describe(key: str) -> dict[str, Any]:
    return {**VALUE, "key": key}


def _beside(folder: Path, stack: ExitStack, keys: list[str]) -> dict[str, Callable[[str], object]]:
    """Return what else remembers, filled."""
    cache: TTLCache[str, bytes] = TTLCache(10_000, 60 * 60)
    cache.update(dict.fromkeys(keys, b"value"))
    lock = threading.Lock()

    def get(key: str) -> bytes | None:
        with lock:
            return cache.get(key)

    def item(key: str) -> bytes:
        with lock:
            return cache[key]

    found: dict[str, Callable[[str], object]] = {
        TTL_CACHE: get,
        ITEM: item,
        LRU_CACHE: lru_cache(10_000)(_describe),
    }
    diskcache = optional("diskcache")
    if diskcache:
        disk = stack.enter_context(diskcache.Cache(str(folder / "disk")))
        found[DISKCACHE] = disk.memoize()(_describe)
    return found


def _requests() -> Iterator[Row]:
    keys = [f"hot:{number}" for number in range(HOT)]
    with kvdict.open("memory://", cache=True) as kv:
        kv.update(dict.fromkeys(keys, VALUE))
        for what, most, prefetch in (("", HOT, False), (", with prefetch", 1, True)):
            kv.cache.clear()  # type: ignore[union-attr]  # it was opened with one
            before = kv.stats()["requests"]
            if prefetch:
                kv.prefetch(keys)
            for _ in range(100):
                for key in keys:
                    kv[key]
            spent = kv.stats()["requests"] - before
            yield _counted(f"10,000 reads of {HOT} keys{what}", spent, most)
    with kvdict.open("memory://") as kv:
        kv.update((f"{number:04d}", VALUE) for number in range(5000))
        before = kv.stats()["requests"]
        for key in kv:
            kv[key]
        yield _counted("for k in kv: kv[k], 5,000 keys", kv.stats()["requests"] - before, 70)


def _counted(what: str, spent: float, most: int) -> Row:
    verdict = "yes" if spent <= most else "NO"
    return Row(what, f"{spent:.0f} requests", target=f"<= {most} requests", met=verdict)
