"""The local cache: what it serves, for how long, and what no interleaving puts into it."""

from __future__ import annotations

import _thread
import gc
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cachetools import Cache

import kvdict
from kvdict import Entry, ReadCache, WriteBuffer, transfer
from kvdict.clock import ServiceClock
from kvdict.codecs import BYTES, TEXT
from kvdict.emulator.knobs import Fault
from kvdict.reader import UNASKED
from kvdict.writes import Write
from tests.wire.support import RawServer, Reply, keep_answering, ok, refused
from tests.world import World, wait_until

NEVER = 1e9
THROUGH: dict[str, Any] = {"write_through": True, "settle": 0}
BEHIND: dict[str, Any] = {"max_age": NEVER, "settle": 0}

Make = Callable[..., World]


@pytest.fixture
def make() -> Iterator[Make]:
    """Return how to make worlds with a cache; all are let go of."""
    worlds = []

    def make_world(buffer: dict[str, Any] | None = None, **options: Any) -> World:
        options.setdefault("cache", {})
        world = World(buffer=THROUGH if buffer is None else buffer, **options)
        worlds.append(world)
        return world

    yield make_world
    for world in worlds:
        world.adapter.before = world.adapter.after = None
        world.knobs.faults = 0
        world.kv.buffer.pending.clear()
        world.kv.close()


def cache_of(world: World) -> ReadCache:
    assert world.kv.cache is not None
    return world.kv.cache


def no_tickets(world: World) -> bool:
    return not cache_of(world)._tickets


def once(world: World, when: str, act: Callable[[], object], method: str = "GET") -> None:
    """Let something happen before or after the next request of that method, and only then."""

    def call(sent: str, _url: str) -> None:
        if sent == method:
            setattr(world.adapter, when, None)
            act()

    setattr(world.adapter, when, call)


class TestHowLong:
    def test_a_value_is_served_for_its_ttl_without_a_request(self, make: Make) -> None:
        world = make(cache={"ttl": 60})
        world.put_elsewhere("k", 1)
        assert world.kv["k"] == 1
        world.put_elsewhere("k", 2)
        before = world.requests
        world.pass_time(59.9)
        assert [world.kv["k"] for _ in range(5)] == [1] * 5
        assert world.requests == before
        world.pass_time(0.2)
        assert world.kv["k"] == 2
        assert world.requests == before + 1

    @pytest.mark.parametrize(
        "learn",
        [
            lambda kv: kv["k"],
            lambda kv: kv.entry("k"),
            lambda kv: kv.get_many(["k", "other"]),
            lambda kv: dict(kv.items()),
            lambda kv: kv.prefetch(["k", "other"]),
        ],
        ids=["header", "entry", "get_many", "items", "prefetch"],
    )
    def test_no_entry_outlives_the_pairs_own_expiry(self, make: Make, learn: Any) -> None:
        world = make(cache={"ttl": 3600})
        world.put_elsewhere("k", 1, ttl=100)
        world.put_elsewhere("other", 1)
        learn(world.kv)
        world.pass_time(99)
        before = world.requests
        assert world.kv["k"] == 1
        assert world.requests == before
        world.pass_time(1)
        assert "k" not in world.kv
        assert world.kv.get_many(["k"]) == {}
        assert world.requests > before

    @pytest.mark.parametrize("buffer", [THROUGH, BEHIND], ids=["through", "behind"])
    def test_an_own_write_ends_when_its_ttl_does(self, make: Make, buffer: Any) -> None:
        world = make(buffer, cache={"ttl": 3600})
        world.kv.put("k", 1, expiration_ttl=100)
        world.kv.put_many({"a": 1, "b": 2}, expiration_ttl=100)
        world.kv.flush()
        before = world.requests
        world.pass_time(99.5)
        assert world.kv.get_many(["k", "a", "b"]) == {"k": 1, "a": 1, "b": 2}
        assert world.kv["k"] == 1
        assert world.requests == before
        world.pass_time(0.6)
        assert "k" not in world.kv
        assert world.kv.get_many(["a", "b"]) == {}

    def test_a_listing_shortens_an_entry(self, make: Make) -> None:
        world = make(cache={"ttl": 3600})
        world.put_elsewhere("k", 1)
        assert world.kv["k"] == 1
        world.put_elsewhere("k", 2, ttl=60)
        assert list(world.kv) == ["k"]
        assert world.kv["k"] == 1
        world.pass_time(60)
        assert "k" not in world.kv

    def test_a_listing_ends_a_known_miss_and_never_records_one(self, make: Make) -> None:
        world = make(cache={"miss_ttl": 3600})
        assert "k" not in world.kv
        world.put_elsewhere("k", 1)
        assert "k" not in world.kv
        assert list(world.kv) == ["k"]
        assert world.kv["k"] == 1
        world.delete_elsewhere("k")
        assert list(world.kv) == []
        world.put_elsewhere("new", 1)
        assert world.kv["new"] == 1

    def test_misses_have_a_ttl_of_their_own(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "miss_ttl": 5})
        before = world.requests
        for _ in range(3):
            assert "k" not in world.kv
            assert world.kv.get("k") is None
            assert world.kv.get_many(["k"]) == {}
            with pytest.raises(KeyError):
                world.kv.entry("k")
        assert world.requests == before + 1
        assert world.kv.stats()["cache_negative_hits"] == 11
        world.put_elsewhere("k", 1)
        world.pass_time(5)
        assert world.kv["k"] == 1

    @pytest.mark.parametrize("buffer", [THROUGH, BEHIND], ids=["through", "behind"])
    @pytest.mark.parametrize(
        "write",
        [
            lambda kv: kv.__setitem__("k", 1),
            lambda kv: kv.update(k=1, other=2),
            lambda kv: kv.setdefault("k", 1),
        ],
    )
    def test_a_miss_is_forgotten_the_moment_the_key_is_written(
        self, make: Make, write: Any, buffer: Any
    ) -> None:
        world = make(buffer, cache={"miss_ttl": 3600})
        assert "k" not in world.kv
        write(world.kv)
        assert world.kv["k"] == 1
        world.kv.flush()
        before = world.requests
        assert world.kv["k"] == 1
        assert world.requests == before
        del world.kv["k"]
        assert "k" not in world.kv
        world.kv.flush()
        assert "k" not in world.kv

    def test_a_ttl_of_nothing_caches_nothing(self, make: Make) -> None:
        world = make(cache={"ttl": 0, "miss_ttl": 0})
        world.put_elsewhere("k", 1)
        before = world.requests
        assert [world.kv["k"], world.kv["k"]] == [1, 1]
        assert world.kv.get("missing") is world.kv.get("missing") is None
        assert world.requests == before + 4
        assert len(cache_of(world)) == 0

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_a_local_clock_that_is_wrong_by_an_hour_decides_nothing(
        self, make: Make, hours: int
    ) -> None:
        world = make(cache={"ttl": 7200}, skew=hours * 3600.0)
        world.put_elsewhere("short", 1, ttl=100)
        world.put_elsewhere("long", 1, ttl=4000)
        assert world.kv.get_many(["short", "long"]) == {"short": 1, "long": 1}
        assert world.kv["short"] == 1
        before = world.requests
        world.pass_time(95)
        assert world.kv["short"] == 1
        assert world.requests == before
        world.pass_time(10)
        assert "short" not in world.kv
        before = world.requests
        assert world.kv["long"] == 1
        assert world.requests == before

    def test_a_fleet_does_not_expire_at_once(self, make: Make) -> None:
        world = make(cache={"ttl": 100, "chance": random.Random(1).random, "miss_ttl": 1})
        for number in range(200):
            world.kv[str(number)] = number
        left = []
        for _ in range(12):
            left.append(sum(world.kv._backing.reads.knows(str(n)) for n in range(200)))
            world.pass_time(1)
            if world.time == 1_800_000_001:
                world.pass_time(89)
        assert left[0] == left[1] == 200
        assert 60 < left[6] < 140
        assert left[-1] == 0

    def test_what_a_slow_loop_consumes_late_is_not_cached_as_new(self, make: Make) -> None:
        world = make(cache={"ttl": 60}, parallel=True)
        for number in range(1000):
            world.put_elsewhere(f"{number:04}", "old")
        pairs = world.kv.items()
        for position, _ in enumerate(pairs):
            if position == 300:
                for number in range(301, 1000):
                    world.put_elsewhere(f"{number:04}", "new")
                world.pass_time(61)
        assert set(world.kv.get_many([f"{n:04}" for n in range(301, 1000)]).values()) == {"new"}


class TestReadsThatAskItFirst:
    def test_a_cached_get_many_costs_no_request_and_fetches_only_the_rest(self, make: Make) -> None:
        world = make()
        for number in range(150):
            world.put_elsewhere(str(number), number)
        keys = [str(number) for number in range(100)]
        world.kv.prefetch(keys)
        before = world.requests
        assert world.kv.get_many(keys) == {key: int(key) for key in keys}
        assert world.requests == before
        mixed = [str(number) for number in range(149, -1, -1)]
        assert list(world.kv.get_many(mixed)) == mixed
        assert world.requests == before + 1
        assert world.kv.get_many(mixed) == {key: int(key) for key in mixed}
        assert world.requests == before + 1

    def test_in_entry_and_metadata_ask_it(self, make: Make) -> None:
        world = make()
        world.kv.put("k", [1], metadata={"a": [1]}, expiration_ttl=1000)
        world.kv.cache.clear()  # type: ignore[union-attr]  # it was opened with one
        before = world.requests
        entry = world.kv.entry("k")
        assert world.requests == before + 1
        assert "k" in world.kv
        assert world.kv["k"] == [1]
        assert world.kv.entry("k") == entry
        assert world.kv.metadata("k") == {"a": [1]}
        assert world.kv.entries(["k"]) == {"k": entry}
        assert world.requests == before + 1

    @pytest.mark.parametrize(
        "learn",
        [
            lambda kv: kv["k"],
            lambda kv: kv.prefetch(["k"]),
            lambda kv: kv.get_many(["k", "l"]),
            lambda kv: dict(kv.items()),
        ],
        ids=["single", "prefetch", "get_many", "items"],
    )
    def test_a_cached_value_answers_for_in_and_the_look_of_del(
        self, make: Make, learn: Any
    ) -> None:
        world = make()
        for key in "kl":
            world.put_elsewhere(key, 1)
        learn(world.kv)
        before = world.requests
        assert "k" in world.kv
        assert "k" in world.kv.prefixed("")
        assert world.requests == before
        del world.kv["k"]
        assert world.requests == before + 1
        assert "k" not in world.kv

    def test_in_downloads_no_value_and_remembers_only_that_a_key_is_missing(
        self, make: Make
    ) -> None:
        world = make(cache={"ttl": 3600, "miss_ttl": 5})
        world.put_elsewhere("k", 1, ttl=100)
        asked: list[str] = []
        world.adapter.before = lambda _method, url: asked.append(url.split("/")[-2])
        assert "k" in world.kv
        assert ["missing" in world.kv for _ in range(3)] == [False] * 3
        assert asked == ["metadata"] * 2
        world.pass_time(100)
        assert "k" not in world.kv
        assert "missing" not in world.kv
        assert asked == ["metadata"] * 4

    def test_metadata_of_a_listing_which_may_lag_is_not_cached(self, make: Make) -> None:
        world = make(codec=BYTES)
        world.other.put_value(world.kv.id, Write("k", b"\xff", metadata='"old"'))
        world.knobs.list_lag = 60
        world.pass_time(61)
        world.other.put_value(world.kv.id, Write("k", b"\xff", metadata='"new"'))
        told = io.BytesIO()
        transfer.export(world.kv, told)
        assert json.loads(told.getvalue())["metadata"] == "old"
        before = world.requests
        assert world.kv["k"] == b"\xff"
        assert world.requests == before
        assert world.kv.metadata("k") == "new"

    def test_a_value_without_its_metadata_does_not_answer_for_it(self, make: Make) -> None:
        world = make()
        world.kv.put("k", 1, metadata={"a": 1})
        world.kv.cache.clear()  # type: ignore[union-attr]  # it was opened with one
        assert world.kv["k"] == 1
        assert world.kv.metadata("k") == {"a": 1}
        assert world.kv.entry("k") == Entry(1, None, {"a": 1})
        assert world.kv.entries(["k"]) == {"k": Entry(1, None, {"a": 1})}

    def test_values_that_are_not_text_are_cached_by_bulk_reads_too(self, make: Make) -> None:
        world = make(codec=BYTES)
        pairs = {str(number): bytes([255, number]) for number in range(10)}
        world.kv.update(pairs)
        world.kv.cache.clear()  # type: ignore[union-attr]  # it was opened with one
        assert world.kv.get_many(pairs) == pairs
        before = world.requests
        assert world.kv.get_many(pairs) == pairs
        assert world.kv["3"] == pairs["3"]
        assert world.requests == before

    def test_a_loop_over_cached_pairs_that_stops_early_lists_no_further(self, make: Make) -> None:
        world = make()
        world.kv.update({f"{number:05}": number for number in range(3000)})
        before = world.requests
        assert next(iter(world.kv.items())) == ("00000", 0)
        assert world.requests == before + 1

    def test_10_000_reads_of_100_hot_keys_are_100_requests_and_one_with_prefetch(
        self, make: Make
    ) -> None:
        keys = [f"hot:{number}" for number in range(100)]
        for prefetched, expected in ((False, 100), (True, 1)):
            world = make()
            for key in keys:
                world.put_elsewhere(key, key)
            before = world.requests
            if prefetched:
                world.kv.prefetch(keys)
            for _ in range(100):
                for key in keys:
                    assert world.kv[key] == key
            assert world.requests == before + expected
            assert world.kv.stats()["cache_misses"] == 100
            assert world.kv.stats()["requests_saved"] >= 10_000 - 100

    def test_prefetch_without_a_cache_is_an_error_that_says_so(self) -> None:
        with kvdict.open("memory://") as kv, pytest.raises(kvdict.ConfigError, match="cache=True"):
            kv.prefetch(["a"])

    def test_what_a_caller_does_to_a_value_is_nobody_elses(self, make: Make) -> None:
        world = make()
        world.kv.put("k", [1], metadata={"a": [1]})
        world.kv["k"].append(2)
        world.kv.entry("k").metadata["a"].append(2)
        world.kv.metadata("k")["b"] = 1
        world.kv.get_many(["k"])["k"].append(3)
        world.kv.entries(["k"])["k"].metadata["a"].clear()
        assert world.kv.entry("k") == Entry([1], None, {"a": [1]})

    def test_views_share_it_without_mixing_keys(self, make: Make) -> None:
        world = make(codec=TEXT)
        world.kv.update({"a:k": "1", "k": "2", "b:k": "3"})
        a, b = world.kv.prefixed("a:"), world.kv.prefixed("b:")
        before = world.requests
        assert (a["k"], b["k"], world.kv["k"], world.kv["a:k"]) == ("1", "3", "2", "1")
        assert a.using("json")["k"] == 1
        assert world.requests == before
        assert a.cache is world.kv.cache
        a["k"] = "new"
        assert world.kv["a:k"] == "new"
        assert b["k"] == "3"
        b.refresh("k")
        world.put_elsewhere("b:k", "theirs")
        assert b["k"] == "theirs"

    def test_clear_and_refresh_ask_anew(self, make: Make) -> None:
        world = make()
        for key in "ab":
            world.put_elsewhere(key, 1)
        assert world.kv.get_many(["a", "b"]) == {"a": 1, "b": 1}
        for key in "ab":
            world.put_elsewhere(key, 2)
        world.kv.refresh("a")
        assert (world.kv["a"], world.kv["b"]) == (2, 1)
        cache_of(world).clear()
        assert world.kv["b"] == 2
        assert world.kv.stats()["cache_items"] == 1


class TestOwnWrites:
    @pytest.mark.parametrize(
        "buffer", [THROUGH, BEHIND, {"write_through": True, "settle": 60}, {**BEHIND, "settle": 60}]
    )
    def test_what_was_accepted_is_read_without_a_request(self, make: Make, buffer: Any) -> None:
        world = make(buffer, parallel=True)
        kv = world.kv
        kv["a"] = 1
        kv.update({"b": 2, "c": 3})
        kv.put("d", 4, metadata="m", expiration_ttl=600)
        kv.flush()
        world.pass_time(50)
        before = world.requests
        assert kv.get_many(["a", "b", "c", "d"]) == {"a": 1, "b": 2, "c": 3, "d": 4}
        assert kv.metadata("d") == "m"
        assert world.requests == before
        kv["a"] = 5
        assert kv["a"] == 5
        kv.delete("b")
        kv.delete_many(["c"])
        assert "b" not in kv
        assert "c" not in kv
        kv.flush()
        assert kv.get_many(["a", "b", "c"]) == {"a": 5}

    def test_a_refused_write_leaves_nothing_behind(self, make: Make) -> None:
        world = make()
        world.kv["k"] = 1
        world.put_elsewhere("k", 2)
        world.kv.client.transport.max_wait = 0
        world.knobs.planned.append(Fault("500"))
        with pytest.raises(kvdict.ServerError):
            world.kv["k"] = 3
        assert world.kv["k"] == 2

    def test_a_write_of_unknown_outcome_is_asked_for(self, make: Make) -> None:
        world = make()
        world.kv["k"] = 1
        world.kv.client.transport.max_wait = 0
        world.knobs.planned.append(Fault("reset", after=True))
        with pytest.raises(kvdict.TransportError):
            world.kv["k"] = 2
        assert world.kv["k"] == 2

    @pytest.mark.parametrize("kind", ["500", "reset", "524"])
    def test_a_bulk_write_that_fails_leaves_nothing_of_its_keys(
        self, make: Make, kind: Any
    ) -> None:
        world = make()
        world.kv.update(a=1, b=1, c=1)
        world.kv.client.transport.max_wait = 0
        world.knobs.planned.extend([Fault(kind, after=True)] * 10)
        with pytest.raises(kvdict.KVError):
            world.kv.update(a=2, b=2)
        with pytest.raises(kvdict.KVError):
            world.kv.delete_many(["c", "d"])
        world.knobs.planned.clear()
        stored = {key: world.other.get_value(world.kv.id, key).data for key in "ab"}
        assert {key: str(world.kv[key]).encode() for key in "ab"} == stored
        assert "c" not in world.kv

    def test_an_interrupted_bulk_write_leaves_nothing_either(self, make: Make) -> None:
        world = make()
        world.kv.update(a=1, b=1)

        def interrupt() -> None:
            raise KeyboardInterrupt

        once(world, "after", interrupt, "PUT")
        with pytest.raises(KeyboardInterrupt):
            world.kv.update(a=2, b=2)
        assert world.kv.get_many(["a", "b"]) == {"a": 2, "b": 2}

    def test_what_was_not_stored_everywhere_is_not_cached(self, make: Make) -> None:
        world = make()
        world.kv.update(a=1, b=1)
        world.kv.client.transport.max_wait = 0
        world.knobs.planned.append(Fault("partial"))
        with pytest.raises(kvdict.FlushError) as caught:
            world.kv.update(a=2, b=2)
        left_out = set(caught.value.failed)
        assert left_out
        assert world.kv.get_many(["a", "b"]) == {
            key: 1 if key in left_out else 2 for key in ("a", "b")
        }

    def test_a_write_past_its_deadline_is_no_value(self, make: Make) -> None:
        world = make(BEHIND, parallel=True)
        world.put_elsewhere("k", "theirs")
        world.kv.put("k", "ours", expiration_ttl=60)
        world.pass_time(61)
        world.kv.flush()
        assert "k" not in world.kv

    def test_touch_reads_past_it(self, make: Make) -> None:
        world = make()
        world.kv["k"] = 1
        world.put_elsewhere("k", 2)
        world.kv.touch("k", expiration_ttl=100)
        assert world.kv["k"] == 2


class TestInterleavings:
    """By a client that calls back; `after` is when the answer is on its way to the reader."""

    READS = {  # noqa: RUF012 - nobody changes it
        "single": lambda kv: kv.get("k"),
        "entry": lambda kv: kv.entry("k").value,
        "bulk": lambda kv: kv.get_many(["k", "l"])["k"],
    }

    @pytest.fixture(params=READS)
    def read(self, request: pytest.FixtureRequest) -> tuple[Any, str]:
        """Give a way to read `k`, and the method of its request."""
        return self.READS[request.param], "GET" if request.param == "single" else "POST"

    @pytest.mark.parametrize("buffer", [THROUGH, BEHIND], ids=["through", "behind"])
    @pytest.mark.parametrize("bulk", [False, True], ids=["one", "many"])
    def test_a_write_during_a_read_wins(
        self, make: Make, read: Any, buffer: Any, bulk: bool
    ) -> None:
        world = make(buffer)
        world.put_elsewhere("k", "old")
        once(
            world,
            "after",
            lambda: world.kv.update(k="new", m=1) if bulk else world.kv.put("k", "new"),
            read[1],
        )
        read[0](world.kv)
        assert world.kv["k"] == "new"
        world.kv.flush()
        assert world.kv["k"] == "new"
        assert no_tickets(world)

    def test_a_delete_during_a_read_wins(self, make: Make, read: Any) -> None:
        world = make()
        world.put_elsewhere("k", "old")
        once(world, "after", lambda: world.kv.delete("k"), read[1])
        with suppress(KeyError):  # a bulk read sees it at once
            read[0](world.kv)
        assert "k" not in world.kv
        assert no_tickets(world)

    @pytest.mark.parametrize("forget", ["refresh", "clear"])
    def test_what_a_read_brings_is_not_kept_when_it_was_refreshed_meanwhile(
        self, make: Make, read: Any, forget: str
    ) -> None:
        world = make()
        world.put_elsewhere("k", "old")

        def renew() -> None:
            world.put_elsewhere("k", "new")
            world.kv.refresh("k") if forget == "refresh" else cache_of(world).clear()

        once(world, "after", renew, read[1])
        assert read[0](world.kv) == "old"
        assert world.kv["k"] == "new"
        assert no_tickets(world)

    def test_a_failed_write_during_a_read_leaves_its_ticket_behind(
        self, make: Make, read: Any
    ) -> None:
        world = make()
        world.put_elsewhere("k", "old")
        world.kv.client.transport.max_wait = 0

        def fail() -> None:
            world.knobs.planned.append(Fault("reset", after=True))
            with suppress(kvdict.TransportError):
                world.kv["k"] = "new"

        once(world, "after", fail, read[1])
        read[0](world.kv)
        assert world.kv["k"] == "new"

    @pytest.mark.parametrize(
        ("first", "second"),
        [("single", "single"), ("single", "bulk"), ("bulk", "single"), ("entry", "entry")],
    )
    def test_two_readers_and_a_writer(self, make: Make, first: str, second: str) -> None:
        """Reader 1 holds the old value; a write; reader 2 leaves its own ticket; 1 goes on."""
        world = make()
        world.put_elsewhere("k", "old")
        methods = {"single": "GET", "entry": "POST", "bulk": "POST"}
        method = methods[second]
        seen = []

        def write_and_read_again() -> None:
            world.kv["k"] = "new"
            cache_of(world)._drop("k")  # as if it had been evicted: reader 2 has to ask
            once(world, "before", lambda: seen.append(len(cache_of(world).tickets("k"))), method)
            once(world, "after", let_one_go_on, method)
            thread = threading.Thread(target=lambda: seen.append(self.READS[second](world.kv)))
            thread.start()
            reached.wait(10)
            threads.append(thread)

        reached, go_on = threading.Event(), threading.Event()
        threads: list[threading.Thread] = []

        def let_one_go_on() -> None:
            reached.set()
            go_on.wait(10)

        once(world, "after", write_and_read_again, methods[first])
        self.READS[first](world.kv)
        assert world.kv._backing.reads.knows("k") is False, "reader 1 put the old value back"
        go_on.set()
        threads[0].join(10)
        assert seen == [1, "new"]
        assert world.kv["k"] == "new"
        assert no_tickets(world)

    def test_a_renewal_that_a_write_crosses_is_thrown_away(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 60})
        world.put_elsewhere("k", "old")
        assert world.kv["k"] == "old"
        world.pass_time(61)
        answered, written = threading.Event(), threading.Event()

        def wait() -> None:
            answered.set()
            written.wait(10)

        once(world, "after", wait)
        assert world.kv["k"] == "old"
        assert answered.wait(10)
        world.kv["k"] = "new"
        written.set()
        join_renewals()
        assert world.kv["k"] == "new"
        assert no_tickets(world)

    @pytest.mark.parametrize("buffer", [THROUGH, BEHIND], ids=["through", "behind"])
    def test_a_write_while_in_finds_a_key_missing_wins(self, make: Make, buffer: Any) -> None:
        world = make(buffer, cache={"miss_ttl": 3600})
        once(world, "after", lambda: world.kv.put("k", "new"))
        assert ("k" in world.kv) is (not world.kv.buffer.write_through)
        assert "k" in world.kv
        world.kv.flush()
        assert "k" in world.kv
        assert no_tickets(world)

    @pytest.mark.parametrize("forget", ["refresh", "clear"])
    def test_a_miss_that_was_refreshed_meanwhile_is_not_kept(self, make: Make, forget: str) -> None:
        world = make(cache={"miss_ttl": 3600})

        def renew() -> None:
            world.put_elsewhere("k", "new")
            world.kv.refresh("k") if forget == "refresh" else cache_of(world).clear()

        once(world, "after", renew)
        assert "k" not in world.kv
        assert "k" in world.kv
        assert no_tickets(world)

    def test_a_read_of_metadata_does_not_take_what_answers_for_in(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "stale_if_error": 3600})
        world.put_elsewhere("k", 1)
        assert world.kv["k"] == 1
        world.pass_time(61)
        seen: list[Any] = []

        def ask_for_metadata_and_lose_the_service() -> None:
            other = threading.Thread(target=lambda: seen.append(world.kv.metadata("k")))
            other.start()
            other.join(10)
            world.knobs.faults, world.knobs.kinds = 1.0, ["500"]

        once(world, "before", ask_for_metadata_and_lose_the_service)
        assert "k" in world.kv
        assert world.kv.stats()["cache_stale"] == 1
        assert seen == [None]

    def test_an_error_takes_its_ticket_along(self, make: Make, read: Any) -> None:
        world = make()
        world.kv.client.transport.max_wait = 0
        world.put_elsewhere("k", 1)
        world.knobs.planned.append(Fault("500"))
        with pytest.raises(kvdict.ServerError):
            read[0](world.kv)
        assert no_tickets(world)
        assert read[0](world.kv) == 1

    def test_a_loop_that_stops_takes_its_tickets_along(self, make: Make) -> None:
        world = make(parallel=True)
        for number in range(500):
            world.put_elsewhere(str(number), number)
        for _ in world.kv.items():
            break
        gc.collect()
        assert no_tickets(world)
        assert not world.kv.buffer.is_read


def join_renewals() -> None:
    for thread in threading.enumerate():
        if thread.name == "kvdict-renew":
            thread.join(10)


class TestStale:
    @pytest.mark.parametrize(
        ("read", "answer"),
        [(lambda kv: kv["k"], "old"), (lambda kv: "k" in kv, True)],
        ids=["value", "in"],
    )
    def test_past_its_ttl_it_is_served_while_one_read_renews_it(
        self, make: Make, read: Callable[[Any], Any], answer: Any
    ) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 30})
        world.put_elsewhere("k", "old")
        assert world.kv["k"] == "old"
        world.put_elsewhere("k", "new")
        world.pass_time(61)
        go_on = threading.Event()
        once(world, "before", lambda: go_on.wait(10))
        before = world.requests
        assert [read(world.kv) for _ in range(10)] == [answer] * 10
        go_on.set()
        join_renewals()
        assert world.requests == before + 1
        assert world.kv["k"] == "new"
        assert world.requests == before + 1
        stats = world.kv.stats()
        assert (stats["cache_stale"], stats["cache_misses"], stats["cache_hits"]) == (10, 1, 1)

    @pytest.mark.parametrize(
        "read",
        [lambda kv: kv.get_many(list(kv)), lambda kv: dict(kv.items())],
        ids=["get_many", "items"],
    )
    def test_bulk_reads_serve_it_while_a_request_a_hundred_renews_it(
        self, make: Make, read: Any
    ) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 30}, parallel=True)
        keys = [f"{number:03}" for number in range(250)]
        world.fill(dict.fromkeys(keys, b'"old"'))
        assert read(world.kv) == dict.fromkeys(keys, "old")
        world.fill(dict.fromkeys(keys, b'"new"'))
        world.pass_time(61)
        go_on = threading.Event()
        asked: list[str] = []

        def hold_up(_method: str, url: str) -> None:
            if url.endswith("/bulk/get"):
                asked.append(url)
                go_on.wait(10)

        world.adapter.before = hold_up
        saved = world.kv.stats()["requests_saved"]
        for _ in range(2):
            assert read(world.kv) == dict.fromkeys(keys, "old")
        stats = world.kv.stats()
        assert (stats["cache_stale"], stats["cache_misses"]) == (500, 250)
        assert stats["requests_saved"] == saved
        go_on.set()
        join_renewals()
        assert len(asked) == 3
        assert read(world.kv) == dict.fromkeys(keys, "new")
        assert len(asked) == 3
        assert no_tickets(world)

    def test_a_bulk_read_waits_only_for_what_is_not_cached_and_renews_nothing_twice(
        self, make: Make
    ) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 30})
        for key in "abc":
            world.put_elsewhere(key, "old")
        assert world.kv.get_many(["a", "b", "c"]) == dict.fromkeys("abc", "old")
        for key in "abcd":
            world.put_elsewhere(key, "new")
        world.pass_time(61)
        go_on = threading.Event()
        asked: list[str] = []

        def hold_up(_method: str, url: str) -> None:
            asked.append(url.rpartition("/")[2])
            if threading.current_thread().name == "kvdict-renew":
                go_on.wait(10)

        world.adapter.before = hold_up
        assert world.kv["a"] == "old"
        wait_until(lambda: asked == ["a"])
        assert world.kv.get_many(list("abcd")) == {"a": "old", "b": "old", "c": "old", "d": "new"}
        wait_until(lambda: asked == ["a", "d", "get"])
        assert world.kv.get_many(["d", "b", "missing"]) == {"d": "new", "b": "old"}
        go_on.set()
        join_renewals()
        assert world.kv.get_many(list("abcd")) == dict.fromkeys("abcd", "new")
        assert asked == ["a", "d", "get", "missing"]
        assert no_tickets(world)

    def test_a_write_that_crosses_a_renewal_of_many_keys_wins(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 60})
        for key in "abc":
            world.put_elsewhere(key, "old")
        assert world.kv.get_many(list("abc")) == dict.fromkeys("abc", "old")
        world.pass_time(61)
        answered, written = threading.Event(), threading.Event()

        def wait() -> None:
            answered.set()
            written.wait(10)

        once(world, "after", wait, "POST")
        assert world.kv.get_many(list("abc")) == dict.fromkeys("abc", "old")
        assert answered.wait(10)
        world.kv["a"] = "new"
        world.kv.delete("b")
        written.set()
        join_renewals()
        before = world.requests
        assert world.kv.get_many(list("abc")) == {"a": "new", "c": "old"}
        assert world.requests == before
        assert no_tickets(world)

    def test_entries_past_their_ttl_are_renewed_with_their_metadata(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 30})
        for key in "ab":
            world.other.put_value(world.kv.id, Write(key, b"1", metadata='"old"'))
        old = dict.fromkeys("ab", Entry(1, None, "old"))
        assert world.kv.entries(["a", "b"]) == old
        for key in "ab":
            world.other.put_value(world.kv.id, Write(key, b"1", metadata='"new"'))
        world.pass_time(61)
        assert world.kv.entries(["a", "b"]) == old
        join_renewals()
        before = world.requests
        assert world.kv.entries(["a", "b"]) == dict.fromkeys("ab", Entry(1, None, "new"))
        assert world.requests == before

    def test_a_value_past_its_ttl_answers_for_in_if_the_service_is_away(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "stale_if_error": 3600})
        for key in "ab":
            world.put_elsewhere(key, 1)
            assert world.kv[key] == 1
        world.pass_time(61)
        world.knobs.faults, world.knobs.kinds = 1.0, ["500"]
        assert "a" in world.kv
        before = world.requests
        assert "a" in world.kv
        assert "b" in world.kv
        assert world.requests == before
        assert world.kv.stats()["cache_stale"] == 3
        world.knobs.faults = 0
        world.pass_time(10)
        world.delete_elsewhere("a")
        assert "a" not in world.kv
        assert world.kv.get("a") is None

    def test_it_is_not_served_beyond_that_nor_past_the_pairs_expiry(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 30, "stale_if_error": 30})
        world.put_elsewhere("long", "old")
        world.put_elsewhere("short", "old", ttl=70)
        assert world.kv.get_many(["long", "short"]) == {"long": "old", "short": "old"}
        world.put_elsewhere("long", "new")
        world.pass_time(71)
        assert "short" not in world.kv
        assert world.kv.get_many(["long", "short"]) == {"long": "old"}
        join_renewals()
        world.pass_time(91)
        world.put_elsewhere("long", "newer")
        assert world.kv.get_many(["long"]) == {"long": "newer"}

    def test_a_deleted_key_is_found_missing_by_the_renewal(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 30})
        world.put_elsewhere("k", 1)
        assert world.kv["k"] == 1
        world.delete_elsewhere("k")
        world.pass_time(61)
        assert world.kv["k"] == 1
        join_renewals()
        assert "k" not in world.kv

    def test_a_renewal_that_fails_is_logged_and_the_next_one_may_begin(
        self, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 1e6})
        world.put_elsewhere("k", "old")
        assert world.kv["k"] == "old"
        world.put_elsewhere("k", "new")
        world.pass_time(61)
        world.kv.client.transport.max_wait = 0
        world.knobs.planned.append(Fault("500"))
        assert world.kv["k"] == "old"
        join_renewals()
        assert "served as long as it may" in caplog.text
        assert no_tickets(world)
        assert world.kv["k"] == "old"
        join_renewals()
        assert world.kv["k"] == "new"

    def test_if_the_service_is_away_what_is_past_its_ttl_is_served_and_it_is_left_alone(
        self, make: Make
    ) -> None:
        world = make(cache={"ttl": 60, "stale_if_error": 3600})
        for key in "ab":
            world.put_elsewhere(key, "old")
        assert world.kv.get_many(["a", "b"]) == {"a": "old", "b": "old"}
        world.pass_time(61)
        world.knobs.faults, world.knobs.kinds = 1.0, ["500"]
        began = world.time
        assert world.kv["a"] == "old"
        assert world.time - began <= 2
        before = world.requests
        for _ in range(5):
            assert world.kv["a"] == world.kv["b"] == "old"
            assert world.kv.get_many(["a", "b"]) == {"a": "old", "b": "old"}
            assert "a" in world.kv
            assert world.kv.entry("a").value == "old"
        assert world.requests == before
        assert world.kv.stats()["cache_stale"] == 1 + 5 * 6
        world.pass_time(10)
        assert world.kv["a"] == "old"
        assert world.requests > before
        world.knobs.faults = 0
        world.pass_time(10)
        world.put_elsewhere("a", "new")
        assert world.kv["a"] == "new"

    def test_while_the_service_is_left_alone_nothing_is_renewed(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 30, "stale_if_error": 3600})
        for key in "ab":
            world.put_elsewhere(key, "old")
        assert world.kv["a"] == "old"
        world.pass_time(50)
        assert world.kv["b"] == "old"
        world.pass_time(65)
        world.knobs.faults, world.knobs.kinds = 1.0, ["500"]
        assert world.kv["a"] == "old"  # it was asked for in vain
        before = world.requests
        assert world.kv["b"] == "old"
        assert world.kv.get_many(["b"]) == {"b": "old"}
        join_renewals()
        assert world.requests == before
        world.knobs.faults = 0
        world.put_elsewhere("b", "new")
        world.pass_time(10)
        assert world.kv["b"] == "old"
        join_renewals()
        assert world.kv["b"] == "new"

    def test_where_no_thread_can_be_started_it_is_served_and_renewed_later(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = make(cache={"ttl": 60, "stale_while_revalidate": 30})
        world.put_elsewhere("k", "old")
        assert world.kv["k"] == "old"
        world.put_elsewhere("k", "new")
        world.pass_time(61)

        def fail(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", fail)
            assert world.kv["k"] == "old"
        assert world.kv["k"] == "old"
        join_renewals()
        assert world.kv["k"] == "new"

    def test_many_keys_past_their_ttl_are_read_anew_if_the_service_answers(
        self, make: Make
    ) -> None:
        world = make(cache={"ttl": 60, "stale_if_error": 3600})
        keys = [f"{number:03}" for number in range(150)]
        for key in keys:
            world.put_elsewhere(key, "old")
        world.kv.prefetch(keys)
        world.pass_time(61)
        for key in keys:
            world.put_elsewhere(key, "new")
        before = world.requests
        assert world.kv.get_many(keys) == dict.fromkeys(keys, "new")
        assert world.kv.get_many(keys) == dict.fromkeys(keys, "new")
        assert world.requests == before + 2
        assert no_tickets(world)

    def test_many_keys_are_served_stale_with_one_try(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "stale_if_error": 3600})
        keys = [f"{number:03}" for number in range(300)]
        for key in keys:
            world.put_elsewhere(key, key)
        world.kv.prefetch(keys)
        world.pass_time(61)
        world.knobs.faults, world.knobs.kinds = 1.0, ["reset"]
        began = world.time
        assert world.kv.get_many(keys) == dict(zip(keys, keys, strict=True))
        assert world.time - began <= 2
        assert no_tickets(world)

    @pytest.mark.parametrize("bulk", [False, True], ids=["one", "many"])
    def test_who_waits_is_served_after_a_bounded_time(
        self, make: Make, bulk: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("kvdict.breaker.PATIENCE", 0.05)  # of real time
        world = make(cache={"ttl": 60, "stale_if_error": 3600})
        for key in "kl":
            world.put_elsewhere(key, "old")
        assert world.kv.get_many(["k", "l"]) == {"k": "old", "l": "old"}
        world.pass_time(61)
        hang = threading.Event()
        once(world, "before", lambda: hang.wait(10), "POST" if bulk else "GET")
        seen = world.kv.get_many(["k", "l"])["k"] if bulk else world.kv["k"]
        assert seen == "old"
        assert world.kv._backing.reads.breaker.is_open
        hang.set()

    @pytest.mark.parametrize("bulk", [False, True], ids=["one", "many"])
    def test_what_ends_while_the_service_is_waited_for_is_not_served(
        self, make: Make, bulk: bool
    ) -> None:
        world = make(cache={"ttl": 10, "stale_if_error": 3600})
        for key in "kl":
            world.put_elsewhere(key, "old", ttl=61)
        assert world.kv.get_many(["k", "l"]) == {"k": "old", "l": "old"}
        world.pass_time(60.8)
        world.knobs.planned.extend([Fault("500")] * 20)
        assert (world.kv.get_many(["k", "l"]) if bulk else world.kv.get("k", {})) == {}

    @pytest.mark.parametrize("bulk", [False, True], ids=["one", "many"])
    def test_an_error_that_is_the_callers_is_raised(self, make: Make, bulk: bool) -> None:
        world = make(cache={"ttl": 60, "stale_if_error": 3600})
        for key in "kl":
            world.put_elsewhere(key, 1)
        assert world.kv.get_many(["k", "l"]) == {"k": 1, "l": 1}
        world.pass_time(61)
        world.other.delete_namespace(world.kv.id)
        world.pass_time(11)
        with pytest.raises(kvdict.NotFoundError):
            world.kv.get_many(["k", "l"]) if bulk else world.kv["k"]

    @pytest.mark.parametrize("bulk", [False, True], ids=["one", "many"])
    def test_it_is_served_once_the_daily_quota_is_spent(self, bulk: bool) -> None:
        values = {key: {"value": "1", "metadata": None} for key in "kl"}
        answer = ok({"values": values}) if bulk else Reply(200, b"1")
        with RawServer(keep_answering(answer, refused(429, 10048))) as server:
            where = f"kv+{server.url.removesuffix('/client/v4')}/{'a' * 32}/{'f' * 32}"
            now = [0.0]
            cache = ReadCache(ttl=60, stale_if_error=3600, timer=lambda: now[0])
            with kvdict.open(where, token="x", cache=cache) as kv:
                for now[0] in (0, 61, 62, 70):
                    found = kv.get_many(["k", "l"]) if bulk else {"k": kv["k"]}
                    assert found["k"] == 1
            assert len(server.requests) == 2

    def test_a_key_that_is_not_cached_waits_as_ever(self, make: Make) -> None:
        world = make(cache={"ttl": 60, "stale_if_error": 3600})
        world.put_elsewhere("k", 1)
        world.knobs.planned.extend([Fault("500")] * 5)
        assert world.kv["k"] == 1


class TestBounds:
    def test_the_least_recently_read_leaves_when_there_are_too_many(self, make: Make) -> None:
        world = make(cache={"max_items": 3})
        for key in "abc":
            world.kv[key] = key
        assert world.kv["a"] == "a"
        world.kv["d"] = "d"
        before = world.requests
        assert (world.kv["a"], world.kv["c"], world.kv["d"]) == ("a", "c", "d")
        assert world.requests == before
        assert world.kv.stats()["cache_evictions"] == 1
        assert len(cache_of(world)) == 3

    def test_a_listing_is_no_reading(self, make: Make) -> None:
        world = make(cache={"max_items": 3})
        for key in "abc":
            world.kv[key] = key
        assert world.kv["a"] == "a"
        assert list(world.kv) == ["a", "b", "c"]
        world.kv["d"] = "d"
        assert not world.kv._backing.reads.knows("b")

    def test_bytes_are_bounded(self, make: Make) -> None:
        world = make(cache={"max_bytes": 100_000}, codec=TEXT)
        for number in range(100):
            world.kv[str(number)] = "x" * (number * 100)
        stats = world.kv.stats()
        assert 50_000 < stats["cache_bytes"] <= 100_000
        assert stats["cache_evictions"] == 100 - stats["cache_items"]

    def test_what_is_larger_than_all_of_it_is_not_kept_nor_is_what_it_replaced(
        self, make: Make
    ) -> None:
        world = make(cache={"max_bytes": 10_000}, codec=TEXT)
        world.kv["k"] = "small"
        world.kv["k"] = "x" * 20_000
        assert len(cache_of(world)) == 0
        assert len(world.kv["k"]) == 20_000
        world.put_elsewhere("k", "small again")
        assert world.kv["k"] == "small again"

    def test_an_entry_overwritten_by_one_that_is_over_is_gone(self, make: Make) -> None:
        world = make()
        cache = cache_of(world)
        cache.store("k", Entry(b"1"))
        cache.store("k", Entry(b"2", int(world.time) - 1))
        assert cache.peek("k") is None
        cache.store("k", Entry(b"1"))
        cache.store("k", Entry(b"2"), age=cache.ttl)
        assert cache.peek("k") is None
        assert len(cache) == 0

    @pytest.mark.parametrize(
        "option",
        ["max_items", "max_bytes", "ttl", "miss_ttl", "stale_while_revalidate", "stale_if_error"],
    )
    @pytest.mark.parametrize("value", [-1, "60", None, True, math.nan])
    def test_wrong_options_are_named(self, option: str, value: Any) -> None:
        with pytest.raises(kvdict.ConfigError, match=f"{option} is"):
            ReadCache(**{option: value})

    @pytest.mark.parametrize("option", ["max_items", "max_bytes"])
    def test_a_cache_that_may_hold_nothing_is_an_error(self, option: str) -> None:
        nothing: dict[str, Any] = {option: 0}
        with pytest.raises(kvdict.ConfigError, match=f"{option} is 0, expected"):
            ReadCache(**nothing)

    @pytest.mark.parametrize("cache", ["yes", 60, ReadCache])
    def test_a_cache_that_is_none_is_an_error(self, cache: Any) -> None:
        with pytest.raises(kvdict.ConfigError, match="cache is"):
            kvdict.open("memory://", cache=cache)

    def test_a_cache_belongs_to_one_namespace(self, tmp_path: Path) -> None:
        cache = ReadCache()
        journal = tmp_path / "journal"
        with kvdict.open("memory://", cache=cache):
            with pytest.raises(kvdict.ConfigError, match="make a new one"):
                kvdict.open("memory://", cache=cache, buffer=WriteBuffer(journal=journal))
            kvdict.open("memory://", buffer=WriteBuffer(journal=journal)).close()  # it is free

    @pytest.mark.parametrize("width", [20, 300, 4000])
    def test_memory_is_what_it_says(self, width: int) -> None:
        """Measured in a process of its own: mixed sizes around `width` bytes."""
        program = f"""
import gc, random, tracemalloc
from kvdict import Entry, ReadCache
cache = ReadCache(max_items=10**9, max_bytes=8_000_000)
chance = random.Random(1)
def fill(numbers):
    for number in numbers:
        size = int(chance.expovariate(1 / {width}))
        expiration = 2_000_000_000 + number if number % 2 else None
        metadata = {{"n": number}} if number % 5 == 0 else None
        entry = Entry(chance.randbytes(size), expiration, metadata)
        key = "user:%08d" % number + "é" * (number % 3)
        cache.store(key, entry if number % 10 else None)
tracemalloc.start()
before = tracemalloc.get_traced_memory()[0]
fill(range(60_000))
gc.collect()
print(tracemalloc.get_traced_memory()[0] - before, cache.stats()["cache_bytes"])
"""
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        taken, told = map(float, done.stdout.split())
        assert taken <= 1.1 * 8_000_000, done.stdout
        assert 0.85 * told <= taken, done.stdout


class TestByItself:
    """What the cache holds and says, with nobody who asks for it."""

    @pytest.fixture
    def now(self) -> list[float]:
        """Give the time that the caches of a test go by, and the service's."""
        return [1000.0]

    @pytest.fixture
    def alone(self, now: list[float]) -> Callable[..., ReadCache]:
        """Return how to make caches of nobody's."""

        def make_cache(**options: Any) -> ReadCache:
            options.setdefault("chance", lambda: 0.0)
            cache = ReadCache(timer=lambda: now[0], **options)
            cache.attach(WriteBuffer(), ServiceClock(lambda: now[0]))
            return cache

        return make_cache

    @pytest.mark.parametrize(("chance", "seconds"), [(0.0, 60), (0.5, 57), (1.0, 54)])
    def test_an_entry_is_fresh_for_its_ttl_less_up_to_a_tenth(
        self, alone: Any, now: list[float], chance: float, seconds: int
    ) -> None:
        cache = alone(ttl=60, miss_ttl=5, chance=lambda: chance)
        cache.store("k", Entry(b"v"))
        now[0] += seconds - 0.5
        assert cache.look("k").found == Entry(b"v")
        now[0] += 0.5
        assert cache.look("k") is None

    def test_a_miss_is_known_for_its_own_ttl_and_what_is_old_already_for_less(
        self, alone: Any, now: list[float]
    ) -> None:
        cache = alone(ttl=60, miss_ttl=5)
        cache.store("missing", None)
        cache.store("old miss", None, age=2)
        cache.store("old", Entry(b"v"), age=50)
        now[0] += 2.9
        assert cache.look("old miss").found is None
        now[0] += 0.1
        assert cache.look("old miss") is None
        assert cache.look("missing").found is None
        now[0] += 2
        assert cache.look("missing") is None
        assert cache.look("old").found == Entry(b"v")
        now[0] += 5
        assert cache.look("old") is None

    def test_an_entry_ends_with_its_pair_or_when_it_is_said(
        self, alone: Any, now: list[float]
    ) -> None:
        cache = alone(ttl=60)
        cache.store("pair", Entry(b"v", 1030))
        cache.store("said", Entry(b"v", 1030), ends=1020.0)
        cache.store("for ever", Entry(b"v"))
        now[0] = 1019.5
        assert cache.look("said")
        now[0] = 1020.0
        assert cache.look("said") is None
        now[0] = 1029.5
        assert cache.look("pair")
        now[0] = 1030.0
        assert cache.look("pair") is None
        assert cache.look("for ever")
        assert len(cache) == 1

    def test_a_listing_ends_an_entry_sooner_and_never_later(
        self, alone: Any, now: list[float]
    ) -> None:
        cache = alone(ttl=60)
        cache.store("k", Entry(b"v", 1030))
        cache.store("miss", None)
        keys = [kvdict.Key("unknown", 1010), kvdict.Key("k"), kvdict.Key("k", 1040)]
        cache.listed([*keys, kvdict.Key("miss")])
        assert cache.look("miss") is None
        cache.listed([kvdict.Key("k", 1020), kvdict.Key("k", 1025)])
        now[0] = 1019.5
        assert cache.look("k")
        now[0] = 1020.0
        assert cache.look("k") is None

    def test_what_is_stale_is_served_so_long_and_not_past_its_end(
        self, alone: Any, now: list[float]
    ) -> None:
        cache = alone(ttl=10, miss_ttl=10)
        cache.store("k", Entry(b"v", metadata=UNASKED))
        cache.store("mortal", Entry(b"v", 1015))
        cache.store("miss", None)
        now[0] = 1014.5
        assert cache.look_for_stale("k", 10).found.value == b"v"
        assert cache.look_for_stale("mortal", 10)
        assert cache.look_for_stale("miss", 10) is None
        assert cache.look_for_stale("unknown", 10) is None
        assert cache.look_for_stale("k", 10, details=True) is None
        assert cache.look_for_stale("mortal", 10, details=True)
        now[0] = 1015.0
        assert cache.look_for_stale("mortal", 10) is None
        now[0] = 1019.5
        assert cache.look_for_stale("k", 10)
        now[0] = 1020.0
        assert cache.look_for_stale("k", 10) is None

    def test_what_is_not_known_of_an_entry_is_asked_for(self, alone: Any) -> None:
        cache = alone()
        cache.store("k", Entry(b"v", metadata=UNASKED))
        cache.store("whole", Entry(b"v", metadata={"a": 1}))
        cache.store("miss", None)
        assert cache.look("k", details=True) is None
        assert cache.look("k")
        assert cache.look("whole", details=True)
        assert cache.look("miss", details=True)
        assert (cache.hits, cache.negative_hits) == (2, 1)
        assert cache.peek("k")
        assert cache.hits == 2

    def test_its_bounds_are_what_it_says(self, alone: Any) -> None:
        size = sys.getsizeof("a") + sys.getsizeof(b"v") + 448
        cache = alone(max_bytes=2 * size)
        for key in "abc":
            cache.store(key, Entry(b"v"))
        assert [key for key in "abc" if cache.peek(key)] == ["b", "c"]
        assert cache.stats()["cache_bytes"] == 2 * size
        assert cache.stats()["cache_evictions"] == 1
        cache.store("b", Entry(b"v" * (1 + size)))
        assert [key for key in "abc" if cache.peek(key)] == ["b"]
        cache.store("b", Entry(b"v" * (2 + size)))
        assert len(cache) == cache.stats()["cache_bytes"] == 0
        cache.store("m", Entry(b"v", metadata="meta"))
        assert cache.stats()["cache_bytes"] == size + 2 * 4 + 200
        cache.store("m", Entry(b"v", metadata=UNASKED))
        assert cache.stats()["cache_bytes"] == size
        cache.store("m", None)
        assert cache.stats()["cache_bytes"] == size - sys.getsizeof(b"v")

    def test_one_entry_may_be_all_that_it_holds(self, alone: Any) -> None:
        cache = alone(max_items=1)
        cache.store("a", Entry(b"v"))
        cache.store("b", Entry(b"v"))
        assert [key for key in "ab" if cache.peek(key)] == ["b"]
        tiny = alone(max_bytes=1, ttl=0, miss_ttl=0, stale_if_error=0, stale_while_revalidate=0)
        tiny.store("a", Entry(b"v"))
        assert len(tiny) == 0

    def test_to_clear_it_is_no_eviction(self, alone: Any) -> None:
        cache = alone()
        for key in "abc":
            cache.store(key, Entry(b"v"))
        cache.clear()
        cache.clear()
        assert set(cache.stats().values()) == {0}

    def test_one_that_belongs_to_nobody_yet_can_be_cleared_and_goes_by_our_own_clock(self) -> None:
        cache = ReadCache()
        cache.store("k", Entry(b"v"))
        cache.store("over", Entry(b"v", 1))
        assert cache.peek("over") is None
        cache.clear()
        assert len(cache) == 0

    def test_a_listing_is_taken_in_while_nobody_else_changes_what_is_held(self, now: Any) -> None:
        cache, buffer = ReadCache(), WriteBuffer()
        cache.attach(buffer, ServiceClock(lambda: now[0]))
        seen: list[bool] = []

        def keys() -> Iterator[kvdict.Key]:
            other = threading.Thread(
                target=lambda: seen.append(buffer.lock.acquire(blocking=False))
            )
            other.start()
            other.join()
            yield kvdict.Key("k")

        cache.listed(keys())
        assert seen == [False]

    def test_what_is_not_chosen_is_what_the_documentation_says(self) -> None:
        told = {
            "max_items": 10_000, "max_bytes": 64 * 2**20, "ttl": 60, "miss_ttl": 5,
            "stale_while_revalidate": 0, "stale_if_error": 0,
        }  # fmt: skip
        cache = ReadCache()
        assert {name: getattr(cache, name) for name in told} == told

    def test_its_statistics_begin_at_nothing(self, alone: Any) -> None:
        assert set(alone().stats().values()) == {0}

    def test_a_read_may_store_only_with_a_ticket_that_no_write_took(self, alone: Any) -> None:
        cache = alone()
        one, other = object(), object()
        cache.leave_ticket("k", one)
        cache.leave_ticket("k", other)
        assert cache.tickets("k") == [one, other]
        assert cache.take_ticket("k", one)
        assert not cache.take_ticket("k", one)
        assert cache.tickets("k") == [other]
        cache.forget("k")
        assert not cache.take_ticket("k", other)
        cache.leave_ticket("k", one)
        cache.clear()
        assert not cache.take_ticket("k", one)
        assert cache.tickets("k") == []


class TestOneFlight:
    def test_64_threads_that_miss_a_key_make_one_request(self, make: Make) -> None:
        world = make()
        world.put_elsewhere("k", [1])
        waiting = threading.Barrier(65)
        go_on = threading.Event()
        once(world, "before", lambda: go_on.wait(10))
        before = world.requests
        results: list[Any] = []

        def read() -> None:
            waiting.wait(10)
            results.append(world.kv["k"])

        threads = [threading.Thread(target=read) for _ in range(64)]
        for thread in threads:
            thread.start()
        waiting.wait(10)
        wait_until(lambda: world.kv.stats()["cache_misses"] == 64)
        go_on.set()
        for thread in threads:
            thread.join(10)
        assert results == [[1]] * 64
        assert len({id(result) for result in results}) == 64
        assert world.requests == before + 1
        assert world.kv.stats()["requests_saved"] == 63
        assert no_tickets(world)

    def _follow(self, world: World, count: int = 8) -> tuple[list[Any], list[threading.Thread]]:
        """Start readers that wait for the read which is under way."""
        results: list[Any] = []

        def read() -> None:
            try:
                results.append(world.kv["k"])
            except Exception as error:
                results.append(type(error))

        threads = [threading.Thread(target=read) for _ in range(count)]
        expected = world.kv.stats()["cache_misses"] + count
        for thread in threads:
            thread.start()
        wait_until(lambda: world.kv.stats()["cache_misses"] == expected)
        return results, threads

    def test_an_error_of_the_one_that_asks_is_the_error_of_all(self, make: Make) -> None:
        world = make()
        world.kv.client.transport.max_wait = 0
        world.knobs.planned.append(Fault("500"))
        followers: list[Any] = []
        once(world, "before", lambda: followers.append(self._follow(world)))
        with pytest.raises(kvdict.ServerError):
            world.kv["k"]
        ((results, threads),) = followers
        for thread in threads:
            thread.join(10)
        assert results == [kvdict.ServerError] * 8
        assert no_tickets(world)

    def test_an_interrupt_of_the_one_that_asks_is_its_own(self, make: Make) -> None:
        world = make()
        world.put_elsewhere("k", 1)
        followers: list[Any] = []

        def interrupt() -> None:
            followers.append(self._follow(world))
            raise KeyboardInterrupt

        before = world.requests
        world.adapter.before = None
        once(world, "before", interrupt)
        with suppress(kvdict.TransportError), pytest.raises(KeyboardInterrupt):
            world.kv["k"]
        ((results, threads),) = followers
        for thread in threads:
            thread.join(10)
        assert results == [1] * 8
        assert world.requests == before + 2
        assert no_tickets(world)

    def test_a_signal_handler_that_reads_the_same_key_waits_for_nobody(self, make: Make) -> None:
        world = make()
        world.put_elsewhere("k", 1)
        seen = []
        previous = signal.signal(signal.SIGUSR1, lambda *_: seen.append(world.kv["k"]))
        try:
            once(world, "before", lambda: _thread.interrupt_main(signal.SIGUSR1))
            assert world.kv["k"] == 1
        finally:
            signal.signal(signal.SIGUSR1, previous)
        assert seen == [1]
        assert no_tickets(world)

    def test_a_write_while_others_wait_is_what_they_see(self, make: Make) -> None:
        world = make(BEHIND)
        world.put_elsewhere("k", "old")
        followers: list[Any] = []

        def write() -> None:
            followers.append(self._follow(world))
            world.kv["k"] = "new"

        once(world, "after", write)
        assert world.kv["k"] == "new"
        ((results, threads),) = followers
        for thread in threads:
            thread.join(10)
        assert results == ["new"] * 8

    def test_no_lock_is_held_while_a_request_runs(self, make: Make) -> None:
        world = make()
        world.put_elsewhere("k", 1)
        world.kv["other"] = 2
        seen: list[Any] = []

        def read_elsewhere() -> None:
            thread = threading.Thread(target=lambda: seen.append(world.kv["other"]))
            thread.start()
            thread.join(10)

        for read, method in (
            (lambda: world.kv["k"], "GET"),
            (lambda: world.kv.get_many(["x", "y"]), "POST"),
            (lambda: world.kv.put("z", 1), "PUT"),
        ):
            once(world, "before", read_elsewhere, method)
            read()
        assert seen == [2, 2, 2]


def test_metadata_too_deep_to_be_measured_is_not_cached() -> None:
    cache = ReadCache()
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    cache.store("k", Entry(b"1", metadata=deep))
    assert cache.peek("k") is None
    cache.store("k", Entry(b"1", metadata=[[]]))
    assert cache.peek("k")


def test_after_a_fork_entries_stay_and_reads_under_way_are_forgotten() -> None:
    cache = ReadCache()
    cache.store("k", Entry(b"1"))
    cache.leave_ticket("k", object())
    cache.start_again()
    assert cache.peek("k")
    assert cache.tickets("k") == []


def test_after_a_fork_what_a_thread_of_the_parent_was_changing_is_sound() -> None:
    cache = ReadCache(max_items=1)
    cache.store("half gone", Entry(b"1"))
    Cache.__delitem__(cache._held, "half gone")  # its place in the order of use is still there
    cache.start_again()
    cache.store("older", Entry(b"2"))
    cache.store("newer", Entry(b"3"))
    assert cache.peek("older") is None
    assert cache.peek("newer")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
class TestFork:
    def test_a_child_keeps_what_was_cached_and_waits_for_no_read_of_the_parent(
        self, make: Make
    ) -> None:
        world = make(cache={"max_items": 1})
        world.put_elsewhere("k", 1)
        world.kv.update(cold=1, warm=2)
        children = []

        def fork() -> None:
            told = cache_of(world).stats()
            assert told["cache_evictions"] == 1
            pid = os.fork()
            if not pid:
                code = 1
                try:
                    world.adapter.before = world.adapter.after = None
                    before = world.requests
                    fine = cache_of(world).stats() == told
                    fine = fine and world.kv["warm"] == 2 and world.requests == before
                    fine = fine and no_tickets(world) and len(cache_of(world)) == 1
                    code = 0 if fine else 2
                finally:
                    os._exit(code)
            children.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

        once(world, "before", fork)
        assert world.kv["k"] == 1
        assert children == [0]
