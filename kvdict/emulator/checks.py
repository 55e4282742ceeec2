"""Checks: what the service accepts as key, expiry, metadata and value, in its order and words."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from kvdict.emulator.refusals import CauseError
from kvdict.limits import (
    ILLEGAL_KEYS,
    MAX_EXPIRATION,
    MAX_KEY_BYTES,
    MAX_METADATA_BYTES,
    MAX_VALUE_BYTES,
    MIN_TTL,
)

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)


def check_key(key: str) -> None:
    """Refuse an empty key, dots alone, and more than 512 bytes."""
    if key in ILLEGAL_KEYS:
        if not key:
            raise CauseError(400, 10042, "Key names must not be empty")
        text = f'Illegal key name "{key}". Please use a different name.'
        raise CauseError(400, 10042, text)
    check_key_length(key)


def check_key_length(key: str) -> None:
    """Refuse a key, or a prefix of one, of more than 512 bytes."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise CauseError(400, 10042, "Key names must be valid UTF-8") from None
    if size > MAX_KEY_BYTES:
        text = f"UTF-8 encoded length of {size} exceeds key length limit of {MAX_KEY_BYTES}."
        raise CauseError(414, 10030, text)


def expiration(ttl: Any, moment: Any, now: float) -> int | None:
    """Return when a pair is to vanish, from what a request says; the time to live wins."""
    if ttl is not None:
        return int(now) + _ttl(ttl)
    if moment is not None:
        return _moment(moment, int(now))
    return None


def _ttl(given: Any) -> int:
    seconds = _number(given)
    if not 0 < seconds <= MAX_EXPIRATION:
        text = f"Invalid expiration_ttl of {given}. Please specify integer greater than 0."
        raise CauseError(400, 10034, text)
    if seconds < MIN_TTL:
        text = f"Invalid expiration_ttl of {given}. Expiration TTL must be at least {MIN_TTL}."
        raise CauseError(400, 10034, text)
    return int(seconds)


def _moment(given: Any, now: int) -> int:
    moment = _number(given)
    if not now < moment <= MAX_EXPIRATION:
        text = (
            f"Invalid expiration of {given}. Please specify integer greater than the current"
            " number of seconds since the UNIX epoch."
        )
        raise CauseError(400, 10033, text)
    if moment < now + MIN_TTL:
        text = (
            f"Invalid expiration of {given}. Expiration times must be at least {MIN_TTL}"
            " seconds in the future."
        )
        raise CauseError(400, 10033, text)
    return int(moment)


def _number(given: Any) -> float:
    """Return a number, or NaN for what is none."""
    if isinstance(given, str):
        return float(given) if _NUMBER.fullmatch(given) else math.nan
    if isinstance(given, bool) or not isinstance(given, int | float):
        return math.nan
    try:
        return float(given)
    except OverflowError:
        return math.nan


def metadata_from_text(given: bytes) -> str | None:
    """Return what is stored of metadata that came as JSON text; its size counts as sent."""
    try:
        value = parse_json(given)
    except (ValueError, RecursionError):
        raise CauseError(400, 10147, "metadata must be valid json") from None
    _check_metadata_size(len(given))
    return metadata_from_value(value)


def metadata_from_value(given: Any) -> str | None:
    """Return what is stored of metadata that came as a JSON value inside a request."""
    if given is None:
        return None
    try:
        text = canonical(given)
    except (ValueError, RecursionError):
        raise CauseError(400, 10147, "metadata must be valid json") from None
    _check_metadata_size(len(text.encode()))
    return text


def _check_metadata_size(size: int) -> None:
    if size > MAX_METADATA_BYTES:
        text = f"Metadata length of {size} exceeds limit of {MAX_METADATA_BYTES}."
        raise CauseError(413, 10047, text)


def check_value_size(size: int) -> None:
    """Refuse a value of more than 25 MiB."""
    if size > MAX_VALUE_BYTES:
        text = f"Value length of {size} exceeds limit of {MAX_VALUE_BYTES}."
        raise CauseError(413, 10024, text)


def parse_json(text: bytes) -> Any:
    """Parse strict JSON in UTF-8: no NaN, no infinities."""
    return json.loads(text.decode(), parse_constant=_refuse_constant)


def canonical(value: Any) -> str:
    """Return the value as compact JSON; a lone surrogate stays an escape."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
