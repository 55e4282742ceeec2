"""Values: the routes of single pairs, and of the list of keys."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from kvdict.emulator.call import Call
from kvdict.emulator.checks import (
    check_key_length,
    check_value_size,
    expiration,
    metadata_from_text,
)
from kvdict.emulator.knobs import Knobs
from kvdict.emulator.past import Pairs
from kvdict.emulator.refusals import CauseError, missing_key
from kvdict.emulator.reply import BYTES, DONE, Reply, success
from kvdict.emulator.store import Listed, Pair
from kvdict.limits import MAX_LIST_KEYS, MIN_LIST_KEYS

RESUMED = b"k"
"""Marks a cursor behind a page of keys."""
EMPTY_SHOWN = b"e"
"""Marks a cursor behind a page that a knob left empty."""


class Values:
    """The routes below a namespace that concern one pair, or list the keys."""

    def __init__(self, store: Pairs, knobs: Knobs | None) -> None:
        self._store = store
        self._knobs = knobs

    def get(self, call: Call) -> Reply:
        """Answer GET on a value: the bytes as they are, no envelope."""
        pair = self._store.get(call.account, call.namespace, call.key)
        if pair is None:
            raise missing_key()
        if pair.expiration is None:
            return Reply(200, pair.value, BYTES)
        return Reply(200, pair.value, BYTES, (("expiration", str(pair.expiration)),))

    def put(self, call: Call) -> Reply:
        """Answer PUT on a value: expiry and metadata that are not given are cleared."""
        query = call.query()
        ends = expiration(query.get("expiration_ttl"), query.get("expiration"), self._store.clock())
        value, given = call.value_and_metadata()
        metadata = None if given is None else metadata_from_text(given)
        check_value_size(len(value))
        self._store.put(call.account, call.namespace, call.key, Pair(value, ends, metadata))
        return DONE

    def delete(self, call: Call) -> Reply:
        """Answer DELETE on a value, whether it is there or not."""
        self._store.delete_many(call.account, call.namespace, [call.key])
        return DONE

    def metadata(self, call: Call) -> Reply:
        """Answer GET on a key's metadata."""
        found = self._store.metadata(call.account, call.namespace, call.key)
        if found is None:
            raise missing_key()
        return success(loaded(found.metadata))

    def keys(self, call: Call) -> Reply:
        """Answer GET on the keys: one page, with the cursor of the next or a blank one."""
        query = call.query()
        limit = _limit(query.get("limit", str(MAX_LIST_KEYS)))
        prefix = query.get("prefix", "")
        check_key_length(prefix)
        mark, after = _open_cursor(query.get("cursor"))
        if self._knobs is not None and self._knobs.empty_pages and mark != EMPTY_SHOWN:
            self._store.namespace(call.account, call.namespace)
            return success([], {"count": 0, "cursor": _cursor(EMPTY_SHOWN, after)})
        found = self._store.keys(
            call.account, call.namespace, prefix=prefix, after=after, limit=limit + 1
        )
        page = found[:limit]
        cursor = _cursor(RESUMED, page[-1].name) if len(found) > limit else ""
        return success([_shown(key) for key in page], {"count": len(page), "cursor": cursor})


def loaded(metadata: str | None) -> Any:
    """Return stored metadata as a value."""
    return None if metadata is None else json.loads(metadata)


def _shown(key: Listed) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": key.name}
    if key.expiration is not None:
        shown["expiration"] = key.expiration
    if key.metadata is not None:
        shown["metadata"] = json.loads(key.metadata)
    return shown


def _limit(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(text) > 9 or int(text) < MIN_LIST_KEYS:
        bound = f"greater than {MIN_LIST_KEYS - 1}"
    elif int(text) > MAX_LIST_KEYS:
        bound = f"less than {MAX_LIST_KEYS + 1}"
    else:
        return int(text)
    problem = f"Invalid key_count_limit of {text}. Please specify an integer {bound}."
    raise CauseError(400, 10028, problem)


def _cursor(mark: bytes, after: str) -> str:
    return base64.urlsafe_b64encode(mark + after.encode()).decode().rstrip("=")


def _open_cursor(text: str | None) -> tuple[bytes, str]:
    """Return a cursor's mark and the key that it stands behind."""
    if text is None:
        return RESUMED, ""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        mark, after = data[:1], data[1:].decode()
    except (binascii.Error, ValueError):
        raise CauseError(400, 10041, "Invalid cursor") from None
    if mark != EMPTY_SHOWN and not (mark == RESUMED and after):
        raise CauseError(400, 10041, "Invalid cursor")
    return mark, after
