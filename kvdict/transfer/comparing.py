"""Compare namespaces: where do they differ?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice

from kvdict.models import Entry, Key
from kvdict.transfer.namespaces import KV
from kvdict.transfer.report import Difference, Part

TOGETHER = 1000
"""Keys of which the values are read at once."""


def diff(left: KV, right: KV, *, prefix: str = "") -> Iterator[Difference]:
    """Yield the keys in which two namespaces differ, in order.

    Reads both: n / 1000 + n / 100 requests, the values only of keys that both have.
    """
    keys = merged(left.scan(prefix), right.scan(prefix))
    while some := list(islice(keys, TOGETHER)):
        common = [(ours, theirs) for ours, theirs in some if ours and theirs]
        mine = read(left, {ours.name: ours.metadata for ours, _ in common})
        other = read(right, {theirs.name: theirs.metadata for _, theirs in common})
        for ours, theirs in some:
            if ours and theirs:
                yield from differing(ours.name, mine.get(ours.name), other.get(ours.name))
            elif ours:
                yield Difference(ours.name, "left")
            else:
                assert theirs
                yield Difference(theirs.name, "right")


def merged(left: Iterable[Key], right: Iterable[Key]) -> Iterator[tuple[Key | None, Key | None]]:
    """Yield the keys of two listings side by side, None where one of them has no such key."""
    ours, theirs = iter(left), iter(right)
    one, two = next(ours, None), next(theirs, None)
    while one or two:
        if one and (two is None or one.name < two.name):
            yield one, None
            one = next(ours, None)
        elif two and (one is None or two.name < one.name):
            yield None, two
            two = next(theirs, None)
        else:
            yield one, two
            one, two = next(ours, None), next(theirs, None)


def read(kv: KV, listed: dict[str, object]) -> dict[str, Entry[bytes]]:
    """Return the raw entries of listed keys (with their metadata) that are still there."""
    space = kv._space
    found = kv._backing.reads.read(
        [space.prefix + key for key in listed],
        details=lambda full: listed[space.name(full)],
        eager=True,
    )
    return {space.name(full): entry for full, entry in found if entry}


def differing(
    key: str, ours: Entry[bytes] | None, theirs: Entry[bytes] | None
) -> Iterator[Difference]:
    """Yield how two entries differ, nothing if they do not."""
    if ours and theirs:
        parts = unequal(ours, theirs)
        if parts:
            yield Difference(key, "both", parts)
    elif ours or theirs:  # the other was deleted meanwhile
        yield Difference(key, "left" if ours else "right")


def unequal(one: Entry[bytes], two: Entry[bytes], *, expiration: bool = True) -> tuple[Part, ...]:
    """Return in what two entries differ; metadata as JSON, where 1 is not true."""
    found: list[Part] = []
    if one.value != two.value:
        found.append("value")
    if not same_json(one.metadata, two.metadata):
        found.append("metadata")
    if expiration and one.expiration != two.expiration:
        found.append("expiration")
    return tuple(found)


def same_json(one: object, two: object) -> bool:
    """Tell whether two JSON values are the same: for Python true is 1, for JSON it is not."""
    return one == two and json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
