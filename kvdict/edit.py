"""A pair that is there, changed: its value by `kv.edit`, expiry and metadata by `kv.touch`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from kvdict.codecs import decode, encode
from kvdict.errors import CodecError
from kvdict.limits import encode_metadata
from kvdict.phrases import shorten
from kvdict.writes import Moment, Seconds, Write, expiry_of, stored_expiry

if TYPE_CHECKING:
    from kvdict.models import Entry
    from kvdict.namespace import KVNamespace

T = TypeVar("T")
V = TypeVar("V")


class _Mark(Enum):
    KEEP = "keep"


Kept = Literal[_Mark.KEEP]
KEEP: Final = _Mark.KEEP
NO_DEFAULT: Final = object()
UNCHANGING = (str, bytes, int, float, tuple, frozenset, type(None))


@contextmanager
def edit(kv: KVNamespace[V], key: str, default: Any) -> Iterator[V]:
    """Give a value to change; save it at the end of the block if its encoded form has changed."""
    kv._check_writable()
    full = kv._space.to_write(key)
    entry = kv._backing.reads.entry(full, fresh=True)
    if entry is None and default is NO_DEFAULT:
        raise KeyError(key)
    before = encode(kv.codec, key, default) if entry is None else entry.value
    value = decode(kv.codec, key, before)
    if isinstance(value, UNCHANGING):
        raise CodecError(
            f"key {shorten(key)}: a {type(value).__name__} cannot be changed in place; assign it:"
            f" kv[{shorten(key)}] = ..."
        )
    unchanged = encode(kv.codec, key, value)
    yield value
    write = kv._write(key, value)
    if write.data == unchanged:
        return
    if entry is not None:
        metadata = encode_metadata(key, entry.metadata)
        write = replace(write, expiry=stored_expiry(entry.expiration), metadata=metadata)
    kv._backing.writes.put(write)


def touch(
    kv: KVNamespace[Any],
    key: str,
    expiration_ttl: Seconds | Kept | None,
    expiration: Moment | Kept | None,
    metadata: Any,
) -> None:
    """Store a pair again with what was named; with nothing named its time to live starts anew."""
    kv._check_writable()
    backing, clock = kv._backing, kv._backing.clock
    full = kv._space.to_read(key)
    if full is None:
        raise KeyError(key)
    if expiration_ttl is expiration is metadata is KEEP and kv.expiration_ttl:
        expiration_ttl = kv.expiration_ttl
    keeps_expiry = expiration_ttl is expiration is KEEP
    expiry = expiry_of(key, clock.now(), _given(expiration_ttl), _given(expiration), clock.wall())
    text = None if metadata is KEEP else encode_metadata(key, metadata)

    def decide(entry: Entry[bytes] | None) -> Write:
        if entry is None:
            raise KeyError(key)
        return Write(
            full,
            entry.value,
            stored_expiry(entry.expiration) if keeps_expiry else expiry,
            encode_metadata(key, entry.metadata) if metadata is KEEP else text,
        )

    look = partial(backing.reads.entry, fresh=True)  # else another writer's work is lost
    backing.writes.modify(full, look, decide)


def _given(option: T | Kept) -> T | None:
    return None if option is KEEP else option
