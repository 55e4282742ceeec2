"""One bulk operation over many pairs, in a process of its own: prints its peak of memory."""

from __future__ import annotations

import sys
import tracemalloc
from collections import deque

import kvdict
from benchmarks.children import TOKEN
from kvdict import KVNamespace


def main(operation: str, where: str, count: int) -> None:
    """Run the operation; print the most bytes that it held at once, by tracemalloc."""
    buffer = None
    if operation != "assign":
        buffer = kvdict.WriteBuffer(write_through=True, settle=0)
    with kvdict.open(where, codec="text", token=TOKEN, buffer=buffer) as kv:
        kv.get("user:000000")
        tracemalloc.start()
        if operation == "update":
            fill(kv, count)
        elif operation == "assign":
            for number in range(count):
                kv[f"user:{number:06d}"] = f"{number:010d}"
            kv.flush()
        else:
            deque(kv.items(), maxlen=0)
        print(tracemalloc.get_traced_memory()[1])


def fill(kv: KVNamespace[str], count: int) -> None:
    """Store so many pairs, which come from a generator and are never all there."""
    kv.update((f"user:{number:06d}", f"{number:010d}" * 10) for number in range(count))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
