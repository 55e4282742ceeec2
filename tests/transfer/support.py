"""What the tests of transfers share: pairs of all kinds, and namespaces that hold them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import kvdict
from kvdict import Entry, transfer

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
FORMATS: tuple[transfer.Format, ...] = ("jsonl", "wrangler", "dir")
LATER = int(time.time()) + 1_000_000

KV = kvdict.KVNamespace[bytes]
Pairs = dict[str, Entry[bytes]]

AWKWARD = (
    "a", "A", "..a", "a.", ".a", "../../etc/passwd", "/etc/passwd", "a/b", "a//b", "a\\b", "C:\\x",
    "con", "CON", "com1.txt", "nul", "%2F", "%", "~", "a~b", "é", "e\u0301", "\u0130", "🎈", " ",
    "\x00", "\n", "\r\n", "\u2028", "\ufeff", "-rf", "--help", ".kvdict.jsonl", "x" * 512,
    "x" * 511, "X" * 512, "é" * 256, "/" * 512, "y" * 120, "y" * 121, "\x7f", "*?<>|:\"'",
)  # fmt: skip
VALUES = (
    b"", b"text", "é🎈\u2028\ufeff".encode(), b"\xff\xfe\x00", b"\x00" * 100, b'"\\\n',
    "\ufffd".encode(), b"\xef\xbb\xbfbom", b"{}", bytes(range(256)),
)  # fmt: skip
METADATA: tuple[Any, ...] = (
    None,
    {"a": [1, {"b": None}]},
    [1],
    "text",
    0,
    False,
    1.5,
    "",
    {},
    2**70,
)


def all_kinds() -> Pairs:
    """Return a pair for each awkward key, with values, metadata and expirations in turn."""
    return {
        key: Entry(
            VALUES[number % len(VALUES)],
            LATER + number if number % 3 == 0 else None,
            METADATA[number % len(METADATA)],
        )
        for number, key in enumerate(AWKWARD)
    }


def plain(count: int) -> Pairs:
    """Return so many small pairs of text."""
    return {f"key:{number:07}": Entry(b"value %d" % number) for number in range(count)}


def memory(pairs: Pairs | None = None, **options: Any) -> KV:
    """Open a namespace in memory with these pairs."""
    kv = kvdict.open("memory://", codec="bytes", **options)
    kv.put_many(pairs or {})
    return kv


def everything(kv: kvdict.KVNamespace[Any]) -> Pairs:
    """Return all pairs of a namespace, raw."""
    return kv.using("bytes").entries(list(kv))


def lines(*objects: bytes) -> bytes:
    """Return the lines of a file."""
    return b"".join(b"%b\n" % line for line in objects)


def python(*arguments: str) -> list[str]:
    """Return a command that runs Python as the tests do."""
    return [sys.executable, "-W", "error", *arguments]
