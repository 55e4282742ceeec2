"""A write on its way to the wire."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from kvdict.errors import LimitError
from kvdict.limits import MIN_TTL, check_expiration, check_ttl
from kvdict.phrases import shorten

Seconds = float | timedelta
"""A time to live."""
Moment = float | datetime
"""Epoch seconds, or an aware datetime."""

NEAR = 2 * MIN_TTL
"""Seconds: an absolute expiration nearer than this might be less than a minute ahead on arrival."""
ROUNDING = 1e-3
"""Seconds that adding a time to live to the clock and taking it off again may be out by."""
EXPIRY_SIZE = len(',"expiration_ttl":253402300799')


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a pair ends: fixed when the caller wrote, said anew in each attempt.

    `deadline` is epoch seconds: of a moment that the caller named (`absolute`) by the service's
    clock, of a time to live by our own, so that it is not shifted by what is learnt of the
    service's clock in between.
    """

    deadline: float
    absolute: bool = False

    def left(self, now: float, wall: float | None = None) -> float:
        """Return the seconds until the end, by the service's clock and ours (None: the same)."""
        return self.deadline - (now if self.absolute or wall is None else wall)

    def moment(self, offset: float) -> float:
        """Return when it ends by the service's clock, which is `offset` seconds ahead of ours."""
        return self.deadline if self.absolute else self.deadline + offset

    def option(self, now: float, wall: float | None = None) -> tuple[str, int]:
        """Return the option to send: a time to live of at least a minute where time is short."""
        left = self.left(now, wall)
        if self.absolute and left >= NEAR:
            return "expiration", math.ceil(self.deadline)
        return "expiration_ttl", max(MIN_TTL, math.ceil(left - ROUNDING))


def expiry_of(
    key: str,
    now: float,
    expiration_ttl: Seconds | None,
    expiration: Moment | None,
    wall: float | None = None,
) -> Expiry | None:
    """Return when a pair ends as the caller said it, None for never; LimitError if out of range.

    `now` is the service's time, `wall` our own (None: the same).
    """
    where = f"key {shorten(key)}"
    if expiration_ttl is not None and expiration is not None:
        raise LimitError(f"{where}: give expiration_ttl or expiration, not both")
    if expiration_ttl is not None:
        return Expiry((now if wall is None else wall) + check_ttl(expiration_ttl, where))
    if expiration is not None:
        return Expiry(check_expiration(expiration, now, where), absolute=True)
    return None


def stored_expiry(expiration: float | None) -> Expiry | None:
    """Return when a pair ends as the service tells it, None for never."""
    return None if expiration is None else Expiry(expiration, absolute=True)


@dataclass(frozen=True, slots=True)
class Write:
    """One pair as it goes to the wire; `metadata` is JSON text."""

    key: str
    data: bytes
    expiry: Expiry | None = None
    metadata: str | None = None


class PackedWrite:
    """A pair encoded for a bulk body; `size` is the most bytes it takes there."""

    __slots__ = ("_head", "size", "write")

    def __init__(self, write: Write) -> None:
        self.write = write
        self._head = _pack(write)
        self.size = len(self._head) + len("},") + (EXPIRY_SIZE if write.expiry else 0)

    @property
    def key(self) -> str:
        """Return the key that is written."""
        return self.write.key

    def body(self, now: float, wall: float | None = None) -> bytes:
        """Return the pair as a JSON object, with the expiry as it is to be said now."""
        if self.write.expiry is None:
            return self._head + b"}"
        name, value = self.write.expiry.option(now, wall)
        return b'%b,"%b":%d}' % (self._head, name.encode(), value)


quoted = json.JSONEncoder(ensure_ascii=False).encode
"""Returns a text as JSON does; json.dumps with options would make an encoder for each call."""


def _pack(write: Write) -> bytes:
    try:
        value, flag = quoted(write.data.decode()).encode(), b""
    except UnicodeDecodeError:
        value, flag = b'"%b"' % base64.b64encode(write.data), b',"base64":true'
    metadata = f',"metadata":{write.metadata}' if write.metadata is not None else ""
    return b'{"key":%b,"value":%b%b%b' % (
        quoted(write.key).encode(), value, flag, metadata.encode(),
    )  # fmt: skip
