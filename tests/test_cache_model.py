"""The cache against a history of the truth: how old a value may be, and that it is never dead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

import kvdict
from kvdict.breaker import PATIENCE, REST
from kvdict.emulator.knobs import Fault
from tests.test_cache import join_renewals
from tests.world import EXAMPLES, REPEATABLE, World

KEYS = ["a", "b", "c", "é/d"]
SOME = st.lists(st.sampled_from(KEYS), min_size=1, max_size=4, unique=True)
TTLS = st.none() | st.integers(60, 200)
MISS = "missing"
SLACK = 1e-3
SECOND = 1.0
"""Ends are whole seconds at the service."""
AHEAD = 5.0


@dataclass
class Truth:
    """What a key was from `since` on, until the next truth or its own end."""

    value: Any
    since: float
    ends: float | None = None


class CacheMachine(RuleBasedStateMachine):
    """Writes here and elsewhere, reads of each kind, time, faults: what is read was true lately.

    Values count up, so that one value names one moment of the history.
    """

    cache: dict[str, Any] = {}  # noqa: RUF012 - set once by each kind
    buffer: dict[str, Any] | None = None
    parallel = False
    faults = 0.0
    hits = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.parallel, buffer=self.buffer, cache=self.cache)
        self.kv = self.world.kv
        self.history: defaultdict[str, list[Truth]] = defaultdict(lambda: [Truth(MISS, 0.0)])
        self.own: dict[str, tuple[int, float]] = {}
        self.pending: dict[str, Truth] = {}
        self.count = 0

    @initialize(seed=st.integers(0, 2**16))
    def start_faults(self, seed: int) -> None:
        self.world.knobs.seed = seed
        self.world.knobs.__post_init__()
        self.world.knobs.kinds = ["429", "500", "reset"]
        self.world.knobs.faults = self.faults

    # What changes the truth

    def _ends(self, ttl: int | None) -> float | None:
        return None if ttl is None else self.world.time + ttl

    def _came(self, key: str, value: Any, ends: float | None = None) -> None:
        self.history[key].append(Truth(value, self.world.time, ends))

    @rule(key=st.sampled_from(KEYS), ttl=TTLS)
    def write_elsewhere(self, key: str, ttl: int | None) -> None:
        if key in self.pending:  # which of both comes last would not be known
            return
        self.count += 1
        self.world.put_elsewhere(key, self.count, ttl)
        self._came(key, self.count, self._ends(ttl))

    @rule(key=st.sampled_from(KEYS))
    def delete_elsewhere(self, key: str) -> None:
        if key not in self.pending:
            self.world.delete_elsewhere(key)
            self._came(key, MISS)

    @rule(keys=SOME, ttl=TTLS, many=st.booleans())
    def write(self, keys: list[str], ttl: int | None, many: bool) -> None:
        pairs = {}
        for key in keys:
            self.count += 1
            pairs[key] = self.count
        ends = self._ends(ttl)
        if many:
            self.kv.put_many(pairs, expiration_ttl=ttl)
        else:
            for key, value in pairs.items():
                self.kv.put(key, value, expiration_ttl=ttl)
        for key, value in pairs.items():
            self._wrote(key, value, ends)

    @rule(keys=SOME, many=st.booleans())
    def delete(self, keys: list[str], many: bool) -> None:
        if many:
            self.kv.delete_many(keys)
        else:
            for key in keys:
                self.kv.delete(key)
        for key in keys:
            self._wrote(key, MISS, None)

    def _wrote(self, key: str, value: Any, ends: float | None) -> None:
        self._came(key, value, ends)
        self.own[key] = len(self.history[key]) - 1, self.world.time
        if not self.kv.buffer.write_through:
            self.pending[key] = self.history[key][-1]

    @rule()
    def flush(self) -> None:
        self.kv.flush(timeout=1e8)
        self.pending.clear()

    @rule(seconds=st.floats(0, 30))
    def let_time_pass(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(key=st.sampled_from(KEYS), own=st.booleans(), late=st.booleans())
    def let_what_was_read_end(self, key: str, own: bool, late: bool) -> None:
        self.write([key], 60, many=False) if own else self.write_elsewhere(key, 60)
        ends = self.history[key][-1].ends or 0.0
        self.let_time_pass(max(0.0, ends - self.world.time - 30))
        self.get(key)  # near enough to its end for any ttl
        slack = SECOND + SLACK if late else -SLACK
        self.let_time_pass(max(0.0, ends - self.world.time + slack))
        self.get(key)

    @rule(key=st.sampled_from(KEYS), ttl=TTLS)
    def let_what_was_read_become_too_old(self, key: str, ttl: int | None) -> None:
        cache = self.kv.cache
        assert cache is not None
        self.get(key)
        self.write_elsewhere(key, ttl)
        most = cache.ttl + max(cache.stale_if_error, cache.stale_while_revalidate)
        self.world.pass_time(most + 2 * SLACK)
        self.get(key)

    @rule(key=st.sampled_from(KEYS))
    def refresh(self, key: str) -> None:
        self.kv.refresh(key)
        self._check(key, self.kv.get(key, MISS), self.world.time, allowed=0.0)

    @rule()
    def clear_the_cache(self) -> None:
        assert self.kv.cache is not None
        self.kv.cache.clear()

    @rule(faults=st.integers(0, 6))
    def let_requests_fail(self, faults: int) -> None:
        if self.faults:
            self.world.knobs.planned.extend([Fault("500")] * faults)

    # What is read

    @rule(key=st.sampled_from(KEYS))
    def get(self, key: str) -> None:
        began = self.world.time
        self._check(key, self.kv.get(key, MISS), began)

    @rule(key=st.sampled_from(KEYS))
    def entry(self, key: str) -> None:
        began = self.world.time
        try:
            value = self.kv.entry(key).value
        except KeyError:
            value = MISS
        self._check(key, value, began)

    @rule(key=st.sampled_from(KEYS))
    def contains(self, key: str) -> None:
        began = self.world.time
        present = key in self.kv
        join_renewals()
        values = self._allowed(key, began)
        assert any((value != MISS) == present for value in values), (key, present, values)

    @rule(keys=SOME)
    def get_many(self, keys: list[str]) -> None:
        began = self.world.time
        found = self.kv.get_many(keys)
        for key in keys:
            self._check(key, found.get(key, MISS), began)

    @rule()
    def prefetch(self) -> None:
        self.kv.prefetch(KEYS)
        join_renewals()

    @rule()
    def items(self) -> None:
        began = self.world.time
        for key, value in self.kv.items():
            self._check(key, value, began)
        join_renewals()  # what a loop was served past its ttl is renewed at its end

    @rule()
    def read_the_listed_one_by_one(self) -> None:
        began = self.world.time
        for key in self.kv:
            self._check(key, self.kv.get(key, MISS), began, more=AHEAD)

    def _check(
        self, key: str, value: Any, began: float, allowed: float | None = None, more: float = 0.0
    ) -> None:
        join_renewals()
        values = list(self._allowed(key, began, allowed, more))
        assert value in values, f"{key!r} was {value}, allowed {values} of {self.history[key]}"

    def _allowed(
        self, key: str, began: float, allowed: float | None = None, more: float = 0.0
    ) -> list[Any]:
        """Return what a read may see: the truths since the oldest that may still be cached."""
        now = self.world.time
        history = self.history[key]
        first, _ = self.own.get(key, (0, 0.0))
        cache = self.kv.cache
        assert cache is not None
        stale = max(cache.stale_if_error, cache.stale_while_revalidate)
        found = []
        for place in range(first, len(history)):
            truth = history[place]
            over = history[place + 1].since if place + 1 < len(history) else now
            spans = [(truth.value, over)]
            if truth.ends is not None and truth.value != MISS:
                spans = [(truth.value, min(over, truth.ends))]
                if truth.ends - SECOND <= over:
                    spans.append((MISS, over))
            for value, until in spans:
                most = cache.miss_ttl if value == MISS else cache.ttl + stale
                most = most if allowed is None else allowed
                is_last = place == len(history) - 1 and until >= now
                if value != MISS and truth.ends is not None and began >= truth.ends + SECOND:
                    continue  # never past its expiry
                if is_last or until + most + more + SLACK >= began:
                    found.append(value)
        return found

    @invariant()
    def counters_add_up(self) -> None:
        stats = self.kv.stats()
        assert stats["cache_items"] <= len(KEYS)
        assert stats["cache_bytes"] >= 0
        assert all(count >= 0 for count in stats.values())
        assert self.kv.cache is not None
        assert not self.kv.cache._tickets
        assert not self.kv.buffer.is_read

    def teardown(self) -> None:
        self.world.knobs.planned.clear()
        self.world.knobs.faults = 0
        self.kv.flush(timeout=1e8)
        type(self).hits += self.kv.stats()["cache_hits"]
        self.kv.close()


BUFFERS: dict[str, dict[str, Any]] = {
    "written through": {"write_through": True, "settle": 0},
    "written through, settling": {"write_through": True, "settle": 20},
    "written behind": {"max_age": 1e9, "settle": 0, "key_interval": 0},
    "written behind, settling": {"max_age": 1e9, "settle": 20, "key_interval": 0},
}
CACHES: dict[str, dict[str, Any]] = {
    "plain": {"ttl": 40, "miss_ttl": 5},
    "long": {"ttl": 1000, "miss_ttl": 1000},
    "tiny": {"ttl": 40, "miss_ttl": 5, "max_items": 2},
    "stale while revalidate": {"ttl": 40, "miss_ttl": 5, "stale_while_revalidate": 30},
    "stale if error": {"ttl": 40, "miss_ttl": 5, "stale_if_error": 60},
}


def kinds() -> Iterator[Any]:
    for buffer in BUFFERS:
        for cache in CACHES:
            for faults in (0.0, 0.2):
                yield pytest.param(buffer, cache, faults, id=f"{buffer}, {cache}, {faults}")


@pytest.mark.parametrize(("buffer", "cache", "faults"), list(kinds()))
@pytest.mark.parametrize("parallel", [False, True], ids=["local", "parallel"])
@pytest.mark.parametrize("examples", EXAMPLES)
def test_a_reader_sees_nothing_too_old_nor_past_its_end_nor_older_than_its_own_write(
    buffer: str, cache: str, faults: float, parallel: bool, examples: int
) -> None:
    class Machine(CacheMachine):
        pass

    Machine.buffer, Machine.cache = BUFFERS[buffer], CACHES[cache]
    Machine.faults, Machine.parallel = faults, parallel
    run_state_machine_as_test(
        Machine,
        settings=settings(REPEATABLE, max_examples=examples, stateful_step_count=30),
    )
    assert Machine.hits


def test_the_model_knows_the_bounds_it_allows() -> None:
    """The model would fail for a cache that serves what is one second too old."""
    assert (PATIENCE, REST) == (2.0, 10.0)

    class Machine(CacheMachine):
        buffer = BUFFERS["written through"]
        cache = CACHES["plain"]

    machine = Machine()
    machine.write_elsewhere("a", None)
    machine.get("a")
    machine.write_elsewhere("a", None)
    machine.let_time_pass(39)
    machine.get("a")
    assert machine.kv.cache is not None
    machine.kv.cache._held["a"].fresh_until += 10
    machine.let_time_pass(2)
    with pytest.raises(AssertionError, match="allowed"):
        machine.get("a")
    machine.kv.close()


def test_the_service_may_be_stale_for_the_model_of_dicts_too() -> None:
    """Own writes are read at once, cached or not, while the service lags behind."""
    lags = {"stale_reads": 20.0, "list_lag": 20.0, "cache_misses": 20.0}
    world = World(True, buffer={"write_through": True, "settle": 60}, cache={"ttl": 40})
    for name, value in lags.items():
        setattr(world.knobs, name, value)
    for number in range(30):
        world.kv["k"] = number
        assert world.kv["k"] == number
        assert world.kv.get_many(["k"]) == {"k": number}
        world.pass_time(7)
        assert world.kv["k"] == number
    assert isinstance(world.kv, kvdict.KVNamespace)
    world.kv.close()
