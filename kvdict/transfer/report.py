"""What moving data tells: progress meanwhile, a report at the end, and what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kvdict.phrases import shorten

KEPT = 1000
"""How many pairs that were left out a report names; `on_left_out` is told of all."""

Part = Literal["value", "metadata", "expiration"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A pair of a file that was not imported: where it stands, its key if it has one, and why.

    `line` is the line of a file, or of a directory's side file; None for a file without a line.
    """

    line: int | None
    key: str | None
    reason: str

    def __str__(self) -> str:
        """Return place, key and reason in one line."""
        line = [] if self.line is None else [f"line {self.line}"]
        key = [] if self.key is None else [f"key {shorten(self.key)}"]
        return f"{', '.join([*line, *key]) or 'a file'}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the work is.

    done, total: pairs, the total None if it is not known (yet). Done by a sync is what is equal,
    stored or deleted; `compared` says how many it has looked at, 0 of other work.
    bytes: of the values so far; requests: made so far, by this run.
    fraction: 0 to 1, by the pairs or by the place in the file; None if the end is not known.
    seconds_left: by the pace so far or by the request allowance, whichever takes longer.
    """

    done: int
    total: int | None
    bytes: int
    requests: int
    fraction: float | None = None
    seconds_left: float | None = None
    compared: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What an export, an import or a copy did.

    complete: False if it was stopped; `state` is then the file to go on from with resume=True.
    done, bytes: pairs and bytes of values that are in the target; `resumed` of the pairs were there
    from earlier runs.
    requests, seconds: of this run.
    expired: pairs past their deadline; gone: keys that were deleted between listing and reading.
    invalid: how many pairs were left out; `left_out` names the first thousand.
    notes: what a person should know besides, a sentence each.
    """

    complete: bool
    done: int
    bytes: int
    requests: int
    seconds: float
    resumed: int = 0
    expired: int = 0
    gone: int = 0
    invalid: int = 0
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    state: Path | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A key in which two namespaces differ.

    side: "left" or "right" if only that one has it, else "both"; `parts` are then those that
    differ.
    """

    key: str
    side: Literal["left", "right", "both"]
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync sent, or in a dry run would send.

    puts, deletions, bytes: what differed; unchanged: pairs that were equal.
    requests: those that the sending took, or would take; reads: those that finding it out took.
    seconds: how long it took, of a dry run how long the request allowance would make it wait.
    complete: False if it was stopped: run it again.
    """

    dry_run: bool
    puts: int
    deletions: int
    unchanged: int
    expired: int
    bytes: int
    requests: int
    seconds: float
    reads: int
    complete: bool = True


OnProgress = Callable[[Progress], None]
OnLeftOut = Callable[[LeftOut], None]
OnDifference = Callable[[Difference], None]
Stop = Callable[[], bool]
