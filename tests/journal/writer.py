"""Forks writers that are killed, so that a round does not begin with an interpreter's start.

Reads "path durability threads base seed" lines; a writer says its process id, then a thread and a
count after each operation, and this program "dead" after its end.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from typing import Any

from kvdict.changes import Change
from kvdict.journal import Journal
from tests.journal.support import NAMESPACE, deletion, put

KEYS = 12

Operation = tuple[str, list[Change]]


def operations(thread: int, threads: int, base: int, seed: int) -> Iterator[Operation]:
    """Yield what a thread does, the same for the same seed: records, and forgets of some."""
    chance = random.Random(seed * threads + thread)
    number = base + 1 + thread
    latest: dict[str, Change] = {}
    while True:
        key = f"{thread}:{chance.randrange(KEYS)}"
        if chance.random() < 0.2:
            change = deletion(number, key)
        else:
            size = chance.choice((0, 10, 300, 5000))
            change = put(number, key, b"%d:%s" % (number, b"x" * size))
        latest[key] = change
        number += threads
        yield "record", [change]
        if chance.random() < 0.3:
            some = chance.sample(sorted(latest), min(len(latest), chance.randrange(1, 5)))
            yield "forget", [latest.pop(key) for key in some]


def outcome(
    state: dict[str, Change | None], done: Iterator[Operation], count: int
) -> dict[str, Any]:
    """Return the values after so many operations."""
    values: dict[str, Any] = dict(state)
    for kind, changes in islice(done, count):
        for change in changes:
            if kind == "record":
                values[change.key] = change.write and change.write.data
            else:
                values.pop(change.key, None)
    return values


def work(journal: Journal, thread: int, threads: int, base: int, seed: int) -> None:
    for count, (kind, changes) in enumerate(operations(thread, threads, base, seed), 1):
        if kind == "record":
            journal.record(changes[0])
        else:
            journal.forget(changes)
        if count % 50 == 0:
            journal.checkpoint()
        os.write(1, b"%d %d\n" % (thread, count))


def write(path: str, durability: Any, threads: int, base: int, seed: int) -> None:
    journal = Journal(path, namespace=NAMESPACE, durability=durability)
    os.write(1, b"%d\n" % os.getpid())
    for thread in range(1, threads):
        threading.Thread(target=work, args=(journal, thread, threads, base, seed)).start()
    work(journal, 0, threads, base, seed)


def main() -> None:
    for line in sys.stdin:
        path, durability, *numbers = line.split()
        pid = os.fork()
        if not pid:
            try:
                write(path, durability, *map(int, numbers))
            finally:
                os._exit(1)
        os.waitpid(pid, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    main()
