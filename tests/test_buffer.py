"""Write-behind: what is pending, sealed and settling, and what reads see of it."""

from __future__ import annotations

import gc
import logging
import math
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from requests import ReadTimeout

import kvdict
from kvdict import WriteBuffer
from kvdict.buffer import OVERHEAD
from kvdict.changes import Change
from kvdict.clock import ServiceClock
from kvdict.delivery import Parcel, narrow
from kvdict.emulator.knobs import Fault
from kvdict.emulator.refusals import Refusal
from kvdict.writes import Write
from tests.world import World, buffered_worlds, wait_until

NEVER = 1e9


@pytest.fixture
def make() -> Iterator[Callable[..., World]]:
    """Return how to make worlds whose requests go side by side."""
    with buffered_worlds(parallel=True) as make_world:
        yield make_world


def requests(world: World) -> float:
    return world.kv.stats()["requests"]


class TestCosts:
    def test_100_000_assignments_are_ten_requests(self, make: Any) -> None:
        world = make(max_age=NEVER, max_items=10_000)
        before = requests(world)
        for number in range(100_000):
            world.kv[f"{number:06}"] = number
        assert world.kv.flush().sent <= 100_000
        assert requests(world) - before <= 11
        world.kv.refresh("000042")
        assert world.kv["000042"] == 42
        assert world.kv.stats()["requests_saved"] >= 100_000 - 11

    def test_a_batch_of_one_goes_by_the_value_endpoint(self, make: Any) -> None:
        world = make()
        world.kv["k"] = 1
        world.kv.flush()
        del world.kv["k"]
        world.kv.flush()
        asked = [f"{method} {path.rsplit('/', 2)[-2]}" for method, path in world.emulator.requests]
        assert asked[-2:] == ["PUT values", "DELETE values"]

    def test_many_writes_of_one_key_are_one_request(self, make: Any) -> None:
        world = make()
        before = requests(world)
        for number in range(1000):
            world.kv["k"] = number
        assert world.kv.flush() == kvdict.FlushResult(sent=1)
        assert requests(world) == before + 1

    def test_reading_what_is_pending_costs_nothing(self, make: Any) -> None:
        world = make()
        world.kv.put("k", "v", expiration_ttl=100, metadata="m")
        before = requests(world)
        assert world.kv["k"] == "v"
        assert "k" in world.kv
        assert world.kv.metadata("k") == "m"
        entry = world.kv.entry("k")
        assert (entry.value, entry.metadata) == ("v", "m")
        assert entry.expiration == int(world.time) + 100
        assert world.kv.get_many(["k"]) == {"k": "v"}
        assert world.kv.setdefault("k", "w") == "v"
        del world.kv["k"]
        assert "k" not in world.kv
        assert world.kv.pop("k", None) is None
        with pytest.raises(KeyError):
            del world.kv["k"]
        assert requests(world) == before


class TestReads:
    @pytest.fixture
    def laden(self, make: Any) -> World:
        """Give a namespace with stored, overwritten, deleted and pending keys."""
        world: World = make(settle=0)
        kv = world.kv
        kv.update({f"{number:04}": "stored" for number in range(0, 3000, 2)})
        kv.flush()
        kv["0000"] = "overwritten"
        del kv["0002"]
        kv["0001"] = "new"
        kv["9999"] = "last"
        return world

    def test_listings_merge_own_keys_in_order_and_hide_deleted_ones(self, laden: World) -> None:
        kv = laden.kv
        names = list(kv)
        assert names == sorted(names)
        assert names[:3] == ["0000", "0001", "0004"]
        assert names[-1] == "9999"
        assert len(kv) == len(names) == 1501
        assert [key.name for key in kv.scan("000")] == ["0000", "0001", "0004", "0006", "0008"]
        assert [key.name for page in kv.pages(limit=10) for key in page.keys] == names
        assert dict(kv.items())["0000"] == "overwritten"
        assert next(kv.scan()).name == "0000"

    def test_pages_never_hold_more_than_their_limit_and_resume_anywhere(self, laden: World) -> None:
        kv = laden.kv
        kv.update({f"00{letter}": 1 for letter in "abcdefghijklmnopqrstuvwxyz"})
        names = list(kv)
        seen: list[str] = []
        cursor = None
        while True:
            page = next(kv.pages(cursor=cursor, limit=10))
            assert len(page.keys) <= 10
            seen += [key.name for key in page.keys]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == names
        with pytest.raises(kvdict.LimitError):
            next(kv.pages(cursor="no cursor"))

    def test_a_pair_that_the_loop_body_wrote_is_seen_by_the_loop(self, laden: World) -> None:
        kv = laden.kv
        seen = {}
        for position, (key, value) in enumerate(kv.items()):
            seen[key] = value
            if position == 3:
                kv["0100"] = "written in the loop"
                del kv["0102"]
                kv.flush()
        assert seen["0100"] == "written in the loop"
        assert "0102" not in seen

    def test_views_see_the_same(self, laden: World) -> None:
        view = laden.kv.prefixed("00").using("text")
        assert view["01"] == '"new"'
        assert "02" not in view
        assert list(view)[:3] == ["00", "01", "04"]
        view.clear()
        assert not view
        assert len(laden.kv) == 1451

    def test_bool_and_next_ask_for_one_small_page(self, laden: World) -> None:
        before = requests(laden)
        assert laden.kv
        assert next(iter(laden.kv)) == "0000"
        assert requests(laden) == before + 2

    def test_a_put_past_its_deadline_reads_as_missing_and_nothing_older_shows(
        self, make: Any
    ) -> None:
        world = make(settle=0)
        world.kv["k"] = "old"
        world.kv.flush()
        world.kv.put("k", "mortal", expiration_ttl=60)
        assert world.kv["k"] == "mortal"
        world.pass_time(61)
        assert "k" not in world.kv
        assert list(world.kv) == []
        world.kv.flush()
        assert world.kv.client.bulk_get(world.kv.id, ["k"]) == {"k": None}

    def test_a_deadline_is_fixed_when_the_caller_writes(self, make: Any) -> None:
        world = make()
        world.kv.put("k", 1, expiration_ttl=1000)
        due = int(world.time) + 1000
        world.pass_time(300)
        world.kv.flush()
        world.kv.refresh("k")
        assert abs(world.kv.entry("k").expiration - due) <= 1

    def test_a_prefix_is_listed_whole_among_many_other_pending_keys(self, make: Any) -> None:
        world = make()
        for number in range(300):
            world.kv[f"a{number:03}"] = number
        for number in range(100):
            world.kv[f"b{number:03}"] = number
        view = world.kv.prefixed("b")
        assert len(view) == len(list(world.kv.scan("b"))) == 100
        view.clear()
        assert len(world.kv) == 300

    def test_what_is_just_being_sent_is_read_and_listed_without_asking_for_it(
        self, make: Any
    ) -> None:
        world = make(settle=0)
        seen: list[Any] = []

        def look(method: str, _url: str) -> None:
            if method == "PUT":
                world.adapter.before = None
                before = requests(world)
                seen.extend([world.kv["a"], "b" in world.kv, world.kv.get_many(["a", "b"])])
                seen.append(requests(world) - before)
                seen.append(list(world.kv))

        world.kv.update(a=1, b=2)
        world.adapter.before = look
        world.kv.flush()
        assert seen == [1, True, {"a": 1, "b": 2}, 0, ["a", "b"]]

    def test_a_key_that_waits_is_listed_though_thousands_have_left(self, make: Any) -> None:
        world = make(settle=0)

        def write(method: str, _url: str) -> None:
            if method == "PUT":
                world.adapter.before = None
                world.kv["waiting"] = 1

        world.kv.update({f"{number:04}": number for number in range(3000)})
        world.adapter.before = write
        world.kv.flush()
        world.kv["waits too"] = 1
        assert world.kv.stats()["pending"] == 2
        assert list(world.kv)[-2:] == ["waiting", "waits too"]
        assert list(world.kv.scan("wait")) == [kvdict.Key("waiting"), kvdict.Key("waits too")]

    def test_an_iterator_that_rests_does_not_keep_single_reads_in_the_past(self, make: Any) -> None:
        world = make(settle=60)
        world.kv.update(a=1, b=1)
        world.kv.flush()
        iterator = iter(world.kv)
        assert next(iterator) == "a"
        world.pass_time(61)
        world.kv.client.put_value(world.kv.id, kvdict.writes.Write("a", b"2"))
        assert world.kv["a"] == 2
        assert next(iterator) == "b"


class TestSettling:
    def test_own_writes_win_over_the_services_past(self, make: Any) -> None:
        world = make(settle=60)
        kv = world.kv
        kv.update(old=1, gone=1)
        kv.flush()
        world.pass_time(100)
        knobs = world.knobs
        knobs.stale_reads = knobs.list_lag = knobs.cache_misses = 30
        assert "new" not in kv
        kv["old"] = 2
        kv["new"] = 3
        del kv["gone"]
        kv.flush()
        assert dict(kv.items()) == {"old": 2, "new": 3}
        assert sorted(kv) == ["new", "old"]
        assert len(kv) == 2
        assert "gone" not in kv
        assert kv.client.get_value(kv.id, "old").data == b"1"
        world.pass_time(61)
        assert dict(kv.items()) == {"old": 2, "new": 3}

    def test_another_writers_value_is_seen_after_the_settling_or_a_refresh(self, make: Any) -> None:
        world = make(settle=60)
        kv = world.kv
        kv.update(a=1, b=1)
        kv.flush()
        for key in ("a", "b"):
            kv.client.put_value(kv.id, kvdict.writes.Write(key, b"2"))
        assert kv.get_many(["a", "b"]) == {"a": 1, "b": 1}
        kv.refresh("a")
        assert kv.get_many(["a", "b"]) == {"a": 2, "b": 1}
        world.pass_time(61)
        assert kv.get_many(["a", "b"]) == {"a": 2, "b": 2}

    def test_settling_is_bounded_in_bytes_and_counted(self, make: Any) -> None:
        world = make(settle=1e6, settle_bytes=100_000)
        for number in range(500):
            world.kv[f"{number:03}"] = "x" * 1000
        world.kv.flush()
        stats = world.kv.stats()
        assert 350 <= stats["settled_early"] <= 450
        assert len(world.kv) == 500

    def test_written_through_writes_settle_too(self, make: Any) -> None:
        world = make(write_through=True, settle=60)
        world.knobs.stale_reads = world.knobs.list_lag = 30
        world.kv["k"] = 1
        world.kv.update(many=2)
        assert dict(world.kv.items()) == {"k": 1, "many": 2}
        world.kv.clear()
        assert world.kv == {}


class TestFailures:
    @pytest.mark.parametrize("kind", ["429", "500", "524", "reset", "partial"])
    @pytest.mark.parametrize("after", [False, True])
    def test_what_may_pass_keeps_writes_pending_until_they_are_stored(
        self, make: Any, kind: Any, after: bool
    ) -> None:
        world = make(settle=0)
        world.kv.update({str(number): number for number in range(50)})
        world.knobs.planned.extend([Fault(kind, after)] * 150)
        with pytest.raises(kvdict.FlushError) as caught:
            world.kv.flush(timeout=3)
        assert caught.value.pending > 0
        assert set(caught.value.keys) <= {str(number) for number in range(50)}
        assert world.kv["7"] == 7
        world.kv.flush(timeout=10_000)
        assert len(world.kv) == 50

    def test_unsuccessful_keys_are_sent_again_those_alone(self, make: Any) -> None:
        world = make()
        world.kv.update(a=1, b=2, c=3, d=4)
        world.knobs.planned.append(Fault("partial"))
        assert world.kv.flush(timeout=100).sent == 4
        assert world.kv.stats()["flush_retries"] == 1

    def test_a_write_that_came_while_its_key_was_being_sent_is_sent_after_it(
        self, make: Any
    ) -> None:
        world = make(settle=0, key_interval=0)

        def write_again(method: str, url: str) -> None:
            if method == "PUT":
                world.adapter.before = None
                world.kv["k"] = 2
                assert world.kv["k"] == 2

        world.kv["k"] = 1
        world.adapter.before = write_again
        world.kv.flush()
        world.kv.flush()
        assert world.kv["k"] == 2
        assert world.kv.stats()["pending"] == 0

    def test_a_key_that_was_deleted_while_it_was_being_sent_stays_deleted(self, make: Any) -> None:
        world = make(settle=0, key_interval=0)

        def delete(method: str, url: str) -> None:
            if method == "PUT":
                world.adapter.before = None
                world.kv.delete("k")

        world.kv["k"] = 1
        world.adapter.before = delete
        world.kv.flush()
        assert "k" not in world.kv
        world.kv.flush()
        assert "k" not in world.kv

    def test_a_failed_batch_does_not_hide_a_newer_write(self, make: Any) -> None:
        world = make(settle=0, key_interval=0)

        def write_and_fail(method: str, url: str) -> None:
            if method == "PUT":
                world.adapter.before = None
                world.kv["k"] = "newer"
                world.knobs.planned.extend([Fault("reset", after=True)] * 20)

        world.kv["k"] = "older"
        world.adapter.before = write_and_fail
        with pytest.raises(kvdict.FlushError):
            world.kv.flush(timeout=1)
        assert world.kv["k"] == "newer"
        world.knobs.planned.clear()
        world.kv.flush()
        assert world.kv["k"] == "newer"
        assert world.kv.client.get_value(world.kv.id, "k").data == b'"newer"'

    def test_one_key_is_written_once_a_second(self, make: Any) -> None:
        world = make(key_interval=1)
        start = world.time
        for number in range(4):
            world.kv["k"] = number
            world.kv.flush()
        assert 3 <= world.time - start < 4

    @pytest.mark.parametrize(
        ("part", "refused", "says"),
        [
            ("metadata", '"' + "x" * 2000 + '"', "Metadata"),  # with 413: the chunk is halved
            ("key", "x" * 600, "key length limit"),  # with 400: the pair is searched for
        ],
    )
    def test_refused_pairs_are_found_named_and_given_up_all_others_are_stored(
        self, make: Any, part: str, refused: str, says: str
    ) -> None:
        world = make(settle=0)
        world.kv.update({f"{number:04}": number for number in range(1000)})
        for key in ("0123", "0777"):  # what no check of ours let through
            broken = world.kv.buffer.pending[key].write
            object.__setattr__(broken, part, refused)
        before = requests(world)
        with pytest.raises(kvdict.FlushError) as caught:
            world.kv.flush()
        assert set(caught.value.failed) == {"0123", "0777"}
        assert says in caught.value.failed["0123"]
        assert caught.value.pending == 0
        assert requests(world) - before <= 64
        assert len(world.kv) == 998
        assert world.kv.flush().sent == 0

    def test_a_pair_that_the_refusal_names_is_not_searched_for(self) -> None:
        parcels = [
            Parcel(Change(key, None, number, number, 0.0, 60), ServiceClock(float))
            for number, key in enumerate(("a", "b", "c"))
        ]
        parts = narrow(parcels, "the key 'b' is refused")
        assert [[parcel.key for parcel in part] for part in parts] == [["a", "c"], ["b"]]
        parts = narrow(parcels, "a key is refused")
        assert [[parcel.key for parcel in part] for part in parts] == [["b", "c"], ["a"]]

    def test_what_only_a_person_can_mend_is_raised_once_by_the_next_write_which_is_not_taken(
        self, make: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = make()
        world.kv["k"] = 1
        world.kv.client.delete_namespace(world.kv.id)
        with caplog.at_level(logging.ERROR, "kvdict"):
            world.kv._unchecked_backing.flusher.rounds.make(everything=True)
        assert "1 write is still pending" in caplog.text
        with pytest.raises(kvdict.FlushError, match=r"not taken.*") as caught:
            world.kv["other"] = 2
        assert isinstance(caught.value.__cause__, kvdict.NotFoundError)
        assert world.kv.stats()["pending"] == 1
        world.kv["other"] = 2
        assert world.kv.stats()["pending"] == 2
        with pytest.raises(kvdict.FlushError, match="namespace not found"):
            world.kv.flush()

    def test_the_daily_quota_is_waited_for_until_midnight(self, make: Any) -> None:
        world = make(max_age=NEVER)

        def refuse(_seconds: float) -> None:
            raise Refusal(429, 10048, "free usage limit exceeded")

        world.kv["k"] = 1
        world.knobs.latency, world.knobs.sleep = 1.0, refuse
        flusher = world.kv._unchecked_backing.flusher
        flusher.rounds.make(everything=True)
        world.knobs.latency = 0.0
        midnight = math.ceil(world.time / 86_400) * 86_400
        assert flusher.outcomes.resume_at == midnight
        with pytest.raises(kvdict.FlushError, match="00:00 UTC"):  # whoever asks may do better
            world.kv["k"] = 2
        assert world.kv.flush().sent == 1

    def test_a_full_buffer_makes_the_writer_wait_and_then_says_so(self, make: Any) -> None:
        world = make(max_pending=5, put_timeout=0, max_age=NEVER)
        world.knobs.faults, world.knobs.kinds = 1.0, ("500",)
        for number in range(5):
            world.kv[str(number)] = number
        with pytest.raises(
            kvdict.BufferFullError, match="^5 writes are .* for 0 s; .*not accepted"
        ):
            world.kv["one too many"] = 1
        assert "one too many" not in world.kv.buffer
        world.knobs.faults = 0
        world.kv.flush(timeout=1000)
        world.kv["now"] = 1

    def test_stats_tell_what_waits_how_large_it_is_and_how_old(self, make: Any) -> None:
        world = make(max_age=NEVER)

        def told() -> tuple[float, ...]:
            stats = world.kv.stats()
            return stats["pending"], stats["pending_bytes"], round(stats["oldest_age"])

        assert told() == (0, 0, 0)
        world.kv["a"] = 1
        world.pass_time(5)
        world.kv["b"] = "xx"
        world.pass_time(2)
        expected = 2, 2 * OVERHEAD + len('a1b"xx"'), 7
        assert told() == expected
        world.kv.buffer.seal(everything=True)
        assert told() == expected

    def test_after_a_timeout_the_same_write_is_sent_again_at_once_and_another_one_waits(
        self, make: Any
    ) -> None:
        world = make(settle=0, key_interval=0, max_age=NEVER)

        def lose(method: str, url: str) -> None:
            if method == "PUT":
                world.adapter.before = None
                world.pass_time(60)
                raise ReadTimeout("no answer")

        start = world.time
        world.kv["k"] = 1
        world.adapter.before = lose
        assert world.kv.flush(timeout=90).sent == 1
        assert world.time - start < 70

        world.kv["j"] = 2
        world.adapter.before = lose
        with pytest.raises(kvdict.FlushError):
            world.kv.flush(timeout=60)
        lost_at = world.time
        world.kv["j"] = 3
        world.kv["other"] = 1
        world.pass_time(35)
        world.kv._unchecked_backing.flusher.rounds.make(everything=True)
        assert list(world.kv.buffer.pending) == ["j"]
        assert world.kv["j"] == 3
        assert world.kv.flush(timeout=1000).sent == 1
        assert world.time - lost_at >= 119

    def test_one_write_that_was_taken_before_a_bad_pair_is_said_to_be_one(self, make: Any) -> None:
        world = make(max_age=NEVER)
        with pytest.raises(kvdict.CodecError, match=r"\b1 write was accepted before"):
            world.kv.update([("good", 1), ("bad", {1})])
        assert world.kv["good"] == 1

    def test_a_write_that_is_sent_while_a_bulk_read_gathers_its_keys_is_read(
        self, make: Any
    ) -> None:
        world = make(max_age=NEVER, settle_bytes=0)
        world.kv["k"] = 1

        def keys() -> Iterator[str]:
            yield "missing"
            yield "k"
            world.kv.flush()  # there is no room to remember it
            yield "too"

        found = dict(world.kv._unchecked_backing.reads.read(keys(), eager=True))
        assert found["k"].value == b"1"
        assert found["missing"] is found["too"] is None

    def test_the_pair_at_hand_is_named_that_was_read_and_not_taken(self, make: Any) -> None:
        world = make(max_age=NEVER, max_pending=2, max_items=2, put_timeout=0)
        world.knobs.faults, world.knobs.kinds = 1.0, ("500",)
        pairs = iter([("a", 1), ("b", 2), ("c", 3), ("d", 4)])
        with pytest.raises(kvdict.BufferFullError, match="2 writes were accepted before") as caught:
            world.kv.update(pairs)
        assert caught.value.keys == ("c",)
        assert list(pairs) == [("d", 4)]
        assert {*world.kv.buffer.pending, *world.kv.buffer.sealed} == {"a", "b"}
        world.knobs.faults = 0
        world.pass_time(60)
        assert world.kv.flush().sent == 2

    def test_a_flush_that_is_late_says_what_was_in_its_way(self, make: Any) -> None:
        world = make(max_age=NEVER)
        world.knobs.faults, world.knobs.kinds = 1.0, ("500",)
        world.kv["k"] = 1
        with pytest.raises(
            kvdict.FlushError, match=r"within 30 s \(PUT .*: 500: .*\); flush again"
        ):
            world.kv.flush(timeout=30)
        world.knobs.faults = 0
        assert world.kv.flush(timeout=1000).sent == 1

    def test_buffer_and_cache_show_what_they_hold(self) -> None:
        buffer = kvdict.WriteBuffer(journal=None, max_age=NEVER)
        with kvdict.open("memory://", buffer=buffer, cache=True) as kv:
            kv["k"] = 1
            assert repr(kv.buffer) == (
                "<WriteBuffer max_age=1e+09, 1 pending, 0 being sent, 0 settling>"
            )
            assert repr(kv.cache) == "<ReadCache ttl=60, 0 of 10000 entries>"

    def test_what_was_mended_in_the_meantime_is_not_raised_by_a_flush_that_stored_all(
        self, make: Any
    ) -> None:
        world = make(max_age=NEVER)

        def refuse(method: str, url: str) -> None:
            world.adapter.before = None
            raise ValueError("a token that cannot be had")

        world.kv["k"] = 1
        world.adapter.before = refuse
        world.kv._unchecked_backing.flusher.rounds.make(everything=True)
        assert world.kv.stats()["pending"] == 1
        assert world.kv.flush().sent == 1

    def test_an_interrupted_flush_leaves_nothing_that_is_never_sent(self, make: Any) -> None:
        world = make(max_age=NEVER)

        def interrupt(keys: Any) -> Any:
            raise KeyboardInterrupt

        world.kv.update({str(number): number for number in range(20)})
        rounds = world.kv._unchecked_backing.flusher.rounds
        chunks, rounds._chunks = rounds._chunks, interrupt
        with pytest.raises(KeyboardInterrupt):
            world.kv.flush()
        rounds._chunks = chunks
        world.kv.buffer.seal(everything=True)  # as if the interrupt had come a moment later
        world.kv["0"] = "newer"
        world.kv.flush()
        world.kv.flush()
        assert world.kv.stats()["pending"] == 0
        assert world.kv.client.get_value(world.kv.id, "0").data == b'"newer"'

    def test_what_a_flush_had_no_time_for_is_pending_again(self) -> None:
        """Else the background would not know of it."""
        with buffered_worlds(parallel=False) as make:
            world = make(max_age=NEVER)
            world.put_elsewhere("gone", 1)
            world.kv["k"] = 1
            del world.kv["gone"]
            world.adapter.before = lambda method, url: world.pass_time(100)
            with pytest.raises(kvdict.FlushError, match="'gone'"):
                world.kv.flush(timeout=50)
            buffer = world.kv.buffer
            assert "gone" in buffer.pending
            assert "gone" not in buffer.sealed

    @pytest.mark.parametrize("started", [True, False])
    def test_an_interrupted_launch_sends_its_writes_once(
        self, make: Any, started: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world: World = make(max_age=NEVER, settle=0)
        sent: list[str] = []
        gate = threading.Event()

        def before(method: str, url: str) -> None:
            if method == "PUT":
                sent.append(url)
                gate.wait(10)

        def interrupted(thread: threading.Thread) -> None:
            monkeypatch.undo()
            if started:
                thread.start()
            raise KeyboardInterrupt

        world.adapter.before = before
        world.kv["k"] = 1
        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            world.kv.flush()
        gate.set()
        world.kv.flush()
        assert len(sent) == 1
        world.kv.refresh("k")
        assert world.kv["k"] == 1

    def test_setdefault_does_not_overwrite_what_another_thread_stored_and_flushed(
        self, make: Any
    ) -> None:
        world = make(settle=0)

        def write_too(method: str, url: str) -> None:
            if method == "GET":
                world.adapter.before = None
                before = threading.Thread(target=lambda: world.kv.put("k", "other"))
                before.start()
                before.join()
                world.kv.flush()

        looked = world.kv._unchecked_backing.reads.source.get
        world.adapter.before = None

        def look_then_be_overtaken(key: str) -> Any:
            answer = looked(key)
            write_too("GET", key)
            return answer

        world.kv._unchecked_backing.reads.source.get = look_then_be_overtaken
        assert world.kv.setdefault("k", "mine") == "other"


class TestCallbacks:
    def test_on_flush_and_on_error_are_told_and_may_write(self, make: Any) -> None:
        told: list[Any] = []

        def flushed(result: kvdict.FlushResult) -> None:
            told.append(result)
            world.kv["from"] = "callback"

        def failed(error: Exception) -> None:
            told.append(type(error).__name__)

        world: World = make(on_flush=flushed, on_error=failed)
        world.kv.update(a=1, b=2)
        world.knobs.planned.extend([Fault("500")] * 8)
        world.kv.flush(timeout=1000)
        assert "ServerError" in told
        assert kvdict.FlushResult(sent=2) in told
        assert world.kv["from"] == "callback"

    def test_one_that_writes_does_not_take_the_report_from_who_flushes(self, make: Any) -> None:
        world: World = make(on_error=lambda error: world.kv.put("log", str(error)))
        world.kv["bad"] = 1
        broken = world.kv.buffer.pending["bad"].write
        object.__setattr__(broken, "metadata", '"' + "x" * 2000 + '"')
        with pytest.raises(kvdict.FlushError) as caught:
            world.kv.flush()
        assert list(caught.value.failed) == ["bad"]
        assert "Metadata" in world.kv["log"]

    def test_one_that_waits_for_another_threads_flush_does_not_wait_for_ever(
        self, make: Any
    ) -> None:
        results: list[Any] = []

        def flushed(result: kvdict.FlushResult) -> None:
            if not results:
                results.append(result)
                world.kv["more"] = 1
                other = threading.Thread(target=lambda: results.append(world.kv.flush(timeout=30)))
                other.start()
                other.join(30)

        world: World = make(on_flush=flushed, max_age=NEVER)
        world.kv["k"] = 1
        world.kv.flush()
        assert results == [kvdict.FlushResult(sent=1)] * 2

    def test_an_answer_that_comes_after_the_flush_gave_up_is_told_by_itself(self) -> None:
        """Nobody else would: the background sleeps, and there may be no other flush."""
        given_up, told = threading.Event(), threading.Event()
        world = World(
            buffer={"max_age": NEVER, "on_error": lambda error: told.set()}, parallel=True
        )

        def before(method: str, url: str) -> None:
            world.pass_time(100)
            world.kv.buffer.notify()
            assert given_up.wait(30)

        world.kv["k"] = 1
        world.knobs.planned.append(Fault("500"))
        world.adapter.before = before
        with pytest.raises(kvdict.FlushError, match="'k'"):
            world.kv.flush(timeout=50)
        assert not told.is_set()
        given_up.set()
        assert told.wait(30)
        world.adapter.before = None
        assert world.kv.flush().sent == 1

    def test_one_that_flushes_is_told_of_that_after_it_has_returned(self, make: Any) -> None:
        told: list[str] = []

        def flushed(result: kvdict.FlushResult) -> None:
            told.append("begin")
            if len(told) == 1:
                world.kv["more"] = 1
                world.kv.flush()
            told.append("end")

        world: World = make(on_flush=flushed, max_age=NEVER)
        world.kv["k"] = 1
        world.kv.flush()
        assert told == ["begin", "end"] * 2

    def test_one_that_raises_is_logged_and_loses_nothing(
        self, make: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = make(on_flush=lambda result: 1 / 0)
        world.kv["k"] = 1
        assert world.kv.flush().sent == 1
        assert "a callback of the WriteBuffer raised; the flusher goes on" in caplog.text
        assert "ZeroDivisionError" in caplog.text


class TestOptions:
    @pytest.mark.parametrize(
        "option",
        [
            {"max_items": 0}, {"max_bytes": -1}, {"max_age": -0.1}, {"settle": -1},
            {"settle_bytes": -1}, {"max_pending": 0}, {"put_timeout": -1}, {"key_interval": -1},
            {"max_age": float("nan")}, {"max_items": "many"}, {"max_items": True},
            {"max_bytes": 0}, {"exit_timeout": -1}, {"max_items": 1e4}, {"max_pending": 10.0},
            {"on_flush": 3}, {"on_error": "x"}, {"write_through": "yes"}, {"write_through": None},
            {"write_through": 1}, {"journal": ""}, {"journal": 5}, {"journal": b"file"},
            {"journal": True}, {"journal": "nul\0l"},
            {"journal": "file", "journal_max_age": "old"},
        ],
    )  # fmt: skip
    def test_a_wrong_one_is_named(self, option: dict[str, Any]) -> None:
        with pytest.raises(kvdict.ConfigError, match=f"{list(option)[-1]} is .*, expected"):
            WriteBuffer(**option)

    def test_the_least_of_each_is_taken(self) -> None:
        least: dict[str, Any] = {
            "max_items": 1, "max_bytes": 1, "max_age": 0, "settle": 0, "settle_bytes": 0,
            "max_pending": 1, "put_timeout": 0, "key_interval": 0, "exit_timeout": 0,
        }  # fmt: skip
        buffer = WriteBuffer(**least)
        assert {name: getattr(buffer, name) for name in least} == least

    def test_those_that_are_not_named_are_what_the_documentation_says(self) -> None:
        told: dict[str, Any] = {
            "max_items": 10_000, "max_bytes": 10_000_000, "max_age": 1, "settle": None,
            "settle_bytes": 64_000_000, "max_pending": 100_000, "put_timeout": 10,
            "key_interval": None, "journal": None, "durability": "process",
            "journal_max_age": None, "write_through": False, "exit_timeout": 10,
            "on_flush": None, "on_error": None,
        }  # fmt: skip
        buffer = WriteBuffer()
        assert {name: getattr(buffer, name) for name in told} == told

    def test_what_is_never_pending_needs_no_journal(self) -> None:
        with pytest.raises(kvdict.ConfigError, match="needs no journal"):
            WriteBuffer(journal="k.journal", write_through=True)
        assert WriteBuffer(journal="k.journal").journal == "k.journal"

    def test_a_buffer_belongs_to_one_namespace(self) -> None:
        buffer = WriteBuffer()
        with kvdict.open("memory://", buffer=buffer) as kv:
            assert kv.buffer is buffer
            with pytest.raises(kvdict.ConfigError, match="another namespace"):
                kvdict.open("memory://", buffer=buffer)

    def test_write_behind_is_the_default_at_cloudflare_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("ACCOUNT_ID", "API_TOKEN"):
            monkeypatch.setenv(f"CLOUDFLARE_{name}", "a" * 32)
        kv = kvdict.open("b" * 32)
        assert not kv.buffer.write_through
        assert (kv.buffer.settle, kv.buffer.key_interval) == (60, 1)
        assert kvdict.open("b" * 32, buffer=False).buffer.write_through
        with kvdict.open("memory://") as local:
            assert local.buffer.write_through
            assert (local.buffer.settle, local.buffer.key_interval) == (0, 0)
        with kvdict.open("memory://", buffer=True) as buffered:
            assert not buffered.buffer.write_through


class TestByItself:
    """What the buffer says and hands out, with nobody behind it."""

    @pytest.fixture
    def now(self) -> list[float]:
        """Give the time that the buffers of a test go by."""
        return [1000.0]

    @pytest.fixture
    def alone(self, now: list[float]) -> Callable[..., WriteBuffer]:
        """Return how to make buffers that nobody flushes."""

        def make_buffer(*, local: bool = True, **options: Any) -> WriteBuffer:
            buffer = WriteBuffer(clock=lambda: now[0], **options)
            buffer.attach(local=local)
            return buffer

        return make_buffer

    def test_it_is_due_when_max_bytes_wait_and_what_was_replaced_counts_no_more(
        self, alone: Any
    ) -> None:
        buffer = alone(max_bytes=1000)
        for _ in range(3):
            buffer.add("k", Write("k", b"x" * 800))
        assert buffer.pending_bytes == 861
        buffer.add("gone", None)
        assert buffer.pending_bytes == 925
        one = buffer.add("j", Write("j", b"x" * 13))
        assert not buffer.is_due
        assert buffer.take_back(one, None)
        assert buffer.pending_bytes == 925
        buffer.add("j", Write("j", b"x" * 14))
        assert buffer.is_due
        assert buffer.due_in() == 0
        changes = buffer.seal(everything=False)
        assert (buffer.pending_bytes, buffer.is_due, buffer.due_in()) == (0, False, None)
        buffer.give_back(changes)
        assert buffer.is_due
        buffer.seal(everything=False)
        buffer.add("k", None)
        buffer.give_back(changes)
        assert buffer.pending_bytes == 61 + 64 + 75

    def test_it_is_due_when_max_items_wait(self, alone: Any) -> None:
        buffer = alone(max_items=2)
        buffer.add("a", None)
        assert not buffer.is_due
        buffer.add("b", None)
        assert buffer.is_due

    def test_it_is_due_when_its_oldest_write_is_of_age(self, alone: Any, now: list[float]) -> None:
        buffer = alone(max_age=5)
        assert buffer.due_in() is None
        buffer.add("a", None)
        now[0] += 3
        buffer.add("b", None)
        buffer.add("a", None)
        assert buffer.due_in() == 2
        now[0] += 10
        assert buffer.due_in() == 0

    def test_it_is_full_when_max_pending_wait_or_are_being_sent(self, alone: Any) -> None:
        buffer = alone(max_pending=2)
        buffer.add("a", None)
        (sealed,) = buffer.seal(everything=True)
        assert not buffer.is_full
        buffer.add("b", None)
        assert buffer.is_full
        buffer.accepted([sealed])
        assert not buffer.is_full

    def test_it_is_full_when_eight_times_max_bytes_wait(self, alone: Any) -> None:
        buffer = alone(max_bytes=100)
        buffer.add("k", Write("k", b"x" * 738))
        assert not buffer.is_full
        buffer.add("k", Write("k", b"x" * 739))
        assert buffer.is_full

    def test_what_fills_no_request_waits_for_more_if_others_do(self, alone: Any) -> None:
        buffer = alone(max_items=10)
        for number in range(25):
            buffer.add(f"{number:02}", None)
        assert [change.key for change in buffer.seal(everything=False)] == [
            f"{number:02}" for number in range(20)
        ]
        assert len(buffer.seal(everything=False)) == 5
        for number in range(30, 45):
            buffer.add(f"{number:02}", None)
        assert len(buffer.seal(everything=True)) == 15

    def test_a_key_is_not_handed_out_while_it_is_being_sent_nor_within_its_interval(
        self, alone: Any, now: list[float]
    ) -> None:
        buffer = alone(key_interval=2)
        buffer.add("k", None)
        (first,) = buffer.seal(everything=True)
        buffer.add("k", None)
        buffer.add("other", None)
        assert [change.key for change in buffer.seal(everything=True)] == ["other"]
        buffer.accepted([first])
        assert buffer.held_for() == 2
        now[0] += 1.5
        assert buffer.seal(everything=True) == []
        assert buffer.held_for() == 0.5
        now[0] += 0.5
        assert buffer.held_for() == 0
        assert [change.key for change in buffer.seal(everything=True)] == ["k"]
        assert buffer.held_for() == 0

    def test_an_acceptance_may_be_held_and_kept_longer_than_usual(
        self, alone: Any, now: list[float]
    ) -> None:
        buffer = alone(key_interval=1, settle=5)
        buffer.add("k", None)
        (first,) = buffer.seal(everything=True)
        buffer.accepted([first], lambda _: 10, hold_for=20)
        buffer.add("j", None)
        (second,) = buffer.seal(everything=True)
        buffer.accepted([second], lambda _: 1, hold_for=0.5)
        now[0] += 4.5
        assert buffer.get("k") is first
        assert buffer.get("j") is second
        now[0] += 0.5
        assert buffer.get("j") is None
        assert buffer.get("k") is first
        now[0] += 5
        assert buffer.get("k") is None
        buffer.add("k", None)
        buffer.add("j", None)
        assert [change.key for change in buffer.seal(everything=True)] == ["j"]
        assert buffer.held_for() == 10
        now[0] += 10
        assert [change.key for change in buffer.seal(everything=True)] == ["k"]

    def test_a_write_of_unknown_outcome_may_go_again_at_once_and_no_other(
        self, alone: Any, now: list[float]
    ) -> None:
        buffer = alone()
        buffer.add("k", Write("k", b"1"))
        lost = buffer.seal(everything=True)
        buffer.give_back(lost, unknown_for=120)
        assert buffer.seal(everything=True) == lost
        buffer.give_back(lost, unknown_for=120)
        newer = buffer.add("k", Write("k", b"2"))
        assert (newer.first, newer.since) == (lost[0].first, lost[0].since)
        assert buffer.seal(everything=True) == []
        assert buffer.held_for() == 120
        now[0] += 120
        assert buffer.seal(everything=True) == [newer]

    def test_the_newest_change_of_a_key_is_what_reads_see(self, alone: Any) -> None:
        buffer = alone(settle=100)
        for number in range(3):
            change = buffer.add("k", Write("k", b"%d" % number))
            assert buffer.get("k") is change
            assert buffer.seal(everything=True) == [change]
            assert buffer.get("k") is change
            assert "k" in buffer
            buffer.accepted([change])
            assert buffer.get("k") is change
            assert len(buffer) == 1
        assert "other" not in buffer

    def test_a_write_stands_for_all_that_it_replaced(self, alone: Any) -> None:
        buffer = alone()
        first = buffer.add("k", None)
        buffer.add("other", None)
        buffer.add("k", None)
        assert buffer.waiting_up_to(first.number) == ["k"]
        assert buffer.stands_for(first)
        changes = buffer.seal(everything=True)
        later = buffer.add("k", None)
        assert buffer.waiting_up_to(later.number) == ["k", "other"]
        assert buffer.stands_for(first)
        for change in changes:
            buffer.accepted([change])
        assert not buffer.stands_for(first)
        assert buffer.stands_for(later)
        assert buffer.waiting_up_to(first.number) == []

    def test_what_was_taken_can_be_taken_back_until_it_is_sent(self, alone: Any) -> None:
        buffer = alone()
        older = buffer.add("k", Write("k", b"older"))
        buffer.add("other", None)
        newer = buffer.add("k", Write("k", b"new"))
        assert buffer.take_back(newer, older)
        assert list(buffer.pending.values()) == [older, buffer.get("other")]
        assert buffer.pending_bytes == 66 + 65
        assert not buffer.take_back(newer, older)
        (sealed, _) = buffer.seal(everything=True)
        assert sealed is older
        assert not buffer.take_back(older, None)
        assert buffer.get("k") is older

    def test_what_is_sent_at_once_has_a_number_of_its_own_and_is_seen(self, alone: Any) -> None:
        buffer = alone(write_through=True)
        first = buffer.begin("a", Write("a", b"v"))
        second = buffer.begin("b", None)
        assert second.number == first.number + 1 == buffer.number
        assert (first.size, second.size) == (62, 61)
        assert buffer.get("a") is first
        assert list(buffer.names(None, None, "")) == ["a", "b"]
        buffer.drop(first)
        assert buffer.get("a") is None

    def test_a_write_is_taken_only_if_nothing_came_between(self, alone: Any) -> None:
        buffer = alone()
        first = buffer.replace("k", None, Write("k", b"1"))
        assert first is buffer.get("k")
        assert buffer.replace("k", None, Write("k", b"2")) is None
        second = buffer.replace("k", first, None)
        assert second is buffer.get("k")
        assert second.number == first.number + 1

    def test_a_closed_one_takes_no_more_writes_until_it_is_opened_again(self, alone: Any) -> None:
        buffer = alone()
        buffer.take_writes(False)
        with pytest.raises(kvdict.ClosedError, match="was not taken"):
            buffer.add("k", None)
        assert "k" not in buffer
        buffer.take_writes(True)
        buffer.add("k", None)

    def test_its_names_come_in_order_between_bounds_however_many(self, alone: Any) -> None:
        buffer = alone()
        names = [f"{number:04}" for number in range(1000)]
        for name in reversed(names):
            buffer.add(name, None)
        assert list(buffer.names(None, None, "")) == names
        assert list(buffer.names("0100", "0500", "")) == names[101:501]
        assert list(buffer.names(None, None, "03")) == names[300:400]

    def test_names_of_which_nothing_is_known_any_more_are_let_go_of(self, alone: Any) -> None:
        buffer = alone(settle=0)
        for number in range(501):
            buffer.add(f"{number:03}", None)
        buffer.accepted(buffer.seal(everything=True))
        buffer.add("still here", None)
        buffer.seal(everything=True)
        assert list(buffer.names(None, None, "")) == ["still here"]

    def test_it_shows_its_journal_by_its_path(self) -> None:
        buffer = WriteBuffer(journal=Path("k.journal"))
        assert repr(buffer) == (
            "<WriteBuffer max_age=1 journal='k.journal', 0 pending, 0 being sent, 0 settling>"
        )

    def test_what_settled_leaves_when_it_takes_too_many_bytes_the_oldest_first(
        self, alone: Any
    ) -> None:
        buffer = alone(settle=100, settle_bytes=1050)  # 400 each beside the change's own 125
        for key in "abc":
            buffer.add(key, Write(key, b"x" * 64))
            (change,) = buffer.seal(everything=True)
            buffer.accepted([change])
        assert [key for key in "abc" if key in buffer] == ["b", "c"]
        assert buffer.settled_early == 1
        buffer.forget("b")
        buffer.add("d", Write("d", b"x" * 64))
        buffer.accepted(buffer.seal(everything=True))
        assert [key for key in "abcd" if key in buffer] == ["c", "d"]
        assert buffer.settled_early == 1

    def test_one_byte_too_many_lets_one_leave(self, alone: Any) -> None:
        buffer = alone(settle=100, settle_bytes=1049)  # two take 1050
        for key in "ab":
            buffer.add(key, Write(key, b"x" * 64))
            buffer.accepted(buffer.seal(everything=True))
        assert [key for key in "ab" if key in buffer] == ["b"]

    def test_a_key_that_settles_again_takes_its_bytes_once(self, alone: Any) -> None:
        buffer = alone(settle=100, settle_bytes=1100)
        for key in "akkkk":
            buffer.add(key, None)
            buffer.accepted(buffer.seal(everything=True))
        assert "a" in buffer
        assert len(buffer) == 2
        assert buffer.settled_early == 0

    def test_nothing_settles_where_nothing_is_to(self, alone: Any) -> None:
        buffer = alone(settle=0)
        buffer.add("k", None)
        buffer.accepted(buffer.seal(everything=True))
        assert len(buffer) == 0
        assert buffer.settled_early == 0

    def test_one_that_is_kept_longer_does_not_keep_others_behind_it(
        self, alone: Any, now: list[float]
    ) -> None:
        buffer = alone(settle=5)
        for key, longer in (("a", 60), ("b", 0), ("c", 0)):
            buffer.add(key, None)
            buffer.accepted(buffer.seal(everything=True), lambda _, longer=longer: longer)
        now[0] += 5
        assert len(buffer) == 3
        buffer.seal(everything=True)
        buffer.seal(everything=True)
        assert len(buffer) == 1
        assert "a" in buffer

    def test_who_listens_is_told_for_as_long_as_anybody_holds_on_to_it(self, alone: Any) -> None:
        class Listening:
            def __init__(self) -> None:
                self.told: list[Any] = []

            def written(self, key: str) -> None:
                self.told.append(key)

            def accepted(self, change: Any) -> None:
                self.told.append(change)

        buffer = alone()
        gone, here = Listening(), Listening()
        buffer.listen(gone)
        buffer.listen(here)
        del gone
        gc.collect()
        change = buffer.add("k", None)
        buffer.accepted(buffer.seal(everything=True))
        assert here.told == ["k", change]
        begun = buffer.begin("j", None)
        buffer.drop(begun)
        assert here.told == ["k", change, "j", "j"]
        buffer.listen(Listening())
        gc.collect()
        buffer.listen(here)
        assert len(buffer.listeners) == 2, "of those that are gone none is kept"

    def test_an_answer_from_before_a_fork_takes_nothing_of_what_came_after(
        self, alone: Any
    ) -> None:
        buffer = alone()
        buffer.add("k", None)
        (before,) = buffer.seal(everything=True)
        buffer.start_again()
        buffer.add("k", None)
        (after,) = buffer.seal(everything=True)
        buffer.drop(before)
        assert buffer.get("k") is after

    def test_who_lists_goes_on_seeing_what_was_settled(self, alone: Any, now: list[float]) -> None:
        buffer = alone(settle=5)
        change = buffer.add("k", None)
        buffer.accepted(buffer.seal(everything=True))
        with buffer.reading():
            assert buffer.is_read
            with buffer.reading():
                pass
            now[0] += 5
            assert buffer.get("k", listing=True) is change
            assert buffer.get("k") is None
        assert not buffer.is_read
        assert buffer.get("k", listing=True) is None


class TestTheBackground:
    @pytest.mark.parametrize(
        ("left", "pause"), [(10, 60), (4, 150), (2, 300), (0, 300), (1200, 0), (None, 0)]
    )
    def test_it_spends_half_of_the_allowance_that_is_left(
        self, make: Any, left: int | None, pause: float
    ) -> None:
        """A round takes a request about; the other half is for what else the program asks."""
        world: World = make(settle=0, key_interval=0)
        flusher = world.kv._unchecked_backing.flusher
        world.kv["k"] = 1
        flusher.flush(10)
        if left is not None:
            told = {"Ratelimit": f'"default";r={left};t=300'}
            world.kv.client.transport.budget.release(told)
        world.kv["k"] = 2
        world.pass_time(world.kv.buffer.max_age)
        due_in = flusher._due_in()
        assert due_in is not None
        assert max(0, pause - world.kv.buffer.max_age - 30) <= due_in <= pause

    def test_a_full_buffer_does_not_wait_while_there_is_plenty_of_allowance(
        self, make: Any
    ) -> None:
        world: World = make(settle=0, key_interval=0, max_items=1)
        flusher = world.kv._unchecked_backing.flusher
        with world.kv.buffer.lock:  # the background does not come in between
            flusher.rounds.make()
            told = {"Ratelimit": '"default";r=1200;t=300'}
            world.kv.client.transport.budget.release(told)
            world.kv["k"] = 1
            assert flusher._due_in() == 0

    @pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
    def test_a_thread_that_does_not_start_is_started_by_the_next_write(
        self, monkeypatch: pytest.MonkeyPatch, error: BaseException
    ) -> None:
        sent = threading.Event()

        def fail(thread: threading.Thread) -> None:
            monkeypatch.undo()
            raise error

        buffer = WriteBuffer(max_age=0, on_flush=lambda _: sent.set())
        with kvdict.open("memory://", buffer=buffer) as kv:
            monkeypatch.setattr(threading.Thread, "start", fail)
            with suppress(KeyboardInterrupt):
                kv["k"] = 1
            assert list(buffer.pending) == ["k"]
            kv["j"] = 2
            assert sent.wait(30)
            assert kv.client.get_value(kv.id, "k").data == b"1"

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
    def test_a_callback_that_raises_anything_ends_not_the_thread(
        self, caplog: pytest.LogCaptureFixture, error: type[BaseException]
    ) -> None:
        told: queue.Queue[object] = queue.Queue()

        def leave(result: object) -> None:
            told.put(result)
            raise error

        with kvdict.open("memory://", buffer=WriteBuffer(max_age=0, on_flush=leave)) as kv:
            flusher = kv._unchecked_backing.flusher
            threads = set()
            for number in range(3):
                kv[f"k{number}"] = number
                threads.add(flusher._thread)
                assert told.get(timeout=30)
            assert len(threads) == 1
            kv.buffer.on_flush = None
        assert caplog.text.count("a callback of the WriteBuffer raised") == 3
        assert error.__name__ in caplog.text

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_whatever_ends_the_thread_the_next_write_starts_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def leave(*_: Any, **__: Any) -> None:
            monkeypatch.undo()
            raise MemoryError

        with kvdict.open("memory://", buffer=WriteBuffer(max_age=0)) as kv:
            flusher = kv._unchecked_backing.flusher
            monkeypatch.setattr(flusher.rounds, "make", leave)
            kv["k"] = 1
            wait_until(lambda: flusher._thread is None)
            assert list(kv.buffer.pending) == ["k"]
            kv["j"] = 2
            wait_until(lambda: not kv.buffer.waiting)

    def test_who_stops_it_waits_no_longer_than_he_will_for_a_request(self) -> None:
        reached, go_on = threading.Event(), threading.Event()

        def hold(_method: str, _url: str) -> None:
            reached.set()
            assert go_on.wait(30)

        world = World(buffer={"max_age": 0})
        world.adapter.before = hold
        world.kv["k"] = 1
        assert reached.wait(30)
        flusher = world.kv._unchecked_backing.flusher
        flusher.rest(patience=0)
        assert list(world.kv.buffer.sealed) == ["k"]
        world.adapter.before = None
        go_on.set()
        wait_until(lambda: not world.kv.buffer.waiting)
        world.kv.close()

    def test_one_that_exits_in_a_flush_of_ones_own_exits(self) -> None:
        with kvdict.open("memory://", buffer=WriteBuffer(max_age=NEVER)) as kv:
            kv.buffer.on_flush = lambda _: sys.exit(3)
            kv["k"] = 1
            with pytest.raises(SystemExit):
                kv.flush()
            kv.buffer.on_flush = None
            assert kv.stats()["pending"] == 0

    def test_a_write_is_sent_without_being_asked_for(self) -> None:
        done = threading.Event()
        buffer = WriteBuffer(max_age=0, on_flush=lambda _: done.set())
        with kvdict.open("memory://", buffer=buffer) as kv:
            kv["k"] = 1
            assert done.wait(30)
            assert kv.client.get_value(kv.id, "k").data == b"1"

    def test_enough_writes_are_sent_before_their_age(self) -> None:
        done = threading.Event()
        buffer = WriteBuffer(max_age=NEVER, max_items=10, on_flush=lambda _: done.set())
        with kvdict.open("memory://", buffer=buffer) as kv:
            kv.update({str(number): number for number in range(10)})
            assert done.wait(30)

    def test_a_full_buffer_is_sent_before_its_age(self) -> None:
        buffer = WriteBuffer(max_age=NEVER, max_pending=3, put_timeout=30)
        with kvdict.open("memory://", buffer=buffer) as kv:
            kv.update({str(number): number for number in range(10)})
            assert kv.stats()["pending"] <= 3

    def test_who_waits_for_room_sees_to_it_that_somebody_makes_some(self) -> None:
        buffer = WriteBuffer(max_age=NEVER, max_pending=3, put_timeout=30)
        with kvdict.open("memory://", buffer=buffer) as kv:
            for number in range(3):
                kv.buffer.add(str(number), Write(str(number), b"1"))
            kv["3"] = 1
            assert kv.client.get_value(kv.id, "0").data == b"1"

    def test_for_ever_is_a_time_that_can_be_waited(self) -> None:
        buffer = WriteBuffer(max_age=math.inf, max_items=2, max_pending=2, put_timeout=math.inf)
        with kvdict.open("memory://", buffer=buffer) as kv:
            kv["alone"] = 1
            while kv._unchecked_backing.flusher._waits_for != "time":
                pass
            assert kv.flush(timeout=math.inf).sent == 1
            kv.update({str(number): number for number in range(10)})
        assert kv.stats()["pending"] == 0

    def test_an_idle_flusher_hears_of_two_writes_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each may see the other's, and take it for the one that wakes the flusher."""
        monkeypatch.setattr("kvdict.flusher.IDLE", 3600)
        flushed: queue.Queue[object] = queue.Queue()
        with kvdict.open("memory://", buffer=WriteBuffer(max_age=0.01, on_flush=flushed.put)) as kv:
            kv["first"] = 1
            assert flushed.get(timeout=30)
            flusher = kv._unchecked_backing.flusher
            while flusher._waits_for != "a write":
                pass
            kv.buffer.add("one", Write("one", b"1"))
            kv.buffer.add("two", Write("two", b"2"))
            flusher.notice()
            flusher.notice()
            assert flushed.get(timeout=30)

    def test_leaving_a_with_block_flushes_also_when_an_exception_passes(self) -> None:
        with kvdict.open("memory://exit") as watcher:
            with (
                pytest.raises(ZeroDivisionError),
                kvdict.open("memory://exit", buffer=WriteBuffer(max_age=NEVER)) as kv,
            ):
                kv["k"] = 1
                raise ZeroDivisionError
            assert watcher["k"] == 1

    def test_what_could_not_be_sent_is_a_note_on_the_exception_that_passes(self, make: Any) -> None:
        world = make()
        with pytest.raises(ZeroDivisionError) as caught, world.kv as kv:
            kv["k"] = 1
            kv.client.delete_namespace(kv.id)
            raise ZeroDivisionError
        assert "'k'" in caught.value.__notes__[0]
        with pytest.raises(kvdict.FlushError), world.kv:
            pass

    def test_closing_a_view_flushes_and_leaves_the_parent_open(self, make: Any) -> None:
        world = make()
        with world.kv.prefixed("a:") as view:
            view["k"] = 1
        assert world.kv.stats()["pending"] == 0
        world.kv["b"] = 2

    def test_a_dropped_namespace_warns_and_its_writes_are_still_sent(self) -> None:
        done = threading.Event()
        with kvdict.open("memory://dropped-writes") as watcher:
            kv = kvdict.open(
                "memory://dropped-writes",
                buffer=WriteBuffer(max_age=0.05, on_flush=lambda _: done.set()),
            )
            kv["k"] = 1
            with pytest.warns(ResourceWarning, match="1 write"):
                del kv
                gc.collect()
            assert done.wait(30)
            assert watcher["k"] == 1

    def test_a_view_whose_parent_was_dropped_warns_when_it_is_dropped_too(
        self, recwarn: pytest.WarningsRecorder
    ) -> None:
        kv = kvdict.open("memory://a-view-stays", buffer=WriteBuffer(max_age=600))
        view = kv.prefixed("a:")
        view["k"] = 1
        del kv
        gc.collect()
        assert not any("a-view-stays" in str(warning.message) for warning in recwarn.list)
        with pytest.warns(ResourceWarning, match="1 write"):
            del view
            gc.collect()

    def test_what_is_acknowledged_while_another_thread_closes_is_stored(self) -> None:
        for _ in range(20):
            with kvdict.open("memory://closing") as watcher:
                kv = kvdict.open("memory://closing", buffer=WriteBuffer())
                acknowledged: list[str] = []

                def write(kv: Any = kv, acknowledged: list[str] = acknowledged) -> None:
                    number = 0
                    while True:
                        try:
                            kv[str(number)] = number
                        except kvdict.ClosedError:
                            return
                        acknowledged.append(str(number))
                        number += 1

                writer = threading.Thread(target=write)
                writer.start()
                while not acknowledged:
                    pass
                kv.close()
                writer.join()
                assert set(acknowledged) <= set(watcher)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"durability": "disk"}, "expected 'process' or 'power'"),
        ({"durability": "power"}, "name it: journal="),
        ({"journal_max_age": 60}, "name it: journal="),
        ({"journal": "file", "journal_max_age": 0}, "seconds above 0, or None"),
        ({"journal": "file", "write_through": True}, "never pending"),
    ],
)
def test_what_a_journal_cannot_do_or_nothing_else_can_is_refused(options: Any, says: str) -> None:
    with pytest.raises(kvdict.ConfigError, match=says):
        kvdict.WriteBuffer(**options)
