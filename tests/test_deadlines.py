"""A deadline in the metadata beside the service's own time to live."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

import kvdict
from kvdict.deadlines import is_over, lasting

NOW = 1_800_000_000.0


@pytest.mark.parametrize("ttl", [60, 61, 3600.0])
def test_whole_seconds_from_a_minute_up_are_the_services_own(ttl: float) -> None:
    assert lasting(ttl, NOW) == {"expiration_ttl": ttl}


def test_no_time_to_live_is_for_ever() -> None:
    assert lasting(None, NOW) == {}


@pytest.mark.parametrize(("ttl", "kept"), [(0.25, 60), (1, 60), (59.9, 60), (60.5, 61)])
def test_anything_else_ends_at_its_deadline_and_is_kept_a_little_longer(
    ttl: float, kept: int
) -> None:
    options = lasting(ttl, NOW)
    assert options["expiration_ttl"] == kept
    assert not is_over(options["metadata"], NOW + ttl - 0.01)
    assert is_over(options["metadata"], NOW + ttl + 0.002)


@pytest.mark.parametrize("metadata", [None, {}, [], "until", {"until": "soon"}, {"until": None}])
def test_foreign_metadata_is_no_deadline(metadata: Any) -> None:
    assert not is_over(metadata, NOW)


def test_the_deadline_travels_with_the_entry() -> None:
    with kvdict.open("memory://") as kv:
        kv.put("k", 1, **lasting(1, NOW))
        assert is_over(kv.entry("k").metadata, NOW + 2)


def test_entries_carry_expiration_and_metadata_in_the_order_asked() -> None:
    with kvdict.open("memory://") as kv:
        users = kv.prefixed("user:")
        users.put("b", 2, metadata={"x": 1})
        users["a"] = 1
        found = users.entries(["b", "missing", "", "a", "b"])
        assert list(found.items()) == [("b", kvdict.Entry(2, None, {"x": 1})),
                                       ("a", kvdict.Entry(1))]  # fmt: skip


def test_a_moment_stays_the_one_that_was_given_however_slow_the_machine_is() -> None:
    readings = count(NOW, 0.3)
    with kvdict.open("memory://", buffer=kvdict.WriteBuffer(max_age=3600)) as kv:
        kv.client.transport.clock.wall = lambda: next(readings)
        kv.put("k", 1, expiration=NOW + 10_000)
        assert kv.stats()["pending"] == 1
        assert {kv.entry("k").expiration for _ in range(10)} == {NOW + 10_000}
