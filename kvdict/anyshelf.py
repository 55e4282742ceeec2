"""`Shelf`: the standard library's, over any mapping of bytes, with a serializer of one's own."""

from __future__ import annotations

import pickle
import shelve
from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

from kvdict.errors import ShelveError

V = TypeVar("V")

Serializer = Callable[[Any, int], Any]
"""Makes bytes, or what is like them, of a value and the pickle protocol, which it may ignore."""
Deserializer = Callable[[bytes], Any]


class Shelf(shelve.Shelf[V]):
    """The standard library's Shelf, with the serializer and deserializer of Python 3.15.

    Over any mapping from bytes to bytes; `open` makes a `KVShelf`.
    """

    def __init__(
        self,
        dict: MutableMapping[bytes, bytes],
        protocol: int | None = None,
        writeback: bool = False,
        keyencoding: str = "utf-8",
        *,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
    ) -> None:
        both = check_both(serializer, deserializer)
        super().__init__(dict, protocol, writeback, keyencoding)
        self.serializer, self.deserializer = both
        self.dict = dict
        self._protocol = pickle.DEFAULT_PROTOCOL if protocol is None else protocol
        self.writeback = writeback
        self.keyencoding = keyencoding
        self.cache: MutableMapping[str, V] = {}

    def __getitem__(self, key: str) -> V:
        if key in self.cache:
            return self.cache[key]
        value: V = self.deserializer(self.dict[key.encode(self.keyencoding)])
        if self.writeback:
            self.cache[key] = value
        return value

    def __setitem__(self, key: str, value: V) -> None:
        if self.writeback:
            self.cache[key] = value
        data = as_bytes(self.serializer(value, self._protocol))
        self.dict[key.encode(self.keyencoding)] = data


def check_both(
    serializer: Serializer | None, deserializer: Deserializer | None
) -> tuple[Serializer, Deserializer]:
    """Return both, pickle's if there is neither; ShelveError for one alone."""
    if serializer is None and deserializer is None:
        return pickle.dumps, pickle.loads
    if serializer is None or deserializer is None:
        raise ShelveError("give serializer and deserializer, or neither: one undoes the other")
    return serializer, deserializer


def as_bytes(data: Any) -> bytes:
    """Return what a serializer made as bytes; ShelveError for None."""
    if data is None:
        raise ShelveError("the serializer returned None, not bytes; does it lack a return?")
    return data.encode() if isinstance(data, str) else memoryview(data).tobytes()
