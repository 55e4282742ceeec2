"""Cloudflare's numbers, and the checks of key, value, metadata and expiry.

The numbers are those of developers.cloudflare.com/kv/platform/limits and of the API reference.
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

from kvdict.errors import LimitError
from kvdict.phrases import shorten

MAX_KEY_BYTES = 512
MAX_VALUE_BYTES = 25 * 1024 * 1024
MAX_METADATA_BYTES = 1024
MIN_TTL = 60
"""Seconds: the shortest `expiration_ttl`, and the nearest `expiration`."""
MAX_EXPIRATION = 253_402_300_799
"""The last second of the year 9999. The service names no limit; datetime and SQLite have one."""
MAX_TITLE_LENGTH = 512
MAX_BULK_PAIRS = 10_000
MAX_BULK_BYTES = 100_000_000
MAX_BULK_GET_KEYS = 100
MAX_BULK_GET_BYTES = 25_000_000
MAX_LIST_KEYS = 1000
MIN_LIST_KEYS = 10
MAX_NAMESPACES_PER_PAGE = 1000
MAX_NAMESPACES = 1000
ILLEGAL_KEYS = frozenset(("", ".", ".."))


def key_problem(key: str) -> str | None:
    """Say which rule the key breaks, or None if the service would take it."""
    if key in ILLEGAL_KEYS:
        return "a key must not be empty, '.' or '..'"
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "a key must be valid Unicode; this one holds a lone surrogate"
    if size > MAX_KEY_BYTES:
        return f"a key has at most {MAX_KEY_BYTES} bytes of UTF-8; this one has {size}"
    return None


def check_key(key: str) -> None:
    """Raise TypeError for a key that is not a str, LimitError for one the service refuses."""
    if not isinstance(key, str):
        raise TypeError(f"keys are str, not {type(key).__name__}: {key!r}")
    problem = key_problem(key)
    if problem:
        raise LimitError(f"key {shorten(key)}: {problem}")


def check_prefix(prefix: str) -> None:
    """Raise TypeError or LimitError for a prefix no key could have."""
    if not isinstance(prefix, str):
        raise TypeError(f"a prefix is a str, not {type(prefix).__name__}: {prefix!r}")
    problem = None if prefix in ILLEGAL_KEYS else key_problem(prefix)
    if problem:
        raise LimitError(f"prefix {shorten(prefix)}: {problem}")


def check_value(key: str, data: bytes) -> None:
    """Raise LimitError for a value of more than 25 MiB."""
    if len(data) > MAX_VALUE_BYTES:
        raise LimitError(
            f"key {shorten(key)}: the value has {len(data)} bytes, the limit is {MAX_VALUE_BYTES}"
            " (25 MiB); split it over several keys"
        )


def encode_metadata(key: str, metadata: Any) -> str | None:
    """Return the metadata as JSON text, None for none; LimitError if it is refused."""
    if metadata is None:
        return None
    try:
        text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
        refuse_other_keys(metadata)
    except (TypeError, ValueError, RecursionError) as error:
        raise LimitError(f"key {shorten(key)}: the metadata is not JSON: {error}") from error
    if size > MAX_METADATA_BYTES:
        raise LimitError(
            f"key {shorten(key)}: the metadata has {size} bytes of JSON, the limit is"
            f" {MAX_METADATA_BYTES}; put the rest into the value"
        )
    return text


def refuse_other_keys(value: Any) -> None:
    """Raise TypeError for a dict key that is not str: JSON would turn 1 into "1"."""
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            for key in item:
                if not isinstance(key, str):
                    raise TypeError(f"JSON keys are str, this dict has {key!r}")
            rest.extend(item.values())
        elif isinstance(item, list | tuple):
            rest.extend(item)


def check_page(cursor: str | None, limit: int | None) -> None:
    """Raise TypeError or LimitError for what no page of keys begins with or is as long as."""
    if not isinstance(cursor, str | None):
        raise TypeError(f"a cursor is a str, not {type(cursor).__name__}")
    if isinstance(limit, bool) or not isinstance(limit, int | None):
        raise TypeError(f"a limit is an int, not {type(limit).__name__}")
    if limit is not None and not MIN_LIST_KEYS <= limit <= MAX_LIST_KEYS:
        raise LimitError(f"limit is {limit}, a page has {MIN_LIST_KEYS} to {MAX_LIST_KEYS} keys")


def check_ttl(ttl: float | timedelta, where: str) -> float:
    """Return a time to live in seconds; LimitError if it is not a number of at least 60."""
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else _number(ttl, where)
    if not MIN_TTL <= seconds <= MAX_EXPIRATION:
        near, far = f"Cloudflare takes {MIN_TTL} s and more", f"{MAX_EXPIRATION} s is the longest"
        bound = near if seconds < MIN_TTL else far
        raise LimitError(f"{where}: expiration_ttl is {seconds:.12g} s, {bound}")
    return seconds


def check_expiration(expiration: float | datetime, now: float, where: str) -> float:
    """Return a point in time as epoch seconds; LimitError if it is not a minute ahead of `now`."""
    if isinstance(expiration, datetime):
        if expiration.tzinfo is None:
            raise LimitError(
                f"{where}: the expiration {expiration} has no time zone;"
                " say which, for example datetime.now(timezone.utc) + timedelta(hours=1)"
            )
        moment = expiration.timestamp()
    else:
        moment = _number(expiration, where)
    if moment < now:
        raise LimitError(
            f"{where}: the expiration {moment:.0f} lies {now - moment:.0f} s in the past; it is in"
            " epoch seconds (a time to live is an expiration_ttl)"
        )
    if not now + MIN_TTL <= moment <= MAX_EXPIRATION:
        near, far = f"Cloudflare takes {MIN_TTL} s and more", "the end of the year 9999 is the last"
        bound = near if moment < now + MIN_TTL else far
        raise LimitError(
            f"{where}: the expiration {moment:.0f} is {moment - now:.0f} s ahead of the service's"
            f" clock, {bound} (epoch seconds, not milliseconds"
            " and not a time to live)"
        )
    return moment


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(
            f"{where}: expected seconds as a number (a timedelta is an expiration_ttl, an aware"
            f" datetime an expiration), not {type(value).__name__}"
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise LimitError(f"{where}: {number} is no number of seconds")
    return number
