"""Iterators and views of a namespace, in the fewest requests.

`list(kv)`, `sorted(kv)` and `tuple(kv)` ask for an iterator, then for the length, then for the
first item. So an iterator that was not started yet takes over the keys that `len()` has listed.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Set, ValuesView
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from kvdict.ahead import ReadAhead
    from kvdict.mapping import KVMapping

V = TypeVar("V")

MOMENT = 5.0
"""Seconds for which an iterator may use what `len()` listed before it was started."""


class KeyIterator(Iterator[str]):
    """Yields the names of a namespace's keys; lists them only when it is asked for the first."""

    def __init__(self, namespace: KVMapping[Any]) -> None:
        self._namespace = namespace
        self._names: Iterator[str] | None = None
        self._given: tuple[int, float, list[str]] | None = None

    @property
    def is_waiting(self) -> bool:
        """Tell whether nothing was listed for it yet."""
        return self._names is None

    def give(self, names: list[str], writes: int) -> None:
        """Take names that were just listed, good for a moment or until the next write."""
        self._given = writes, time.monotonic() + MOMENT, names

    def __next__(self) -> str:
        if self._names is None:
            writes, until, names = self._given or (None, 0.0, [])
            fresh = writes == self._namespace._writes_made and time.monotonic() < until
            self._names = iter(names) if fresh else self._namespace._trailed()
            self._given = None
        return next(self._names)


class Waiting(threading.local):
    """What a thread may go on with: an iterator that was not started, and what it listed last."""

    iterator: weakref.ref[KeyIterator] | None = None
    trail: ReadAhead | None = None


class Keys(KeysView[str]):
    """`kv.keys()`. Set operations list the keys once, a request a thousand.

    `&`, `isdisjoint` and `other - kv.keys()` look up the other side's elements instead, a request
    a hundred. The mixins would list once for each step and ask for each element by itself.
    """

    _mapping: KVMapping[Any]

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping)

    def __and__(self, other: Iterable[Any]) -> set[str]:
        return self._mapping._present(other)

    def __rand__(self, other: Iterable[Any]) -> set[Any]:
        return self._mapping._present(other)

    def isdisjoint(self, other: Iterable[Any]) -> bool:
        """Tell whether none of the other's elements is a key here."""
        return not self._mapping._present(other)

    def __rsub__(self, other: Iterable[Any]) -> set[Any]:
        elements = set(other)
        return elements - self._mapping._present(elements)

    def __sub__(self, other: Iterable[Any]) -> set[str]:
        return set(self) - set(other)

    def __or__(self, other: Iterable[Any]) -> set[Any]:
        return set(self) | set(other)

    __ror__ = __or__

    def __xor__(self, other: Iterable[Any]) -> set[Any]:
        return set(self) ^ set(other)

    __rxor__ = __xor__

    def __eq__(self, other: object) -> bool:
        return set(self) == set(other) if isinstance(other, Set) else NotImplemented

    def __le__(self, other: Set[Any]) -> bool:
        return set(self) <= set(other) if isinstance(other, Set) else NotImplemented

    def __lt__(self, other: Set[Any]) -> bool:
        return set(self) < set(other) if isinstance(other, Set) else NotImplemented

    def __ge__(self, other: Set[Any]) -> bool:
        return set(self) >= set(other) if isinstance(other, Set) else NotImplemented

    def __gt__(self, other: Set[Any]) -> bool:
        return set(self) > set(other) if isinstance(other, Set) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # like a dict's view


class Values(ValuesView[V]):
    """`kv.values()`: in bulk, where the mixin would read one by one."""

    _mapping: KVMapping[V]

    def __iter__(self) -> Iterator[V]:
        pairs = self._mapping._pairs(iter(self._mapping))
        return (value for _, value in pairs)

    def __contains__(self, value: object) -> bool:
        return any(mine is value or mine == value for mine in self)


class Items(ItemsView[str, V]):
    """`kv.items()`: in bulk, where the mixin would read one by one."""

    _mapping: KVMapping[V]

    def __iter__(self) -> Iterator[tuple[str, V]]:
        return self._mapping._pairs(iter(self._mapping))

    def __eq__(self, other: object) -> bool:
        """Compare while reading once: values need not be hashable."""
        if not isinstance(other, Set):
            return NotImplemented
        count = 0
        for item in self:
            if item not in other:
                return False
            count += 1
        return count == len(other)

    __hash__ = None  # type: ignore[assignment]  # like a dict's view
