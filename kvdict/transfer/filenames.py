"""A key as the name of a file, safe on every file system, and back.

Letters in lower case, digits and a few signs stand for themselves, all else for its UTF-8 in
percent signs: capitals too, since some file systems take them for small ones. A long name ends in
a digest, and only a side file knows its key.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import unquote_to_bytes

LONGEST = 120
"""Characters of a name: some file systems take 143, others 255."""
KEPT = 80
"""How many of them a long name keeps before its digest."""
_UNSAFE = re.compile(rb"[^a-z0-9_.@+=,-]")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)")
_BROKEN = re.compile(r"%(?![0-9A-Fa-f]{2})")


def file_name(key: str) -> str:
    """Return the name of the file for a key; no two keys have the same."""
    name = _UNSAFE.sub(lambda found: b"%" + found[0].hex().upper().encode(), key.encode()).decode()
    if name.startswith(".") or _RESERVED.match(name):
        name = _escape(name[0]) + name[1:]
    if name.endswith("."):  # Windows drops it
        name = name[:-1] + _escape(".")
    if len(name) <= LONGEST:
        return name
    return f"{name[:KEPT]}~{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"


def key_of(name: str) -> str | None:
    """Return the key of a file's name, None if that does not say it."""
    if "~" in name or _BROKEN.search(name):
        return None
    try:
        return unquote_to_bytes(name).decode()
    except UnicodeError:
        return None


def _escape(character: str) -> str:
    return f"%{ord(character):02X}"
