"""Export: from a namespace into a file, a directory or a stream."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Any, BinaryIO

from kvdict.errors import ConfigError
from kvdict.transfer.draft import beside
from kvdict.transfer.formats import (
    Format,
    check_format,
    open_target,
)
from kvdict.transfer.identity import check_not_own, identity
from kvdict.transfer.namespaces import KV, Place, count_keys, cursor_kind, raw_pairs
from kvdict.transfer.paths import PathOrName, as_path, is_device, state_path
from kvdict.transfer.report import OnProgress, Report, Stop
from kvdict.transfer.state import State
from kvdict.transfer.work import Work
from kvdict.transfer.writers import RawPair, Writer

BATCH_PAIRS = 1000
BATCH_BYTES = 8_000_000
"""After so many pairs or bytes the state is saved; the same work is never done twice but these."""


def export(
    kv: KV,
    target: PathOrName | BinaryIO,
    *,
    format: Format = "jsonl",
    prefix: str = "",
    resume: bool = False,
    state: PathOrName | None = None,
    count_first: bool = False,
    progress: OnProgress | None = None,
    stop: Stop | None = None,
) -> Report:
    """Write all pairs into a file, a directory or a binary stream: n / 1000 + n / 100 requests.

    format: "jsonl", a JSON object a line; "wrangler", the array that `wrangler kv bulk put` reads;
    "dir", a directory with a file for each key. `prefix` chooses keys, and stays in them.
    A file is written as TARGET.part beside its name and moved into place when it is whole; the
    state (TARGET.state unless `state` names another) is deleted then. `resume` goes on from it.
    `count_first` takes n / 1000 requests more, and lets `progress` know the total.
    Values that are not text take one request each. Raises TransferError for a state that does not
    fit and for a file of the namespace's own database, OSError from the file.
    """
    check_format(format)
    path = as_path(target)
    if path is not None and is_device(path):
        with path.open("wb") as device:
            return export(
                kv, device, format=format, prefix=prefix, count_first=count_first,
                progress=progress, stop=stop,
            )  # fmt: skip
    if path is not None:
        check_not_own(path, kv)
        check_not_own(beside(path), kv)
    about = {
        "work": "export", "source": identity(kv), "prefix": kv.prefix + prefix,
        "target": path and str(path), "format": format, "cursors": cursor_kind(kv),
    }  # fmt: skip
    kept = state_path(state, path, kv)
    if path is None and (resume or kept):
        raise ConfigError("what goes into a stream cannot be gone on with; name a file")
    work = Work([kv], State(kept, about), progress=progress, stop=stop)
    at = work.state.load(resume) or {}
    work.go_on(at)
    if path is not None and at.get("whole") and path.exists() and not beside(path).exists():
        with work.under_way():
            pass  # the last run was killed between moving it into place and saying so
        return work.report()
    place = Place(**at.get("place", {})) if at else None
    writer = open_target(target, path, format, at.get("offset", 0), work.done)
    with closing(writer), work.under_way():
        if count_first:
            work.total = count_keys(kv, prefix)
        place = _write_all(kv, prefix, place, writer, work)
        if place is not None:
            work.state.save({**_at(work, place), "offset": writer.flush(), "whole": True})
        writer.commit()
    work.notes += writer.notes
    return work.report()


def _write_all(
    kv: KV, prefix: str, place: Place | None, writer: Writer, work: Work
) -> Place | None:
    """Write what is behind the place; return the last one, None if there never was a key."""
    batch: list[RawPair] = []
    seen = size = 0
    work.check_stop()
    with closing(raw_pairs(kv, prefix, place)) as pairs:
        for pair in pairs:
            seen += 1
            place = pair.place
            if pair.entry is None:
                work.gone += 1
            else:
                batch.append((pair.key, pair.entry))
                size += len(pair.entry.value)
            if seen == BATCH_PAIRS or size >= BATCH_BYTES:
                _store(writer, batch, size, work)
                work.state.save({**_at(work, place), "offset": writer.flush()})
                work.tell()
                work.check_stop()
                batch, seen, size = [], 0, 0
    _store(writer, batch, size, work)
    return place


def _store(writer: Writer, batch: list[RawPair], size: int, work: Work) -> None:
    writer.write(batch)
    work.done += len(batch)
    work.bytes += size


def _at(work: Work, place: Place) -> dict[str, Any]:
    return {**work.counts(), "place": asdict(place)}
