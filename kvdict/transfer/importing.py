"""Import: from a file, a directory or a stream into a namespace."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from kvdict.errors import TransferError
from kvdict.limits import key_problem
from kvdict.transfer.formats import (
    Opened,
    SourceFormat,
    check_format,
    open_source,
)
from kvdict.transfer.frontier import MARK, MARK_BYTES, Frontier
from kvdict.transfer.identity import identity
from kvdict.transfer.namespaces import KV
from kvdict.transfer.paths import PathOrName, as_path, is_device, state_path
from kvdict.transfer.records import Record
from kvdict.transfer.report import OnLeftOut, OnProgress, Report, Stop
from kvdict.transfer.seen import Seen
from kvdict.transfer.state import State
from kvdict.transfer.work import Work
from kvdict.writes import Expiry, Write


def import_(
    source: PathOrName | BinaryIO,
    kv: KV,
    *,
    format: SourceFormat | None = None,
    skip_invalid: bool = False,
    resume: bool = False,
    state: PathOrName | None = None,
    progress: OnProgress | None = None,
    on_left_out: OnLeftOut | None = None,
    stop: Stop | None = None,
) -> Report:
    """Store all pairs of a file, a directory or a binary stream: a request ten thousand, or 10 MB.

    format: as in `export`; None looks at the file. Reads also what `wrangler kv bulk get` prints.
    "dbm" reads a file of the standard library's dbm modules, its bytes as they are; "shelve" a
    shelf of it, as `kvdict.shelve` and the codec "pickle" store it. Nothing is unpickled.
    An invalid pair is a TransferError that names line and key; pairs before it may be stored.
    `skip_invalid` leaves it out instead. Expired pairs are skipped and counted.
    `resume` goes on from the state (SOURCE.state unless `state` names another; of a stream only if
    `state` does): reads the source again up to there, and sends nothing of it.
    """
    if format is not None:
        check_format(format, SourceFormat)
    path = as_path(source)
    kept = state_path(state, None if path is None or is_device(path) else path, kv, resume=resume)
    about = {
        "work": "import", "source": path and str(path), "target": identity(kv),
        "prefix": kv.prefix,
    }  # fmt: skip
    notes = []
    if state is None and kept is not None and not os.access(kept.parent, os.W_OK):
        notes.append(f"no state was kept: {kept.parent} is not writable; name a file with state=")
        kept = None
    work = Work(
        [kv], State(kept, about), progress=progress, stop=stop, skip_invalid=skip_invalid,
        on_left_out=on_left_out,
    )  # fmt: skip
    work.notes += notes
    kv._check_writable()
    at = work.state.load(resume) or {}
    kv.flush()
    work.go_on(at)

    opened = open_source(source, format, work.reject)
    try:
        with work.under_way(), Seen() as seen:
            importing = Importing(kv, opened, work, seen, at)
            kv._backing.writes.send_many(importing.writes(), importing.frontier.accepted)
            importing.check_reached()
    finally:
        opened.close()
    return work.report()


class Importing:
    """One run over a source; pairs before `at` were sent by earlier ones."""

    def __init__(self, kv: KV, opened: Opened, work: Work, seen: Seen, at: dict[str, Any]) -> None:
        self.frontier = Frontier(work)
        self._kv = kv
        self._opened = opened
        self._work = work
        self._seen = seen
        self._start: int = at.get("position", 0)
        self._digest_there: str = at.get("digest", "")
        self._position = 0
        self._digest = hashlib.blake2b(digest_size=16)

    def writes(self) -> Iterator[Write]:
        """Yield what is to be sent, and mark the way."""
        passed = 0
        for record in self._new_records():
            self._work.check_stop()
            write = self._write(record)
            if write is not None:
                yield self.frontier.send(write)
            passed += len(record.data)
            if self._position % MARK == 0 or passed > MARK_BYTES:
                self._mark()
                passed = 0
        self._mark()

    def check_reached(self) -> None:
        """Raise TransferError if the source ended before the place to go on from."""
        if self._position < self._start:
            raise self._changed()

    def _new_records(self) -> Iterator[Record]:
        """Yield those of the records behind the place that was reached, no key twice."""
        for record in self._opened.records:
            problem = key_problem(self._kv.prefix + record.key)
            if problem:
                self._work.reject(record.line, record.key, problem)
            elif not self._seen.add(record.key, record.line):
                first = self._seen.place(record.key)
                where = "" if first is None else f" of line {first}"
                self._work.reject(record.line, record.key, f"it repeats the key{where}")
            else:
                self._position += 1
                self._digest.update(b"%b\0%d\0" % (record.key.encode(), len(record.data)))
                self._digest.update(record.data)
                if self._position > self._start:
                    yield record
                elif self._position == self._start:
                    self._check_unchanged()

    def _write(self, record: Record) -> Write | None:
        """Return the pair as it goes on the wire, None for one past its deadline."""
        clock = self._kv._backing.clock
        expiry = None
        if record.expiration_ttl is not None:
            expiry = Expiry(clock.wall() + record.expiration_ttl)
        elif record.expiration is not None:
            expiry = Expiry(record.expiration, absolute=True)
            if expiry.left(clock.now()) <= 0:
                self._work.expired += 1
                return None
        return Write(self._kv.prefix + record.key, record.data, expiry, record.metadata)

    def _mark(self) -> None:
        at = {
            "position": self._position, "digest": self._digest.hexdigest(),
            **self._work.counts(),
        }  # fmt: skip
        self.frontier.mark(at, self._opened.fraction())

    def _check_unchanged(self) -> None:
        if self._digest.hexdigest() != self._digest_there:
            raise self._changed()
        self._work.started_at = self._opened.fraction() or 0.0

    def _changed(self) -> TransferError:
        return TransferError(
            f"the source is another one than in the run before: its first {self._start} pairs"
            " differ; import it from the beginning, without resume"
        )
