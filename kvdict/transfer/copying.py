"""Copy: from one namespace into another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict

from kvdict.limits import encode_metadata, key_problem
from kvdict.transfer.frontier import MARK, MARK_BYTES, Frontier
from kvdict.transfer.identity import check_apart, identity
from kvdict.transfer.namespaces import (
    KV,
    Pair,
    Place,
    count_keys,
    cursor_kind,
    raw_pairs,
)
from kvdict.transfer.paths import PathOrName, state_path
from kvdict.transfer.report import OnLeftOut, OnProgress, Report, Stop
from kvdict.transfer.state import State
from kvdict.transfer.work import Work
from kvdict.writes import Write, stored_expiry


def copy(
    source: KV,
    target: KV,
    *,
    prefix: str = "",
    skip_invalid: bool = False,
    resume: bool = False,
    state: PathOrName | None = None,
    count_first: bool = False,
    progress: OnProgress | None = None,
    on_left_out: OnLeftOut | None = None,
    stop: Stop | None = None,
) -> Report:
    """Store all pairs of one namespace in another: n / 1000 + n / 100 + n / 10,000 requests.

    What else the target holds stays. `resume` goes on from the state, which is only kept if
    `state` names a file. Source and target in one namespace are a TransferError if they overlap.
    A key that the target's prefix makes too long is one as well, or left out with `skip_invalid`.
    """
    check_apart(source, target, prefix)
    target._check_writable()
    about = {
        "work": "copy", "source": identity(source), "target": identity(target),
        "prefix": source.prefix + prefix, "target's prefix": target.prefix,
        "cursors": cursor_kind(source),
    }  # fmt: skip
    kept = state_path(state, None, source, target, resume=resume)
    work = Work(
        [source, target], State(kept, about), progress=progress, stop=stop,
        skip_invalid=skip_invalid, on_left_out=on_left_out,
    )  # fmt: skip
    at = work.state.load(resume)
    target.flush()
    work.go_on(at or {})
    place = Place(**at.get("place", {})) if at else None
    copying = Copying(target, work)
    with work.under_way(), closing(raw_pairs(source, prefix, place)) as pairs:
        if count_first:
            work.total = count_keys(source, prefix)
        target._backing.writes.send_many(copying.writes(pairs), copying.frontier.accepted)
    return work.report()


class Copying:
    """One run of a copy into the target."""

    def __init__(self, target: KV, work: Work) -> None:
        self.frontier = Frontier(work)
        self._target = target
        self._work = work

    def writes(self, pairs: Iterable[Pair]) -> Iterator[Write]:
        """Yield what is to be sent, and mark the way."""
        passed = size = 0
        pair = None
        for pair in pairs:
            self._work.check_stop()
            write = self._write(pair)
            if write:
                size += len(write.data)
                yield self.frontier.send(write)
            passed += 1
            if passed == MARK or size > MARK_BYTES:
                self._mark(pair.place)
                passed = size = 0
        if pair:
            self._mark(pair.place)

    def _write(self, pair: Pair) -> Write | None:
        """Return the pair as it goes on the wire; count one that does not go."""
        entry, full = pair.entry, self._target.prefix + pair.key
        if entry is None:
            self._work.gone += 1
            return None
        expiry = stored_expiry(entry.expiration)
        if expiry and expiry.left(self._target._backing.clock.now()) <= 0:
            self._work.expired += 1
            return None
        problem = key_problem(full)
        if problem:
            self._work.reject(None, pair.key, problem)
            return None
        return Write(full, entry.value, expiry, encode_metadata(pair.key, entry.metadata))

    def _mark(self, place: Place) -> None:
        self.frontier.mark({**self._work.counts(), "place": asdict(place)})
