"""`sync` and `diff`: only what differs is sent, and it is all that differs."""

from __future__ import annotations

import math
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvdict
from kvdict import Entry, transfer
from kvdict.budget import RateBudget
from kvdict.codecs import BYTES
from kvdict.emulator import Emulator, Knobs, Store, serve
from kvdict.transfer import Difference
from kvdict.transfer.pace import waiting
from tests.conftest import Opener, account_of
from tests.transfer.support import LATER, Pairs, all_kinds, everything, memory, plain
from tests.world import World

SMALL = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.builds(
        Entry,
        st.sampled_from([b"", b"1", b"\xff"]),
        st.sampled_from([None, LATER]),
        st.sampled_from([None, 1, True, {"a": 1, "b": 2}]),
    ),
)


@given(left=SMALL, right=SMALL)
@settings(max_examples=60, deadline=None)
def test_a_difference_is_found_and_sync_removes_it(left: Pairs, right: Pairs) -> None:
    with memory(left) as one, memory(right) as two:
        found = {difference.key: difference for difference in transfer.diff(one, two)}
        assert list(found) == sorted(found)
        for key in left.keys() | right.keys():
            same = key in left and key in right and repr(left[key]) == repr(right[key])
            assert (key not in found) == same
            if key in found:
                sides = {(True, False): "left", (False, True): "right"}
                assert found[key].side == sides.get((key in left, key in right), "both")
        told: list[Difference] = []
        plan = kvdict.sync(one, two, delete=True, dry_run=True, on_difference=told.append)
        assert everything(two) == right
        assert sorted(told, key=lambda difference: difference.key) == list(found.values())
        report = kvdict.sync(one, two, delete=True)
        assert (report.puts, report.deletions) == (plan.puts, plan.deletions)
        assert (report.requests, report.bytes) == (plan.requests, plan.bytes)
        assert report.puts + report.deletions == len(found)
        assert list(transfer.diff(one, two)) == []
        assert repr(everything(two)) == repr(dict(sorted(left.items())))


def test_the_parts_that_differ_are_named() -> None:
    one = {"a": Entry(b"1"), "b": Entry(b"1", LATER, 1), "c": Entry(b"1", None, {"a": 1})}
    two = {"a": Entry(b"2"), "b": Entry(b"1", LATER + 1, True), "c": Entry(b"1", None, {"a": 1})}
    with memory(one) as kv, memory(two) as other:
        assert list(transfer.diff(kv, other)) == [
            Difference("a", "both", ("value",)),
            Difference("b", "both", ("metadata", "expiration")),
        ]


def test_a_comparison_goes_over_many_pages_and_keeps_to_a_prefix() -> None:
    pairs = plain(3500)
    with memory(pairs) as kv, memory(pairs) as other:
        del kv["key:0000500"]
        other["key:0003000"] = b"changed"
        other["z"] = b"new"
        assert [difference.key for difference in transfer.diff(kv, other)] == [
            "key:0000500", "key:0003000", "z",
        ]  # fmt: skip
        assert [found.key for found in transfer.diff(kv, other, prefix="z")] == ["z"]


@pytest.mark.parametrize(
    ("deleted", "found"),
    [
        ("left", [Difference("k", "right")]),
        ("right", [Difference("k", "left")]),
        ("left right", []),
    ],
)
def test_what_is_deleted_while_it_is_compared_is_not_there(
    deleted: str, found: list[Difference]
) -> None:
    worlds = {"left": World(codec=BYTES), "right": World(codec=BYTES)}

    def delete(_method: str, url: str) -> None:
        if url.endswith("/bulk/get"):
            for side in deleted.split():
                worlds[side].delete_elsewhere("k")

    for world in worlds.values():
        world.fill({"k": b"v"})
    worlds["left"].adapter.before = delete
    assert list(transfer.diff(worlds["left"].kv, worlds["right"].kv)) == found
    for world in worlds.values():
        world.kv.close()


def test_the_order_of_names_in_metadata_is_no_difference() -> None:
    pairs = {"a": Entry(b"", None, {"a": 1, "b": 2})}, {"a": Entry(b"", None, {"b": 2, "a": 1})}
    with memory(pairs[0]) as kv, memory(pairs[1]) as other:
        assert list(transfer.diff(kv, other)) == []


def test_any_mapping_and_pairs_are_a_source() -> None:
    with kvdict.open("memory://") as kv:
        source: dict[str, Any] = {"a": {"b": 1}, "c": [1]}
        assert kvdict.sync(source, kv).puts == 2
        assert kvdict.sync(source, kv).puts == 0
        assert kvdict.sync(iter(source.items()), kv).unchanged == 2
        assert kvdict.sync({"a": {"b": 2}}, kv).puts == 1
        assert kv == {"a": {"b": 2}, "c": [1]}
        report = kvdict.sync([("a", 5)], kv, delete=True)
        assert (report.puts, report.deletions) == (1, 1)
        assert kv == {"a": 5}


def test_an_entry_brings_its_own_options_and_a_plain_value_none() -> None:
    with kvdict.open("memory://") as kv:
        kv.put("plain", 1, metadata="old")
        kv.put("entry", 1, metadata="old")
        source = {"plain": 1, "entry": Entry(1, LATER, (1, 2)), "over": Entry(1, 1)}
        report = kvdict.sync(source, kv)
        assert (report.puts, report.expired) == (2, 1)
        assert kv.entries(["plain", "entry"]) == {
            "plain": Entry(1), "entry": Entry(1, LATER, [1, 2]),
        }  # fmt: skip
        assert kvdict.sync(source, kv).puts == 0


def test_a_default_time_to_live_is_no_difference_each_time() -> None:
    with kvdict.open("memory://", expiration_ttl=1000) as kv:
        assert kvdict.sync({"a": 1}, kv).puts == 1
        assert kv.entry("a").expiration
        assert kvdict.sync({"a": 1}, kv).puts == 0


def test_the_last_of_repeated_pairs_stays() -> None:
    with memory({"a": Entry(b"1")}) as kv:
        far_apart = [("a", b"2"), *((f"k{n}", b"") for n in range(2500)), ("a", b"1")]
        kvdict.sync(far_apart, kv)
        assert kv["a"] == b"1"
        kvdict.sync([("a", b"3"), ("a", b"4")], kv)
        assert kv["a"] == b"4"


def test_a_sync_keeps_to_its_view() -> None:
    with memory({"u:1": Entry(b""), "u:2": Entry(b""), "v": Entry(b"")}) as kv:
        assert kvdict.sync({"2": b""}, kv.prefixed("u:"), delete=True).deletions == 1
        assert list(kv) == ["u:2", "v"]


def test_a_value_that_cannot_be_stored_is_named_and_nothing_else_is_lost() -> None:
    with kvdict.open("memory://") as kv, pytest.raises(kvdict.CodecError, match="'bad'"):
        kvdict.sync({"good": 1, "bad": object()}, kv)


def test_a_sync_that_is_stopped_says_so() -> None:
    with memory(plain(5000)) as kv, memory() as other:
        asked = iter(range(4))
        report = kvdict.sync(kv, other, stop=lambda: next(asked, None) is None)
        assert not report.complete
        assert kvdict.sync(kv, other).complete
        assert list(transfer.diff(kv, other)) == []


def test_pending_writes_are_part_of_both_sides(open_kv: Opener) -> None:
    one, two = open_kv(codec="bytes"), open_kv(codec="bytes")
    one.put_many(all_kinds())
    two["a"] = b"pending, and to be overwritten"
    two["more"] = b""
    report = kvdict.sync(one, two, delete=True)
    assert report.deletions == 1
    assert two.entries(list(two)) == all_kinds()
    assert list(transfer.diff(one, two)) == []


@pytest.mark.parametrize(
    ("requests", "left", "seconds"),
    [(0, 1200, 0), (1140, 1200, 0), (1141, 1200, 200), (2280, 1200, 200), (2281, 1200, 500),
     (1, 60, 200), (1, 61, 0)],
)  # fmt: skip
def test_the_allowance_makes_so_many_requests_wait(
    requests: int, left: int, seconds: float
) -> None:
    budget = RateBudget(clock=lambda: 0.0)
    budget.acquire(0)
    policy = {
        "Ratelimit": f'"default";r={left};t=200',
        "Ratelimit-Policy": '"default";q=1200;w=300',
    }
    budget.release(policy)
    assert math.isclose(waiting(requests, budget), seconds)


def test_a_dry_run_says_how_long_the_allowance_makes_it() -> None:
    knobs = Knobs(rate_limit=(100, 300))
    with closing(Store(None)) as store, serve(Emulator(store, knobs=knobs)) as server:
        where = f"{account_of(server)}/links"
        with kvdict.open(where, codec="bytes", create=True) as kv:
            large = {f"k{n:03}": b"v" * 5_000_000 for n in range(3)}
            assert kvdict.sync(large, kv, dry_run=True).seconds == 0
            assert transfer.seconds_for(95, kv) > 200
    with memory() as kv:
        assert transfer.seconds_for(10**6, kv) == 0
