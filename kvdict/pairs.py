"""Pairs and keys as callers give them: whatever `dict.update` takes, entries among the values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

from kvdict.models import Entry
from kvdict.writes import Moment, Seconds

T = TypeVar("T")
V = TypeVar("V")
W = TypeVar("W")
W_co = TypeVar("W_co", covariant=True)


class HasKeys(Protocol[W_co]):
    """The least that dict.update takes for a mapping."""

    def keys(self) -> Iterable[str]:
        """Return the keys."""
        ...

    def __getitem__(self, key: str, /) -> W_co: ...


Pairs = HasKeys[W] | Iterable[tuple[str, W]]


def pairs_of(source: Any) -> Iterator[tuple[str, Any]]:
    """Return the pairs of whatever dict.update takes."""
    if isinstance(source, Mapping):
        return iter(source.items())
    if hasattr(source, "keys"):
        return ((key, source[key]) for key in source.keys())  # noqa: SIM118 - it may be no mapping
    return iter(source)


def several(keys: Iterable[T]) -> Iterable[T]:
    """Return the keys; TypeError for one str, whose characters would be taken for keys."""
    if isinstance(keys, str | bytes):
        raise TypeError(f"expected several keys, not one {type(keys).__name__}: write [{keys!r}]")
    return keys


def with_own_options(
    value: V | Entry[V], expiration_ttl: Seconds | None, expiration: Moment | None, metadata: Any
) -> tuple[V, Seconds | None, Moment | None, Any]:
    """Return the value and its options, an entry's own before those of the call."""
    if not isinstance(value, Entry):
        return value, expiration_ttl, expiration, metadata
    if value.expiration is not None:
        expiration_ttl, expiration = None, value.expiration
    own = metadata if value.metadata is None else value.metadata
    return value.value, expiration_ttl, expiration, own
