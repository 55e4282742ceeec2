"""Sync: make a namespace hold what a source holds, sending only what differs."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping, Sized
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from kvdict.chunks import Chunker, Deletion
from kvdict.codecs import encode
from kvdict.limits import check_value, encode_metadata
from kvdict.models import Entry
from kvdict.namespace import KVNamespace
from kvdict.pairs import Pairs, pairs_of
from kvdict.transfer.comparing import TOGETHER, read, unequal
from kvdict.transfer.identity import check_apart
from kvdict.transfer.inventory import Inventory
from kvdict.transfer.namespaces import KV, raw_pairs
from kvdict.transfer.pace import seconds_for
from kvdict.transfer.report import (
    Difference,
    OnDifference,
    OnProgress,
    Part,
    Stop,
    SyncReport,
)
from kvdict.transfer.state import State
from kvdict.transfer.work import Work
from kvdict.writes import PackedWrite, Write, expiry_of, stored_expiry


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a key is to hold; `write` is what stores it. Its expiration is None if any will do."""

    key: str
    entry: Entry[bytes]
    write: Write
    any_expiration: bool = False


def sync(
    source: Pairs[Any] | Mapping[str, Any] | KV,
    kv: KV,
    delete: bool = False,
    dry_run: bool = False,
    *,
    progress: OnProgress | None = None,
    on_difference: OnDifference | None = None,
    stop: Stop | None = None,
) -> SyncReport:
    """Make a namespace hold what the source holds, sending only what differs.

    source: a namespace, any mapping, or pairs; an `Entry` as value brings its own expiration and
    metadata, a plain value says that there are none. Values are compared as they are stored.
    delete: also delete the keys that the source does not have.
    dry_run: send nothing, and report what would be sent, in how many requests, and how long the
    request allowance makes that.
    `on_difference` is called with each key that is sent (side "left": new; "both": changed) or
    deleted ("right").

    Reads m / 1000 + m / 100 requests, m keys of the namespace, besides those of the source.
    """
    if isinstance(source, KVNamespace):
        check_apart(source, kv)
    if not dry_run:
        kv._check_writable()
        kv.flush()
    kvs = [kv, source] if isinstance(source, KVNamespace) else [kv]
    work = Work(kvs, State(None, {}), progress=progress, stop=stop)
    if isinstance(source, Sized) and not isinstance(source, KVNamespace):
        work.total = len(source)
    syncing = Syncing(kv, work, dry_run, on_difference)
    with work.under_way(), Inventory() as inventory:
        for page in kv.pages():
            work.check_stop()
            inventory.add(page.keys)
        syncing.put(source, inventory)
        if delete:
            syncing.delete(inventory)
    return syncing.report()


class Syncing:
    """One sync: what it found, and what it sent or would send."""

    def __init__(
        self, kv: KV, work: Work, dry_run: bool, on_difference: OnDifference | None
    ) -> None:
        self._kv = kv
        self._work = work
        self._dry_run = dry_run
        self._on_difference = on_difference
        self._lock = threading.Lock()
        self._puts = self._deletions = self._unchanged = self._requests = 0

    def put(self, source: Any, inventory: Inventory) -> None:
        """Store the pairs that differ: a request ten thousand."""
        with closing(wanted_of(source, self._kv, self._work)) as wanted:
            writes = self._differing(wanted, inventory)
            if self._dry_run:
                self._plan(map(PackedWrite, writes))
            else:
                self._kv._backing.writes.send_many(writes, self._sent)

    def delete(self, inventory: Inventory) -> None:
        """Delete the keys that the source did not have: a request ten thousand."""
        fulls = self._unwanted(inventory)
        if self._dry_run:
            self._plan(map(Deletion, fulls))
        else:
            self._kv._backing.writes.remove_many(fulls, self._sent)

    def report(self) -> SyncReport:
        """Return what was done, or would be."""
        work = self._work
        return SyncReport(
            dry_run=self._dry_run,
            puts=self._puts,
            deletions=self._deletions,
            unchanged=self._unchanged,
            expired=work.expired,
            bytes=work.bytes,
            requests=self._requests,
            seconds=seconds_for(self._requests, self._kv) if self._dry_run else work.seconds,
            reads=work.requests - (0 if self._dry_run else self._requests),
            complete=work.complete,
        )

    def _plan(self, items: Iterable[PackedWrite | Deletion]) -> None:
        """Count the requests that these would take."""
        self._requests += sum(1 for _ in Chunker().cut(items))

    def _sent(self, keys: list[str]) -> None:
        with self._lock:  # several may be accepted at the same time
            self._requests += 1
            self._work.done += len(keys)
            self._work.tell()

    def _differing(self, wanted: Iterator[Wanted], inventory: Inventory) -> Iterator[Write]:
        while some := {item.key: item for item in islice(wanted, TOGETHER)}:
            self._work.check_stop()
            again = {key for key in some if inventory.want(key)}
            there = [found for key in some if (found := inventory.find(key))]
            stored = read(self._kv, {key.name: key.metadata for key in there})
            unchanged = 0
            for key, item in some.items():
                parts = differing_parts(item, stored.get(key))
                if key in stored and not parts and key not in again:
                    unchanged += 1
                    continue
                self._puts += 1
                self._work.bytes += len(item.write.data)
                self._say(Difference(key, "both" if key in stored else "left", parts))
                yield item.write
            self._compared(len(some), unchanged)

    def _compared(self, number: int, unchanged: int) -> None:
        with self._lock:
            self._unchanged += unchanged
            self._work.compared += number
            self._work.done += 0 if self._dry_run else unchanged
            self._work.tell()

    def _unwanted(self, inventory: Inventory) -> Iterator[str]:
        for key in inventory.unwanted():
            self._work.check_stop()
            self._deletions += 1
            self._say(Difference(key, "right"))
            yield self._kv.prefix + key

    def _say(self, difference: Difference) -> None:
        if self._on_difference:
            self._on_difference(difference)


def wanted_of(source: Any, kv: KV, work: Work) -> Generator[Wanted, None, None]:
    """Yield what the source wants; pairs past their deadline are counted alone."""
    now = kv._backing.clock.now
    for key, value in _pairs(source):
        entry = value if isinstance(value, Entry) else None
        if entry and entry.expiration is not None and entry.expiration <= now():
            work.expired += 1
        elif isinstance(source, KVNamespace) and entry:
            yield _as_stored(key, entry.value, entry, kv)
        elif entry:
            yield _as_stored(key, encode(kv.codec, key, entry.value), entry, kv)
        else:
            yield _as_assigned(key, encode(kv.codec, key, value), kv)


def differing_parts(item: Wanted, stored: Entry[bytes] | None) -> tuple[Part, ...]:
    """Return in what the stored entry is not as wanted, nothing if there is none."""
    if stored is None:
        return ()
    return unequal(item.entry, stored, expiration=not item.any_expiration)


def _pairs(source: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(source, KVNamespace):
        return pairs_of(source)
    return ((pair.key, pair.entry) for pair in raw_pairs(source) if pair.entry)


def _as_assigned(key: str, data: bytes, kv: KV) -> Wanted:
    """Return a plain value: without metadata, with the namespace's own time to live if any."""
    wanted = _as_stored(key, data, Entry(None), kv)
    if kv.expiration_ttl is None:
        return wanted
    clock = kv._backing.clock
    expiry = expiry_of(key, clock.now(), kv.expiration_ttl, None, clock.wall())
    return replace(wanted, write=replace(wanted.write, expiry=expiry), any_expiration=True)


def _as_stored(key: str, data: bytes, entry: Entry[Any], kv: KV) -> Wanted:
    """Return an entry as it will be read again."""
    full = kv._space.to_write(key)
    check_value(key, data)
    metadata = encode_metadata(key, entry.metadata)
    ends = None if entry.expiration is None else math.ceil(entry.expiration)
    stored = Entry(data, ends, json.loads(metadata) if metadata else None)
    return Wanted(key, stored, Write(full, data, stored_expiry(ends), metadata))
