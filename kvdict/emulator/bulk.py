"""Bulk: the routes that write, delete and read many pairs in one request."""

from __future__ import annotations

import binascii
from typing import Any

from kvdict.emulator.call import Call
from kvdict.emulator.checks import (
    canonical,
    check_key,
    check_value_size,
    expiration,
    metadata_from_value,
    parse_json,
)
from kvdict.emulator.knobs import Knobs
from kvdict.emulator.past import Pairs
from kvdict.emulator.refusals import CauseError, Refusal
from kvdict.emulator.reply import Reply, success
from kvdict.emulator.store import OversizeError, Pair
from kvdict.emulator.values import loaded
from kvdict.limits import (
    ILLEGAL_KEYS,
    MAX_BULK_GET_BYTES,
    MAX_BULK_GET_KEYS,
    MAX_BULK_PAIRS,
    MAX_KEY_BYTES,
)

_FIELDS = {
    "base64": bool | None,
    "expiration": int | float | None,
    "expiration_ttl": int | float | None,
}
"""What a pair may hold beside key, value and metadata; other fields do not matter."""


class Bulk:
    """The routes below a namespace that concern many pairs."""

    def __init__(self, store: Pairs, knobs: Knobs | None) -> None:
        self._store = store
        self._knobs = knobs

    def put(self, call: Call) -> Reply:
        """Answer PUT: one invalid pair refuses the whole request."""
        items = _array(call, "pairs")
        pairs: dict[str, Pair] = {}
        now = self._store.clock()
        for item in items:
            key, pair = _pair(item, now)
            if pairs.setdefault(key, pair) != pair:
                text = (
                    "received duplicate key with different values or expiration parameters:"
                    f" {canonical(key)}"
                )
                raise CauseError(400, 10012, text)
        failed = self._failed(call, list(pairs))
        written = [(key, pair) for key, pair in pairs.items() if key not in failed]
        self._store.put_many(call.account, call.namespace, written)
        return _outcome(len(written), failed)

    def delete(self, call: Call) -> Reply:
        """Answer POST on bulk/delete, and the older DELETE with a body."""
        keys = list(dict.fromkeys(_key(item) for item in _array(call, "keys")))
        failed = self._failed(call, keys)
        deleted = [key for key in keys if key not in failed]
        self._store.delete_many(call.account, call.namespace, deleted)
        return _outcome(len(deleted), failed)

    def get(self, call: Call) -> Reply:
        """Answer POST on bulk/get: what is not text, or not JSON, refuses the whole request."""
        body = call.json("could not parse request body", 10029)
        if not isinstance(body, dict):
            raise CauseError(400, 10029, "the request body must be an object with keys")
        keys = _wanted(body.get("keys"))
        form = body.get("type") or "text"
        if form not in ("text", "json"):
            text = f'{canonical(form)} is not a valid type. Use "json" or "text"'
            raise CauseError(400, 10029, text)
        found = self._found(call, keys)
        detailed = bool(body.get("withMetadata"))
        values = {key: _shown(found.get(key), form, detailed=detailed) for key in keys}
        return success({"values": values})

    def _found(self, call: Call, keys: list[str]) -> dict[str, Pair]:
        try:
            return self._store.get_many(
                call.account, call.namespace, keys, most_bytes=MAX_BULK_GET_BYTES
            )
        except OversizeError:
            text = "Total size of request exceeds the limit of 25MB"
            raise CauseError(413, 10024, text) from None

    def _failed(self, call: Call, keys: list[str]) -> set[str]:
        return set(self._knobs.some(keys)) if self._knobs is not None and call.partial else set()


def _outcome(count: int, failed: set[str]) -> Reply:
    return success({"successful_key_count": count, "unsuccessful_keys": sorted(failed)})


def _array(call: Call, what: str) -> list[Any]:
    problem = f"could not parse array of {what} from request body"
    items = call.json(problem, 10012)
    if not isinstance(items, list):
        raise CauseError(400, 10012, f"{problem}: not an array")
    if len(items) > MAX_BULK_PAIRS:
        text = f"{len(items)} {what} in one request, at most {MAX_BULK_PAIRS} are allowed"
        raise CauseError(400, 10020, text)
    return items


def _key(item: Any) -> str:
    if not isinstance(item, str):
        text = "could not parse array of keys from request body: a key must be a string"
        raise CauseError(400, 10012, text)
    check_key(item)
    return item


def _pair(item: Any, now: float) -> tuple[str, Pair]:
    problem = "could not parse array of pairs from request body"
    if not isinstance(item, dict):
        raise CauseError(400, 10012, f"{problem}: a pair must be an object")
    key, value = item.get("key"), item.get("value")
    if not isinstance(key, str) or not isinstance(value, str):
        raise CauseError(400, 10012, f"{problem}: key and value must be strings")
    check_key(key)
    for name, kinds in _FIELDS.items():
        if not isinstance(item.get(name), kinds):
            raise CauseError(400, 10012, f"{problem}: {name} is of the wrong type")
    ends = expiration(item.get("expiration_ttl"), item.get("expiration"), now)
    metadata = metadata_from_value(item.get("metadata"))
    data = _decoded(key, value) if item.get("base64") else _encoded(key, value)
    check_value_size(len(data))
    return key, Pair(data, ends, metadata)


def _encoded(key: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        text = f"value for key: {canonical(key)} is not valid UTF-8"
        raise CauseError(400, 10012, text) from None


def _decoded(key: str, value: str) -> bytes:
    try:
        return binascii.a2b_base64(value.replace("\r", "").replace("\n", ""), strict_mode=True)
    except ValueError:
        text = (
            f"could not base64 decode value for key: {canonical(key)},"
            f" err: 'illegal base64 data at input byte {_first_illegal(value)}'"
        )
        raise CauseError(400, 10012, text) from None


def _first_illegal(value: str) -> int:
    legal = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    end = len(value.rstrip("="))
    return next((at for at, char in enumerate(value[:end]) if char not in legal), end)


def _wanted(keys: Any) -> list[str]:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CauseError(400, 10029, "keys must be an array of strings")
    if not keys:
        raise Refusal(400, 10029, "You must request a minimum of 1 key")
    if len(keys) > MAX_BULK_GET_KEYS:
        text = f"You can request a maximum of {MAX_BULK_GET_KEYS} keys"
        raise CauseError(400, 10029, text)
    for key in keys:
        _check_wanted(key)
    return keys


def _check_wanted(key: str) -> None:
    if key in ILLEGAL_KEYS:
        raise CauseError(400, 10029, f"Key name {key} is not legal")
    size = len(key.encode(errors="surrogatepass"))
    if size > MAX_KEY_BYTES:
        raise CauseError(414, 10030, f"Encoded length of {size} is too long")
    check_key(key)  # what is left to refuse is a lone surrogate


def _shown(pair: Pair | None, form: str, *, detailed: bool) -> Any:
    """Return what stands for a key in the answer; a stored JSON null looks like a missing key."""
    if pair is None:
        return None
    value = _text(pair.value) if form == "text" else _json(pair.value)
    if not detailed or value is None:
        return value
    shown: dict[str, Any] = {"value": value, "metadata": loaded(pair.metadata)}
    if pair.expiration is not None:
        shown["expiration"] = pair.expiration
    return shown


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _unreadable("non-text") from None


def _json(value: bytes) -> Any:
    try:
        parsed = parse_json(value)
        canonical([[[[parsed]]]])  # nested as deeply as the answer will be: may it be encoded?
    except (ValueError, RecursionError):
        raise _unreadable("non-json") from None
    return parsed


def _unreadable(what: str) -> CauseError:
    text = f"At least one of the requested keys corresponds to a {what} value"
    return CauseError(400, 10029, text)
