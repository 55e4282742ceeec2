"""The last that is within each limit is taken, the first beyond it is refused by name."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kvdict
from kvdict import limits, phrases
from tests.world import World

YEAR_9999 = 253_402_300_799


@pytest.fixture
def world() -> Iterator[World]:
    """Give a namespace in a world whose clock stands still."""
    world = World()
    yield world
    world.kv.close()


def refused(call: Callable[[], object], words: str) -> None:
    """Make a call that is refused before anything is sent, in these words."""
    with pytest.raises(kvdict.LimitError, match=words):
        call()


def said(call: Callable[[], object]) -> str:
    """Return all that is said of a call that is refused."""
    with pytest.raises(kvdict.LimitError) as told:
        call()
    return str(told.value)


def test_the_numbers_are_those_of_cloudflare() -> None:
    assert limits.MAX_KEY_BYTES == 512
    assert limits.MAX_VALUE_BYTES == 26_214_400
    assert limits.MAX_METADATA_BYTES == 1024
    assert limits.MIN_TTL == 60
    assert limits.MAX_TITLE_LENGTH == 512
    assert (limits.MAX_BULK_PAIRS, limits.MAX_BULK_BYTES) == (10_000, 100_000_000)
    assert (limits.MAX_BULK_GET_KEYS, limits.MAX_BULK_GET_BYTES) == (100, 25_000_000)
    assert (limits.MIN_LIST_KEYS, limits.MAX_LIST_KEYS) == (10, 1000)
    assert (limits.MAX_NAMESPACES, limits.MAX_NAMESPACES_PER_PAGE) == (1000, 1000)
    assert datetime.datetime.fromtimestamp(limits.MAX_EXPIRATION, datetime.UTC).isoformat() == (
        "9999-12-31T23:59:59+00:00"
    )


@pytest.mark.parametrize("ttl", [60, 60.0, datetime.timedelta(minutes=1), YEAR_9999])
def test_a_time_to_live_of_a_minute_or_of_centuries_is_taken(world: World, ttl: Any) -> None:
    world.kv.put("k", 1, expiration_ttl=ttl)
    seconds = ttl.total_seconds() if isinstance(ttl, datetime.timedelta) else ttl
    assert world.kv.entry("k").expiration == world.time + seconds


@pytest.mark.parametrize(
    ("ttl", "words"),
    [
        (59.999, "'k': expiration_ttl is 59.999 s, Cloudflare takes 60 s and more"),
        (59.9999999, "'k': expiration_ttl is 59.9999999 s, Cloudflare takes 60 s and more"),
        (datetime.timedelta(seconds=59), "'k': expiration_ttl is 59 s"),
        (0, "expiration_ttl is 0 s"),
        (YEAR_9999 + 1, "expiration_ttl is 253402300800 s, 253402300799 s is the longest"),
        (10**12, "expiration_ttl is 1e.12 s, 253402300799 s is the longest"),
        (float("nan"), "'k': nan is no number of seconds"),
        (10**400, "'k': inf is no number of seconds"),
    ],
)
def test_any_other_time_to_live_is_refused(world: World, ttl: Any, words: str) -> None:
    refused(lambda: world.kv.put("k", 1, expiration_ttl=ttl), words)
    assert world.emulator.requests[-1][0] == "POST"  # that made the namespace


def test_a_moment_a_minute_ahead_is_taken_up_to_the_last_of_the_year_9999(world: World) -> None:
    for moment in (world.time + 60, YEAR_9999):
        world.kv.put("k", 1, expiration=moment)
        assert world.kv.entry("k").expiration == moment


def test_any_other_moment_is_refused_with_its_distance(world: World) -> None:
    now = world.time
    for moment, words in (
        (now - 30, f"'k': the expiration {now - 30:.0f} lies 30 s in the past"),
        (3600, "in epoch seconds .a time to live is an expiration_ttl"),
        (now, f"'k': the expiration {now:.0f} is 0 s ahead of the service's clock"),
        (now + 59.5, "Cloudflare takes 60 s and more .epoch seconds, not milliseconds"),
        (YEAR_9999 + 1, f"{YEAR_9999 + 1} is {YEAR_9999 + 1 - now:.0f} s ahead"),
        (now * 1000, "the end of the year 9999 is the last .*not milliseconds"),
    ):
        refused(lambda: world.kv.put("k", 1, expiration=moment), words)  # noqa: B023 - called at once


@pytest.mark.parametrize("number", [True, "60", None, [60]])
def test_seconds_that_are_no_number_are_a_type_error(number: Any) -> None:
    with pytest.raises(TypeError, match=f"here: .*not {type(number).__name__}"):
        limits.check_ttl(number, "here")
    with pytest.raises(TypeError, match=f"here: .*not {type(number).__name__}"):
        limits.check_expiration(number, 0.0, "here")


def test_metadata_of_1024_bytes_is_taken_however_few_characters_they_are(world: World) -> None:
    for metadata in ("x" * 1022, "é" * 511, {"a": ["x" * 500, "y" * 511]}):
        world.kv.put("k", 1, metadata=metadata)
        assert world.kv.metadata("k") == metadata
    for metadata in ("x" * 1023, "é" * 511 + "x", {"a": ["x" * 500, "y" * 512]}):
        refused(
            lambda: world.kv.put("k", 1, metadata=metadata),  # noqa: B023 - called at once
            "'k': the metadata has 1025 bytes of JSON, the limit is 1024; put the rest into",
        )


LOOP: list[Any] = []
LOOP.append(LOOP)
DEEP: Any = None
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({1, 2}, "Object of type set is not JSON serializable"),
        (float("nan"), "Out of range float values are not JSON compliant"),
        (LOOP, "Circular reference detected"),
        ("\ud800", "'utf-8' codec can't encode"),
        (DEEP, "maximum recursion depth exceeded"),
        ([{"a": {1: 2, "1": 3}}], "JSON keys are str, this dict has 1"),
    ],
    ids=["set", "nan", "loop", "surrogate", "deep", "keys"],
)
def test_metadata_that_is_no_json_is_refused_with_the_reason(
    world: World, metadata: Any, words: str
) -> None:
    with pytest.raises(kvdict.LimitError) as told:
        world.kv.put("k", 1, metadata=metadata)
    assert str(told.value).startswith(f"key 'k': the metadata is not JSON: {words}")
    assert isinstance(told.value.__cause__, TypeError | ValueError | RecursionError)


@pytest.mark.parametrize("limit", [-1, 0, 9, 1001])
def test_a_page_of_too_few_or_too_many_keys_is_refused(world: World, limit: int) -> None:
    refused(lambda: world.kv.pages(limit=limit), f"limit is {limit}, a page has 10 to 1000 keys")


@pytest.mark.parametrize(
    "options", [{"limit": "x"}, {"limit": 10.5}, {"limit": True}, {"cursor": 5}]
)
def test_what_is_no_limit_or_cursor_is_a_type_error(world: World, options: Any) -> None:
    with pytest.raises(TypeError, match="a (limit|cursor) is"):
        world.kv.pages(**options)


def test_a_long_key_is_told_by_its_beginning_whatever_is_wrong(world: World) -> None:
    key = "k" * 100
    named = f"key {'k' * 80!r}... (100 characters): "
    for data, metadata in ((1, object()), (1, "x" * 2000), ("x" * 26_214_400, None)):
        assert said(lambda: world.kv.put(key, data, metadata=metadata)).startswith(named)  # noqa: B023 - called at once


def test_a_value_of_25_mib_is_taken_and_one_byte_more_is_refused(world: World) -> None:
    kv = world.kv.using("bytes")
    kv["k"] = bytes(26_214_400)
    assert len(kv["k"]) == 26_214_400
    assert said(lambda: kv.put("k", bytes(26_214_401))) == (
        "key 'k': the value has 26214401 bytes, the limit is 26214400 (25 MiB); split it over"
        " several keys"
    )


@pytest.mark.parametrize("key", ["", ".", ".."])
def test_a_key_that_no_url_can_name_is_refused(world: World, key: str) -> None:
    assert said(lambda: world.kv.put(key, 1)) == (
        f"key {key!r}: a key must not be empty, '.' or '..'"
    )


def test_a_key_that_is_no_text_is_a_type_error(world: World) -> None:
    number: Any = 5
    with pytest.raises(TypeError, match="^keys are str, not int: 5$"):
        world.kv[number] = 1


def test_a_moment_may_be_a_datetime_that_says_its_time_zone(world: World) -> None:
    east = datetime.timezone(datetime.timedelta(hours=9))
    moment = datetime.datetime.fromtimestamp(world.time + 90, east)
    world.kv.put("k", 1, expiration=moment)
    assert world.kv.entry("k").expiration == world.time + 90
    plain = moment.replace(tzinfo=None)
    assert said(lambda: world.kv.put("k", 1, expiration=plain)) == (
        f"key 'k': the expiration {plain} has no time zone; say which, for example"
        " datetime.now(timezone.utc) + timedelta(hours=1)"
    )


def test_a_key_of_512_bytes_is_taken_however_few_characters_they_are(world: World) -> None:
    for key in ("x" * 512, "é" * 256, "𝄞" * 128):
        world.kv[key] = 1
        assert world.kv[key] == 1
    for key, size in (("x" * 513, 513), ("é" * 256 + "x", 513), ("𝄞" * 129, 516)):
        refused(lambda: world.kv.put(key, 1), f"at most 512 bytes of UTF-8; this one has {size}")  # noqa: B023 - called at once


@pytest.mark.parametrize("prefix", ["", ".", "..", "x" * 511])
def test_a_prefix_is_taken_if_a_key_may_begin_with_it(world: World, prefix: str) -> None:
    view = world.kv.prefixed(prefix)
    view["k"] = 1
    assert list(world.kv) == [prefix + "k"]
    assert list(view) == ["k"]


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ("x" * 513, r"^prefix 'x{80}'\.\.\. \(513 characters\): a key has .* this one has 513$"),
        ("\ud800", r"^prefix '\\ud800': .*lone surrogate$"),
    ],
)
def test_any_other_prefix_is_refused(world: World, prefix: str, words: str) -> None:
    refused(lambda: world.kv.prefixed(prefix), words)
    refused(lambda: next(world.kv.scan(prefix)), words)


def test_a_prefix_that_is_no_text_is_a_type_error(world: World) -> None:
    number: Any = 5
    with pytest.raises(TypeError, match="a prefix is a str, not int: 5"):
        world.kv.prefixed(number)


def test_a_message_holds_the_beginning_of_a_long_key_and_the_whole_of_a_short_one() -> None:
    assert phrases.shorten("k" * 80) == repr("k" * 80)
    assert phrases.shorten("k" * 81) == f"{'k' * 80!r}... (81 characters)"
