"""20,000 keys through 50 ms of latency: what one request at a time would take, and all of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

from benchmarks.children import ACCOUNT, official, open_through, server
from benchmarks.harness import (
    KVDICT,
    Rounds,
    Row,
    alternate,
    at_most,
    compare,
    in_turn,
    missing,
)
from kvdict import KVNamespace

LATENCY = 0.05
COUNT = 20_000
SDK = "cloudflare"
PAIRS = {f"user:{number:05d}": f"{number:05d}" * 20 for number in range(COUNT)}
MOST_GET, MOST_WRITE = 100, 10_000
"""Keys that one request takes."""
WHAT = f"{COUNT:,} keys at 50 ms"
WRITING, READING = "update()", "dict(kv.items())"
CLEARING, DELETING = "clear()", "delete_many()"


def rows(quick: bool) -> Iterator[Row]:
    """Yield reading, writing and clearing all, then single calls."""
    with ExitStack() as stack:
        url = stack.enter_context(server("emulator_server", "--latency", str(LATENCY)))
        kv = stack.enter_context(open_through(url, KVDICT))
        other = stack.enter_context(open_through(url, SDK))
        sdk = official(url)
        if sdk is None:
            yield missing(WHAT, SDK)
            return
        calls = Official(stack.enter_context(sdk).kv.namespaces, other.id)
        yield from _all_keys(kv, other, calls, 1 if quick else 3)
        yield from _single_keys(kv, calls, 5 if quick else 15)


class Official:
    """The official SDK's calls on one namespace, as many as the task needs, in a row."""

    def __init__(self, namespaces: Any, namespace_id: str) -> None:
        self._namespaces = namespaces
        self._id = namespace_id

    def write(self) -> None:
        """Store all pairs."""
        for pairs in batches(PAIRS.items(), MOST_WRITE):
            body = [{"key": key, "value": value} for key, value in pairs]
            self._namespaces.bulk_update(self._id, account_id=ACCOUNT, body=body)

    def names(self) -> list[str]:
        """List all keys."""
        listed = self._namespaces.keys.list(self._id, account_id=ACCOUNT, limit=1000)
        return [key.name for key in listed]

    def read(self) -> dict[str, str]:
        """List all keys and read their values."""
        found: dict[str, str] = {}
        for keys in batches(self.names(), MOST_GET):
            answer = self._namespaces.bulk_get(self._id, account_id=ACCOUNT, keys=keys)
            found.update(answer.values)
        return found

    def clear(self) -> None:
        """List all keys and delete them."""
        self.delete(self.names())

    def delete(self, keys: Any) -> None:
        """Delete the keys."""
        for batch in batches(keys, MOST_WRITE):
            self._namespaces.bulk_delete(self._id, account_id=ACCOUNT, body=batch)

    def put_one(self) -> None:
        """Store one pair."""
        self._namespaces.values.update("one", account_id=ACCOUNT, namespace_id=self._id, value=b"v")

    def get_one(self) -> None:
        """Read one value."""
        self._namespaces.values.get("one", account_id=ACCOUNT, namespace_id=self._id).read()

    def delete_one(self) -> None:
        """Delete one key."""
        self._namespaces.values.delete("gone", account_id=ACCOUNT, namespace_id=self._id)


def batches(items: Any, size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _all_keys(
    kv: KVNamespace[str], other: KVNamespace[str], calls: Official, rounds: int
) -> Iterator[Row]:
    taken: defaultdict[str, Rounds] = defaultdict(Rounds)
    for number in range(rounds):
        for step, works in _steps(kv, calls).items():
            for name in in_turn(list(works), number):
                taken[step].time(name, works[name])
            if step == CLEARING:
                kv.update(PAIRS)
                other.update(PAIRS)
    for step, label, target in (
        (WRITING, "bulk_update", at_most(1)),
        (READING, "list, bulk_get", at_most(0.2)),
        (CLEARING, "list, bulk_delete", at_most(1)),
        (DELETING, "bulk_delete", at_most(1)),
    ):
        yield compare(f"{WHAT}: {step}", taken[step], SDK, label=f"{SDK} {label}", target=target)


def _steps(kv: KVNamespace[str], calls: Official) -> dict[str, dict[str, Callable[[], object]]]:
    """Return what each does to write, read, and delete all, in that order."""
    return {
        WRITING: {KVDICT: lambda: kv.update(PAIRS), SDK: calls.write},
        READING: {
            KVDICT: lambda: _expect_all(dict(kv.items())),
            SDK: lambda: _expect_all(calls.read()),
        },
        CLEARING: {KVDICT: kv.clear, SDK: calls.clear},
        DELETING: {KVDICT: lambda: kv.delete_many(PAIRS), SDK: lambda: calls.delete(PAIRS)},
    }


def _expect_all(found: dict[str, str]) -> None:
    if found != PAIRS:
        raise RuntimeError(f"{len(found)} of {COUNT} pairs were read, or others")


def _single_keys(kv: KVNamespace[str], calls: Official, rounds: int) -> Iterator[Row]:
    works: dict[str, dict[str, Callable[[], object]]] = {
        "kv[k] = v": {KVDICT: lambda: kv.__setitem__("one", "v"), SDK: calls.put_one},
        "kv[k]": {KVDICT: lambda: kv["one"], SDK: calls.get_one},
        "kv.delete(k)": {KVDICT: lambda: kv.delete("gone"), SDK: calls.delete_one},
    }
    labels = "values.update", "values.get", "values.delete"
    for (step, contenders), label in zip(works.items(), labels, strict=True):
        taken = alternate(contenders, rounds)
        what = f"{COUNT:,} single calls: {step} ({rounds} timed)"
        yield compare(what, taken, SDK, label=f"{SDK} {label}", scale=COUNT)
