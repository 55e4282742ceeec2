"""What all transfers do alike: count, tell how far they are, stop when asked to, report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvdict.errors import KVError, TransferError
from kvdict.transfer.namespaces import KV
from kvdict.transfer.pace import seconds_for
from kvdict.transfer.report import KEPT, LeftOut, OnLeftOut, OnProgress, Progress, Report, Stop
from kvdict.transfer.state import State


class Stopped(Exception):  # noqa: N818 - no error: the caller wished it
    """The caller's `stop` said so."""


class Work:
    """Counts of one transfer between the namespaces `kvs` and elsewhere.

    `started_at` is the share that earlier runs have done, so that the pace is this run's own.
    `compared` is how far a sync is, which only knows later what of that it has done.
    """

    def __init__(
        self,
        kvs: Sequence[KV],
        state: State,
        *,
        progress: OnProgress | None = None,
        stop: Stop | None = None,
        skip_invalid: bool = False,
        on_left_out: OnLeftOut | None = None,
    ) -> None:
        self.done = self.bytes = self.resumed = self.expired = self.gone = self.invalid = 0
        self.compared = 0
        self.total: int | None = None
        self.fraction: float | None = None
        self.started_at = 0.0
        self.notes: list[str] = []
        self.complete = False
        self.verb = "transferred"
        self._left_out: list[LeftOut] = []
        self._kvs = list({id(kv.client.transport): kv for kv in kvs}.values())
        self.state = state
        self._progress = progress
        self._stop = stop
        self._skip_invalid = skip_invalid
        self._on_left_out = on_left_out
        self._began = time.monotonic()
        self._before = self._requests()

    @property
    def requests(self) -> int:
        """Return the requests of this run."""
        return sum(self._requests()) - sum(self._before)

    @property
    def seconds(self) -> float:
        """Return the seconds since it began."""
        return time.monotonic() - self._began

    def go_on(self, at: Mapping[str, Any]) -> None:
        """Begin with the counts of the earlier runs, as `counts` told them."""
        self.done = self.resumed = at.get("done", 0)
        self.bytes = at.get("bytes", 0)
        self.expired = at.get("expired", 0)
        self.gone = at.get("gone", 0)

    def counts(self) -> dict[str, int]:
        """Return what the next run has to know."""
        return {
            "done": self.done, "bytes": self.bytes, "expired": self.expired, "gone": self.gone,
        }  # fmt: skip

    def check_stop(self) -> None:
        """Raise Stopped if the caller wants to stop."""
        if self._stop is not None and self._stop():
            raise Stopped

    def reject(self, line: int | None, key: str | None, reason: str) -> None:
        """Leave a pair out and count it, or raise TransferError."""
        left_out = LeftOut(line, key, reason)
        if not self._skip_invalid:
            advice = "mend it, or leave such pairs out with skip_invalid"
            raise TransferError(f"{left_out}; {advice}", line=line, key=key)
        self.invalid += 1
        if len(self._left_out) < KEPT:
            self._left_out.append(left_out)
        if self._on_left_out:
            self._on_left_out(left_out)

    def tell(self) -> None:
        """Say how far it is."""
        if self._progress is not None:
            if self.total:
                self.fraction = min(1.0, ((self.compared or self.done) + self.gone) / self.total)
                self.started_at = self.resumed / self.total
            self._progress(
                Progress(
                    self.done,
                    self.total,
                    self.bytes,
                    self.requests,
                    self.fraction,
                    self._left(),
                    self.compared,
                )
            )

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Say in an error how far it came; let the caller's wish to stop end it without one."""
        try:
            yield
            self.complete = True
            self.state.delete()
            self.fraction = 1.0
        except Stopped:
            pass
        except (KVError, OSError, KeyboardInterrupt) as error:
            error.add_note(f"kvdict: {self._how_far()}")
            raise
        self.tell()

    def report(self) -> Report:
        """Return what was done."""
        return Report(
            complete=self.complete,
            done=self.done,
            bytes=self.bytes,
            requests=self.requests,
            seconds=self.seconds,
            resumed=self.resumed,
            expired=self.expired,
            gone=self.gone,
            invalid=self.invalid,
            left_out=tuple(self._left_out),
            notes=tuple(self.notes),
            state=self.state.kept,
        )

    def _how_far(self) -> str:
        kept: Path | None = self.state.kept
        go_on = f"; with resume=True it goes on from {kept}" if kept else ""
        if self.compared:
            return f"{self.compared} pairs were compared, {self.done} are done"
        return f"{self.done} pairs were {self.verb}{go_on}"

    def _left(self) -> float | None:
        """Return the seconds left by the pace so far, or by the allowance if those are more."""
        if self.fraction is None or self.fraction <= self.started_at:
            return None
        share = (1 - self.fraction) / (self.fraction - self.started_at)
        allowed = (seconds_for(self._made(kv) * share, kv) for kv in self._kvs)
        return max(self.seconds * share, *allowed)

    def _made(self, kv: KV) -> int:
        """Return the requests that went off the allowance of this namespace."""
        counts = zip(self._kvs, self._requests(), self._before, strict=True)
        return sum(now - then for other, now, then in counts if other.budget is kv.budget)

    def _requests(self) -> list[int]:
        return [kv.client.transport.requests for kv in self._kvs]
