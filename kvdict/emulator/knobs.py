"""Knobs: the service's bad days, to be had on request."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, NoReturn

from kvdict.emulator.refusals import Refusal, gateway

Kind = Literal["429", "500", "524", "reset", "partial"]
KINDS: tuple[Kind, ...] = ("429", "500", "524", "reset", "partial")


class Fault(NamedTuple):
    """One thing that goes wrong: instead of the service's act, or after it."""

    kind: Kind
    after: bool = False


class SimulatedReset(ConnectionResetError):  # noqa: N818 - an event, ordered by a knob
    """The connection breaks, as a knob told it to."""


@dataclass(kw_only=True)
class Knobs:
    """What an emulator does worse than it could; a knob may be turned while it runs.

    Times are in seconds of the emulator's clock; only `latency` is slept, by `sleep`.
    """

    stale_reads: float = 0.0
    """How long value, metadata and bulk reads go on answering with what was before a write."""
    list_lag: float = 0.0
    """The same for listings."""
    cache_misses: float = 0.0
    """How long a key that was read while missing stays missing."""
    faults: float = 0.0
    """The share of requests, 0 to 1, that meet a fault."""
    kinds: Sequence[Kind] = KINDS
    """What such a fault may be; "partial" makes bulk writes leave out some keys, and only those."""
    after: float = 0.5
    """The share of faults that come after the service has acted."""
    seed: int = 0
    """What chance begins with: the same seed, the same bad days."""
    planned: deque[Fault] = field(default_factory=deque)
    """Faults for the very next requests, in order, before any by chance."""
    rate_limit: tuple[int, float] | None = None
    """An enforced limit: so many requests in a window of so many seconds, then 429."""
    latency: float = 0.0
    """How long each request waits before it is answered."""
    sleep: Callable[[float], None] = time.sleep
    """How that is waited for."""
    empty_pages: bool = False
    """Whether each page of keys is preceded by an empty one with a cursor."""
    clock: Callable[[], float] | None = None
    """What emulator and store tell the time by, if not their own; read at the start, as `seed`."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - chance, not secrecy

    def draw(self) -> Fault | None:
        """Return the fault that the next request is to meet, if any."""
        with suppress(IndexError):
            return self.planned.popleft()
        if not self.faults or self._random.random() >= self.faults:
            return None
        return Fault(self._random.choice(self.kinds), self._random.random() < self.after)

    def some(self, keys: list[str]) -> list[str]:
        """Return about half of the keys, one at least if there are any."""
        return self._random.sample(keys, (len(keys) + 1) // 2)


def meet(fault: Fault) -> NoReturn:
    """Let the fault happen."""
    if fault.kind == "reset":
        raise SimulatedReset("the connection was reset, as a knob told it to")
    if fault.kind == "429":
        raise slow_down(1)
    if fault.kind == "524":
        raise gateway(524, "A Timeout Occurred")
    raise Refusal(500, 10001, "service temporarily unavailable")


def slow_down(seconds: int) -> Refusal:
    """Return the answer to requests beyond the limit."""
    refusal = Refusal(429, 971, "Please wait and consider throttling your request speed")
    refusal.headers.append(("Retry-After", str(seconds)))
    return refusal
