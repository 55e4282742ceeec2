"""What the service tells, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Entry(Generic[V]):
    """A value with its expiration (epoch seconds, None: never) and metadata (any JSON)."""

    value: V
    expiration: int | None = None
    metadata: Any = None


def apart(entry: Entry[V] | None) -> Entry[V] | None:
    """Return the entry with metadata that its reader may change."""
    if entry is None or not isinstance(entry.metadata, dict | list):
        return entry
    return replace(entry, metadata=_copied(entry.metadata))


def _copied(told: Any) -> Any:
    """Copy JSON: legal metadata is nested more deeply than deepcopy follows."""
    whole = [told]
    rest: list[Any] = [whole]
    while rest:
        part = rest.pop()
        for place, item in part.items() if isinstance(part, dict) else enumerate(part):
            if isinstance(item, dict | list):
                part[place] = item.copy()
                rest.append(part[place])
    return whole[0]


@dataclass(frozen=True, slots=True)
class Key:
    """A listed key: its name, expiration (epoch seconds, None: never) and metadata."""

    name: str
    expiration: int | None = None
    metadata: Any = None


@dataclass(frozen=True, slots=True)
class KeyPage:
    """One page of a listing; `cursor` names the next one, None after the last."""

    keys: list[Key]
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace as the account lists it."""

    id: str
    title: str
    supports_url_encoding: bool | None = None
    jurisdiction: str | None = None


@dataclass(frozen=True, slots=True)
class NamespacePage:
    """One page of the account's namespaces; the counts are None where the service gave none."""

    namespaces: list[Namespace]
    page: int | None = None
    per_page: int | None = None
    count: int | None = None
    total_count: int | None = None


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What a bulk write did: the keys in `unsuccessful_keys` are to be sent again."""

    successful_key_count: int
    unsuccessful_keys: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FlushResult:
    """What a flush did: how many writes the service accepted."""

    sent: int


@dataclass(frozen=True, slots=True)
class RawValue:
    """The stored bytes and the expiration (epoch seconds) that the value endpoint tells."""

    data: bytes
    expiration: int | None = None
