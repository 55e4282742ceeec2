"""A pair as files hold it, and the JSON object that says it: wrangler's fields in all formats."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kvdict.limits import MAX_EXPIRATION, MAX_VALUE_BYTES, MIN_TTL, encode_metadata, key_problem
from kvdict.models import Entry

FIELDS = "key", "value", "base64", "metadata", "expiration", "expiration_ttl"
_ESCAPED = re.compile(rb"[\x00-\x07\x0b\x0e-\x1f]")
"""Bytes that JSON says in six characters."""
MAX_TEXT = 6 * MAX_VALUE_BYTES + 65_536
"""The most characters that the JSON of a pair can take: six for a byte, as in \\u0000."""


@dataclass(frozen=True, slots=True)
class Record:
    """A pair of a file: `line` is where it stands, `metadata` JSON text, the rest checked."""

    line: int | None
    key: str
    data: bytes
    metadata: str | None = None
    expiration: float | None = None
    expiration_ttl: float | None = None


Reject = Callable[[int | None, str | None, str], None]
"""What is called with line, key and reason of a pair that is invalid: it raises, or counts."""


class InvalidError(ValueError):
    """The JSON value is no pair; `key` is its key if it has one."""

    def __init__(self, reason: str, key: str | None = None) -> None:
        super().__init__(reason)
        self.key = key


def encode_pair(key: str, entry: Entry[bytes]) -> str:
    """Return a pair as a JSON object: text as it is, other values in base64."""
    told: dict[str, Any] = {"key": key, **encode_value(entry.value)}
    return encode({**told, **encode_about(entry)})


def encode_value(data: bytes) -> dict[str, Any]:
    """Return the fields of a value: text if it is some, and no longer that way than in base64."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or 5 * len(_ESCAPED.findall(data)) > len(data) / 3:
        return {"value": base64.b64encode(data).decode(), "base64": True}
    return {"value": text}


def encode_about(entry: Entry[bytes]) -> dict[str, Any]:
    """Return the fields of what an entry has besides its value."""
    about = {"metadata": entry.metadata, "expiration": entry.expiration}
    return {name: value for name, value in about.items() if value is not None}


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(told: dict[str, Any]) -> str:
    """Return the JSON text, in one line."""
    text = _encode(told)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair in the metadata
        return json.dumps(told, separators=(",", ":"))
    return text


def parse_pair(told: Any, line: int | None, repeated: str | None = None) -> Record:
    """Return the pair that a JSON value says; InvalidError for one that the service refuses."""
    key = parse_key(told)
    refuse_other_fields(told, repeated, FIELDS)
    return Record(line, key, parse_value(key, told), *parse_about(key, told))


def parse_key(told: Any) -> str:
    """Return the key of a pair; InvalidError if it has none that the service takes."""
    if not isinstance(told, dict):
        raise InvalidError(f"expected an object with key and value, not {_kind(told)}")
    key = told.get("key")
    if not isinstance(key, str):
        _wrong("key", told, "a text", None)
    problem = key_problem(key)
    if problem:
        raise InvalidError(problem, key)
    return key


def refuse_other_fields(told: dict[str, Any], repeated: str | None, fields: Sequence[str]) -> None:
    """Raise InvalidError for a field that there is not, or that stands twice."""
    if repeated is not None:
        raise InvalidError(f"the field {repeated!r} stands twice in one object", told["key"])
    for field in told:
        if field not in fields:
            raise InvalidError(f"{field!r} is no field; those are {', '.join(fields)}", told["key"])


def parse_value(key: str, told: dict[str, Any]) -> bytes:
    """Return the bytes of the fields value and base64."""
    value, packed = told.get("value"), told.get("base64")
    if not isinstance(value, str):
        _wrong("value", told, "a text (JSON in quotes, bytes in base64)", key)
    if packed is not None and not isinstance(packed, bool):
        _wrong("base64", told, "true or false", key)
    try:
        data = base64.b64decode(value, validate=True) if packed else value.encode()
    except UnicodeEncodeError as error:
        raise InvalidError("the value is not UTF-8; bytes belong in base64", key) from error
    except ValueError as error:
        raise InvalidError(f"the value is not base64: {error}", key) from error
    if len(data) > MAX_VALUE_BYTES:
        raise InvalidError(
            f"the value has {len(data)} bytes, the limit is {MAX_VALUE_BYTES} (25 MiB)", key
        )
    return data


def parse_about(key: str, told: dict[str, Any]) -> tuple[str | None, float | None, float | None]:
    """Return metadata (JSON text), expiration and time to live, which wins over the former."""
    try:
        metadata = encode_metadata(key, told.get("metadata"))
    except ValueError as error:
        raise InvalidError(str(error).partition(": ")[2], key) from error
    ttl = _seconds("expiration_ttl", told, MIN_TTL, key)
    expiration = _seconds("expiration", told, 0, key)
    return metadata, (expiration if ttl is None else None), ttl


def _seconds(field: str, told: dict[str, Any], least: int, key: str) -> float | None:
    value = told.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        _wrong(field, told, "a number of seconds", key)
    if not least <= value <= MAX_EXPIRATION:
        raise InvalidError(f"{field} is {value}, expected {least} to {MAX_EXPIRATION} seconds", key)
    return float(value)


def _wrong(field: str, told: dict[str, Any], expected: str, key: str | None) -> NoReturn:
    found = _kind(told[field]) if field in told else "missing"
    raise InvalidError(f"{field} is {found}, expected {expected}", key)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return kinds.get(type(value), "null" if value is None else "a number")
