"""Under which name a cache's key is stored: as it is if KV takes it, else by its hash."""

from __future__ import annotations

import hashlib

from kvdict.errors import ConfigError
from kvdict.limits import MAX_KEY_BYTES, check_prefix, key_problem

MARK = "~sha256:"
"""What the stored name of a key begins with that KV would not take."""
LONGEST_PREFIX = MAX_KEY_BYTES - len(MARK) - 2 * hashlib.sha256().digest_size


class StoredName(str):
    """A key as a listing gives it, which stands for what is stored under it, hashed or not.

    A plain str that looks like a hashed key is another key, so that nobody can name one by hand.
    """

    __slots__ = ()


def check_room(prefix: str, outer: str) -> str:
    """Return both prefixes as one; ConfigError if a hashed key would be too long behind it."""
    check_prefix(prefix)
    full = outer + prefix
    if len(full.encode()) > LONGEST_PREFIX:
        raise ConfigError(
            f"a cache's prefix, with that of its namespace, has at most {LONGEST_PREFIX} bytes of"
            " UTF-8"
        )
    return full


def stored_name(prefix: str, key: str) -> str:
    """Return under which name a key is stored behind the prefix; a `StoredName` is its own."""
    if not isinstance(key, str):
        raise TypeError(f"keys are str, not {type(key).__name__}: {key!r}")
    if isinstance(key, StoredName):
        return key
    if key_problem(prefix + key) is None and not key.startswith(MARK):
        return key
    return MARK + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
